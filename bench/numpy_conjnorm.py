#!/usr/bin/env python3
"""ConjNorm in float64 NumPy on one thread: what conjnorm_bench.cc holds the score against.

Standard input: a line "fit_rows rows dim classes p t"; features [fit_rows, dim] (float32), labels
[fit_rows] (int64) and the features to score, [rows, dim] (float32); then a line for each run.
Standard output: a line that says what computes; the scores [rows] (float64); then, for each run,
a line with the seconds of processor time, of all threads together, that scoring all rows took.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for library in ("BLIS", "MKL", "OMP", "OPENBLAS"):  # which read this when they are loaded
    os.environ[f"{library}_NUM_THREADS"] = "1"

try:
    import numpy as np
except ImportError:
    sys.exit(f"{Path(__file__).name}: {sys.executable} has no NumPy")


def blas() -> str:
    """The files of the linear algebra library that this process has loaded."""
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    names = {Path(path).name for path in paths}
    return ", ".join(sorted(name for name in names if "blas" in name or "mkl" in name))


def read(dtype: type, *shape: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    return np.frombuffer(sys.stdin.buffer.read(size), dtype).reshape(shape)


def log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    largest = x.max(axis, keepdims=True)
    return np.log(np.exp(x - largest).sum(axis)) + largest.squeeze(axis)


def main() -> None:
    *shape, p, t = sys.stdin.buffer.readline().split()
    fit_rows, rows, dim, classes = map(int, shape)
    p, t = float(p), float(t)
    q = p / (p - 1)
    train = read(np.float32, fit_rows, dim).astype(np.float64)
    labels = read(np.int64, fit_rows)
    features = read(np.float32, rows, dim).astype(np.float64)  # not timed

    def unit(x: np.ndarray) -> np.ndarray:
        return x / (np.linalg.norm(x, p, axis=1, keepdims=True) + 1e-10)

    mu = unit(np.stack([train[labels == k].mean(axis=0) for k in range(classes)]))
    size = np.linalg.norm(mu, q, axis=1, keepdims=True)
    gradient = np.sign(mu) * np.abs(mu) ** (q - 1) / size ** (q - 2)

    def exponents(x: np.ndarray) -> np.ndarray:
        z = unit(x)
        half = np.linalg.norm(z, q, axis=1, keepdims=True) ** 2 / 2
        return (z @ gradient.T - half - size.T**2 / 2) / t

    offset = log_sum_exp(exponents(train), axis=0) + np.log(classes)

    def score() -> np.ndarray:
        return log_sum_exp(exponents(features) - offset, axis=1)

    def answer(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    answer(f"NumPy {np.__version__}, {blas()}\n".encode() + score().tobytes())
    while sys.stdin.buffer.readline():
        start = time.process_time()
        score()
        answer(f"{time.process_time() - start}\n".encode())


if __name__ == "__main__":
    main()
