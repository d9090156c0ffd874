"""Peak memory of the command does not grow with the number of rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from conftest import Run

DIM = 256


def write(path: Path, rows: int) -> Path:
    random = np.random.RandomState(0)
    with h5py.File(path, "w") as file:
        for name in ("train", "id_test", "ood/far"):
            count = rows if name == "train" else 1000
            group = file.create_group(name)
            chunks = (min(count, 1024), DIM)
            features = group.create_dataset("features", (count, DIM), "f4", chunks=chunks)
            for begin in range(0, count, 10_000):
                block = random.normal(size=(min(10_000, count - begin), DIM))
                features[begin : begin + len(block)] = block
            group["labels"] = np.arange(count) % 10
            if name == "ood/far":
                group.attrs["kind"] = "far"
    return path


# A child begins with the peak of the process that forked it: measure from a small one.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_bytes_of(*arguments: str | Path) -> int:
    command = [os.environ["OOD_COMMAND"], *map(str, arguments)]
    result = subprocess.run([sys.executable, "-c", MEASURE, *command], check=True,
                            capture_output=True, text=True)
    return int(result.stdout) * 1024


def peak_bytes(path: Path, detectors: str) -> int:
    return peak_bytes_of("eval", path, "-d", detectors)


def test_fit_streams(ood: Run, tmp_path: Path) -> None:
    few, many = 40_000, 320_000
    small = peak_bytes(write(tmp_path / "few.h5", few), "mahalanobis,conjnorm")
    large = peak_bytes(write(tmp_path / "many.h5", many), "mahalanobis,conjnorm")
    growth_of_data = (many - few) * DIM * 4
    print(f"peak memory {small / 2**20:.1f} and {large / 2**20:.1f} MiB")
    assert large - small < growth_of_data / 20


def test_score_streams(ood: Run, tmp_path: Path) -> None:
    few, many = 40_000, 400_000
    small, large = write(tmp_path / "few.h5", few), write(tmp_path / "many.h5", many)
    model = tmp_path / "model.ood"
    assert ood("fit", small, "-d", "mahalanobis", "--out", model).returncode == 0
    for name in ("scores.csv", "scores.npy", "scores.h5"):
        peaks = [peak_bytes_of("score", model, path, "-s", "train", "--out", tmp_path / name)
                 for path in (small, large)]
        print(f"{name}: peak memory {peaks[0] / 2**20:.1f} and {peaks[1] / 2**20:.1f} MiB")
        assert peaks[1] - peaks[0] < (many - few) * DIM * 4 / 40  # 9 MiB; the file has 410 MB
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == many + 1
