#!/usr/bin/env python3
"""The effective sample size of ConjNorm's importance-sampled partition by dimension: the table of
docs/conjnorm.md.

    effective_samples.py OOD FEATURES.h5

Keeps the first 2, 8, 32, ... features of the file in a random order, fits conjnorm on them by the
command OOD, and prints a Markdown table: the median over classes, in % of the samples.
Needs numpy and h5py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

SETTINGS = (1.2, 1.5, 1.8, 2.0, 2.2, 2.5, 3.0)  # p
PROPOSALS = ("gaussian", "student_t", "matched")
TEMPERATURE, SAMPLES = 0.08, 4096


def effective_share(command: str, path: Path, p: float, proposal: str) -> float:
    options = {"p": p, "temperature": TEMPERATURE, "partition": "importance", "proposal": proposal,
               "samples": SAMPLES}
    flags = [text for name, value in options.items() for text in ("-p", f"{name}={value}")]
    result = subprocess.run([command, "fit", str(path), "-d", "conjnorm", "-f", "json", *flags],
                            check=True, capture_output=True, text=True)
    sizes = json.loads(result.stdout)["fits"][0]["per_class"]["effective_samples"]
    return 100 * float(np.median(sizes)) / SAMPLES


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    command, source = sys.argv[1], Path(sys.argv[2])
    with h5py.File(source) as file:
        features, labels = file["train/features"][:], file["train/labels"][:]
    order = np.random.default_rng(0).permutation(features.shape[1])
    widths = [d for d in (2, 8, 32, 128, 512, 2048) if d < len(order)] + [len(order)]
    print(f"| p | proposal | {' | '.join(f'D = {d}' for d in widths)} |")
    print(f"|--:|:--|{'--:|' * len(widths)}")
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for width in widths:
            paths.append(Path(folder) / f"{width}.h5")
            with h5py.File(paths[-1], "w") as file:
                train = file.create_group("train")
                train["features"], train["labels"] = features[:, order[:width]], labels
        for p in SETTINGS:
            for proposal in PROPOSALS:
                shares = [effective_share(command, path, p, proposal) for path in paths]
                print(f"| {p:g} | {proposal} | {' | '.join(f'{s:.3g}' for s in shares)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
