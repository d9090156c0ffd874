"""Tests of examples/data/digits.h5 and of the script that makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="the digits are in an HDF5 file")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = EXAMPLES / "make_digits.py"
DIGITS = EXAMPLES / "data" / "digits.h5"

LABELLED = {"train": 793, "id_val": 216, "id_test": 434, "csid/noisy": 434}
OUTLIERS = {
    "ood_val/shuffled": (216, "far"),
    "ood/digit_8": (174, "near"),
    "ood/digit_9": (180, "near"),
    "ood/china_patches": (200, "far"),
    "ood/flower_patches": (200, "far"),
    "ood/inverted": (434, "far"),
}


@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(DIGITS, "r") as file:
        file.visititems(add)
    return found


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file made twice, by two runs."""
    for module in ("sklearn", "PIL", "torch"):
        pytest.importorskip(module, reason=f"examples/make_digits.py needs {module}")
    folder = tmp_path_factory.mktemp("digits")
    for name in ("a.h5", "b.h5"):
        subprocess.run(
            [sys.executable, SCRIPT, "--out", folder / name], check=True, capture_output=True
        )
    assert sorted(os.listdir(folder)) == ["a.h5", "b.h5"]  # no temporary file stays behind
    return folder / "a.h5", folder / "b.h5"


def test_script_makes_this_file(remade: tuple[Path, Path], digits: dict[str, np.ndarray]) -> None:
    with h5py.File(remade[0], "r") as file, h5py.File(DIGITS, "r") as committed:
        for name, array in digits.items():
            assert file[name].dtype == array.dtype, name
            # Sums differ in the last digits from one BLAS to another.
            np.testing.assert_allclose(file[name][()], array, rtol=0, atol=1e-3, err_msg=name)
        names: list[str] = []
        file.visit(names.append)
        assert set(digits) <= set(names)
        assert dict(file.attrs) == pytest.approx(dict(committed.attrs))


def test_two_runs_give_the_same_bytes(remade: tuple[Path, Path]) -> None:
    assert remade[0].read_bytes() == remade[1].read_bytes()


def test_file_is_small() -> None:
    assert DIGITS.stat().st_size <= 2_000_000


def test_layout(digits: dict[str, np.ndarray]) -> None:
    expected = {"head/weight": (8, 64), "head/bias": (8,)}
    for name, rows in {**LABELLED, **{n: rows for n, (rows, _) in OUTLIERS.items()}}.items():
        expected |= {f"{name}/features": (rows, 64), f"{name}/logits": (rows, 8)}
        if name in LABELLED:
            expected[f"{name}/labels"] = (rows,)
    assert {name: array.shape for name, array in digits.items()} == expected
    for name, array in digits.items():
        assert array.dtype == (np.int64 if name.endswith("labels") else np.float32), name


def test_attributes() -> None:
    with h5py.File(DIGITS, "r") as file:
        for name in ("model", "id_dataset", "source", "note", "feature_layer"):
            assert isinstance(file.attrs[name], str) and file.attrs[name], name
        assert "not a benchmark" in file.attrs["note"]
        assert file.attrs["num_classes"] == 8
        assert {name: file[name].attrs["kind"] for name in OUTLIERS} == {
            name: kind for name, (_, kind) in OUTLIERS.items()
        }


def test_head_reproduces_logits(digits: dict[str, np.ndarray]) -> None:
    for name in (*LABELLED, *OUTLIERS):
        logits = digits[f"{name}/features"] @ digits["head/weight"].T + digits["head/bias"]
        np.testing.assert_allclose(logits, digits[f"{name}/logits"], atol=1e-4, err_msg=name)


def test_features_are_those_of_a_relu(digits: dict[str, np.ndarray]) -> None:
    for name in (*LABELLED, *OUTLIERS):
        features = digits[f"{name}/features"]
        assert np.isfinite(features).all() and (features >= 0).all(), name
    assert (digits["train/features"].std(axis=0) > 1e-3).all()  # no constant column


def test_accuracy(digits: dict[str, np.ndarray]) -> None:
    accuracy = {
        name: np.mean(digits[f"{name}/logits"].argmax(axis=1) == digits[f"{name}/labels"])
        for name in LABELLED
    }
    with h5py.File(DIGITS, "r") as file:
        assert accuracy["id_test"] == pytest.approx(file.attrs["id_test_accuracy"])
    assert min(accuracy.values()) > 0.95, accuracy
    # The network knows the images it was trained on best.
    assert accuracy["train"] > accuracy["id_test"], accuracy
    for name in LABELLED:
        assert set(digits[f"{name}/labels"]) == set(range(8)), name


def test_splits_share_no_image(digits: dict[str, np.ndarray]) -> None:
    """Equal images have equal features, up to rounding; different ones here are far apart."""
    names = ("train", "id_val", "id_test", "ood/digit_8", "ood/digit_9")
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            a, b = (digits[f"{name}/features"].astype(np.float64) for name in (one, other))
            squared = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
            assert squared.min() > 1e-3, (one, other)
