"""What the tests of the command share."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest

SOURCE = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def ood() -> Run:
    """Runs the command named by OOD_COMMAND; `env` is added to the environment."""
    command = os.environ.get("OOD_COMMAND")
    if not command:
        pytest.skip("OOD_COMMAND does not name the ood executable")

    def run(*arguments: str | Path, env: dict[str, str] | None = None):
        return subprocess.run(
            [command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **(env or {})},
        )

    return run


@pytest.fixture(scope="session")
def evaluate(ood: Run) -> Callable[..., Any]:
    """Runs `ood eval ... --format json` and reads what it prints."""

    def run(*arguments: str | Path) -> Any:
        result = ood("eval", *arguments, "--format", "json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture(scope="session")
def score_rows() -> Callable[..., np.ndarray]:
    """Runs the tool named by OOD_SCORE_ROWS: the scores of the splits, one after the other."""
    tool = os.environ.get("OOD_SCORE_ROWS")
    if not tool:
        pytest.skip("OOD_SCORE_ROWS does not name the ood_score_rows executable")

    def run(path: Path, splits: list[str], detector: str, /, **options: object) -> np.ndarray:
        texts = [f"{name}={value}" for name, value in options.items()]
        result = subprocess.run([tool, path, ",".join(splits), detector, *texts],
                                capture_output=True, timeout=300)
        assert result.returncode == 0, result.stderr.decode()
        return np.frombuffer(result.stdout, "<f4")

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Feature files of real CIFAR networks, which are not part of the project."""
    folder = Path(os.environ.get("OOD_SHARED_DATA", SOURCE.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the shared feature files of CIFAR networks are not there")
    return folder


def write_split(group: h5py.Group, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        group.create_dataset(name, data=array)


def write_small(path: Path, change: Callable[[h5py.File], None] = lambda file: None) -> Path:
    """A good feature file of 80 + 30 + 2 x 25 rows, D = 6, C = 3; `change` may spoil it."""
    random = np.random.RandomState(0)
    centers = 4 * random.normal(size=(3, 6))
    weight = centers.astype(np.float32)
    bias = -0.5 * (weight**2).sum(axis=1)  # the nearest center: each class is predicted
    with h5py.File(path, "w") as file:
        file.attrs["model"], file.attrs["id_dataset"] = "net", "clusters"
        write_split(file.create_group("head"), weight=weight, bias=bias)
        for name, rows, shift in (("train", 80, 0), ("id_test", 30, 0), ("ood/near", 25, 1),
                                  ("ood/far", 25, 9)):
            labels = np.arange(rows) % 3
            features = random.normal(size=(rows, 6)) + centers[labels] * (shift == 0) + shift
            features = features.astype(np.float32)
            if name == "train":
                labels[:2] = 1, 0  # wrong: no temperature calibrates rows that are all right
            group = file.create_group(name)
            write_split(group, features=features, logits=features @ weight.T + bias)
            if name.startswith("ood/"):
                group.attrs["kind"] = name.removeprefix("ood/")
            else:
                write_split(group, labels=labels)
        change(file)
    return path
