#!/usr/bin/env python3
"""Runs a fuzzer on its corpus, then on what it makes of it for some time; says what was run and found.

    run_fuzzer.py <fuzzer> <corpus> [--seconds 60] [--keep <folder>]

New inputs go to a scratch folder; --keep merges those that reach more into another one. An input that crashes is
left in the current folder under libFuzzer's name (crash-..., timeout-..., oom-...).
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

LIMITS = ["-rss_limit_mb=1024", "-malloc_limit_mb=256", "-timeout=10", "-max_len=16384", "-print_final_stats=1"]


def run(command):
    """Its exit status and what it said."""
    process = subprocess.run(command, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if process.returncode != 0:
        print(process.stdout[-20000:])
    return process.returncode, process.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fuzzer")
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=pathlib.Path)
    arguments = parser.parse_args()
    name = arguments.corpus.name

    files = sorted(str(path) for path in arguments.corpus.iterdir())
    if not files:
        sys.exit(f"{name}: {arguments.corpus} has no files, expected a corpus")
    status, text = run([arguments.fuzzer, *LIMITS, *files])
    executed = text.count("Executed ")
    print(f"{name}: {executed} of {len(files)} files of the corpus executed")
    if status != 0 or executed != len(files):
        sys.exit(1)

    with tempfile.TemporaryDirectory() as scratch:
        status, text = run([arguments.fuzzer, *LIMITS, f"-max_total_time={arguments.seconds}", scratch,
                            str(arguments.corpus)])
        executions = re.search(r"stat::number_of_executed_units: *(\d+)", text)
        coverage = re.findall(r"cov: (\d+)", text)
        kinds = re.findall(r"^fuzzer: .*", text, re.MULTILINE)
        findings = len(re.findall(r"^Test unit written to ", text, re.MULTILINE))
        print(f"{name}: {executions.group(1) if executions else 'no'} executions in {arguments.seconds} s, "
              f"{coverage[-1] if coverage else 0} edges, {findings} findings")
        for line in kinds:
            print(line)
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            run([arguments.fuzzer, *LIMITS, "-merge=1", str(arguments.keep), scratch])
    # without a count the fuzzer did not run
    sys.exit(1 if status != 0 or findings or not executions or int(executions.group(1)) <= len(files) else 0)


if __name__ == "__main__":
    main()
