"""examples/serve: what it prints of a model that serves, and how it fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import h5py
import pytest

from conftest import SOURCE, Run

DIGITS = SOURCE / "examples/data/digits.h5"


@pytest.fixture(scope="module")
def serve() -> Run:
    command = os.environ.get("OOD_SERVE")
    if not command:
        pytest.skip("OOD_SERVE does not name the example")

    def run(*arguments: str | Path):
        return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True,
                              timeout=300)

    return run


@pytest.fixture(scope="module")
def model(ood: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "mahalanobis.ood"
    result = ood("fit", DIGITS, "--detector", "mahalanobis", "--out", path)
    assert result.returncode == 0, result.stderr
    return path


def latencies(text: str, line: str) -> list[float]:
    return [float(word) for word in next(
        own for own in text.splitlines() if own.startswith(line)).removeprefix(line).split()]


@pytest.mark.parametrize("arguments, batch", [
    ([], 1),
    (["--threads", "2", "--batch", "7", "--decide"], 7),
    (["--threads", "2", "--rows", DIGITS, "--split", "ood/letters", "--decide"], 1),
])
def test_prints_percentiles(serve: Run, model: Path, arguments: list[str], batch: int) -> None:
    if "--rows" in arguments:
        with h5py.File(DIGITS) as file:
            arguments = [*arguments]
            arguments[arguments.index("--split") + 1] = f"ood/{next(iter(file['ood']))}"
    result = serve(model, "--seconds", "0.2", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"mahalanobis of {model}; ")
    assert lines[1].split() == ["microseconds", "p50", "p90", "p99", "p99.9", "max"]
    of_batch = latencies(result.stdout, "for a batch")
    of_row = latencies(result.stdout, "for each row")
    assert len(of_batch) == 5 and of_batch == sorted(of_batch) and of_batch[0] > 0
    assert of_row == pytest.approx([value / batch for value in of_batch], abs=0.006)
    assert latencies(result.stdout, "rows per second:")[0] > 0
    assert ("rejected at alpha = 0.05: " in result.stdout) == ("--decide" in arguments)


def test_decisions_are_those_of_the_rows(serve: Run, model: Path) -> None:
    """Rows of another distribution are rejected more often than those of the training set."""
    with h5py.File(DIGITS) as file:
        other = f"ood/{next(iter(file['ood']))}"

    def rejected(split: str) -> float:
        text = serve(model, "--seconds", "0.3", "--decide", "--rows", DIGITS, "--split", split).stdout
        return float(text.split("rejected at alpha = 0.05: ")[1].split()[0])

    assert rejected("id_test") < 15 < rejected(other)


@pytest.mark.parametrize("arguments, message", [
    (["nowhere.ood"], "nowhere.ood"),
    ([DIGITS], "digits.h5"),  # HDF5, but no model
    ([SOURCE / "README.md"], "README.md"),
    ([], "model is required"),
    (["MODEL", "--batch", "0"], "--batch"),
    (["MODEL", "--rows", "nowhere.h5"], "nowhere.h5"),
    (["MODEL", "--rows", DIGITS, "--split", "nonsense"], "nonsense"),
    (["MODEL", "--nonsense"], "--nonsense"),
])
def test_bad_input_is_one_line_and_2(serve: Run, model: Path, arguments: list[str],
                                     message: str) -> None:
    result = serve(*[model if argument == "MODEL" else argument for argument in arguments])
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("serve: ") and result.stderr.count("\n") == 1
    assert message in result.stderr


def test_help_is_no_error(serve: Run) -> None:
    result = serve("--help")
    assert result.returncode == 0
    assert "--threads" in result.stdout and result.stderr == ""
