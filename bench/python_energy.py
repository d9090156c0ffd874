#!/usr/bin/env python3
"""ood.Energy().score from Python: what python_bench.cc holds the C++ call against.

Standard input: a line "rows classes"; the logits [rows, classes] (float32); then a line for each run.
Standard output: a line that says which package computes; the scores [rows] (float32); then, for each
run, a line with the seconds of processor time, of all threads together, that scoring took.
"""

from __future__ import annotations

import sys
import time

try:
    import numpy as np

    import ood
except ImportError as error:
    sys.exit(f"python_energy.py: {sys.executable}: {error}")


def main() -> None:
    rows, classes = map(int, sys.stdin.buffer.readline().split())
    logits = np.frombuffer(sys.stdin.buffer.read(4 * rows * classes), np.float32).reshape(rows, classes)
    detector = ood.Energy()
    sys.stdout.buffer.write(f"ood {ood.__version__}, Python {sys.version.split()[0]}\n".encode())
    sys.stdout.buffer.write(detector.score(logits=logits, threads=1).tobytes())
    sys.stdout.flush()
    while sys.stdin.buffer.readline():
        start = time.process_time()
        detector.score(logits=logits, threads=1)
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
