#!/usr/bin/env python3
"""libood beside what people run instead: the same work, the same data and threads, taking turns.

Writes what it found as JSON; scripts/bench-compare makes docs/benchmarks.md of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import turns

PACKAGES = ("libood", "numpy", "scipy", "scikit-learn", "faiss-cpu", "torch", "torchmetrics")


def versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, help="turns of each; else what the work says")
    parser.add_argument("--smaller", type=int, default=1, metavar="N",
                        help="a fraction of the sizes: whether all runs and agrees, not how fast it is")
    arguments = parser.parse_args()

    turns.set_environment(arguments.threads)
    found, failed = [], 0
    for name in turns.all_works():
        if arguments.only not in name:
            continue
        print(name, flush=True)
        try:
            comparisons = turns.compare(name, arguments.smaller, arguments.rounds)
        except RuntimeError as error:
            print(f"  failed: {error}", file=sys.stderr)
            failed += 1
            continue
        for one in comparisons:
            print(f"  {one.peer}: " + (one.missing or f"{one.ratio:.4g} times ({1e3 * one.ours:.4g} ms, "
                                       f"{1e3 * one.theirs:.4g} ms)"), flush=True)
        found += map(asdict, comparisons)
    arguments.out.write_text(json.dumps({
        "threads": arguments.threads, "packages": versions(),
        "comparisons": found}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
