"""`ood synth`: what it writes, and what it refuses."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import Run

PRESET = ("synth", "--preset", "cifar100-densenet")


@pytest.fixture(scope="module")
def written(ood: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synth") / "x.h5"
    result = ood(*PRESET, "--rows", 3000, "--test-rows", 2000, "--out", path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    return path


def test_layout_and_marker(ood: Run, written: Path) -> None:
    with h5py.File(written) as file:
        assert file["train/features"].shape == (3000, 342)
        assert file["head/weight"].shape == (100, 342)
        for split in ("id_val", "id_test", "ood_val/unseen", "ood/unseen", "ood/spectrum", "ood/noise"):
            assert file[split]["features"].shape == (2000, 342)
            assert "logits" not in file[split]
        assert {name: file["ood"][name].attrs["kind"] for name in file["ood"]} == {
            "unseen": "near", "spectrum": "far", "noise": "far"}
        assert "made up" in file.attrs["source"]
    assert "synthetic cifar100-densenet" in ood("inspect", written).stdout
    report = ood("eval", written, "-d", "energy", "--format", "markdown")
    assert "synthetic" in report.stdout, report.stderr


def test_statistics(written: Path) -> None:
    with h5py.File(written) as file:
        z, labels = file["train/features"][:], file["train/labels"][:]
        test, test_labels = file["id_test/features"][:], file["id_test/labels"][:]
        weight, bias = file["head/weight"][:], file["head/bias"][:]
    assert (labels == np.arange(3000) % 100).all()
    assert z.min() >= 0 and 0.02 < (z == 0).mean() < 0.06
    assert abs(z.mean() - 0.14) < 0.01
    means = np.sort(z.mean(axis=0))
    assert means[-5] > 100 * means[5]  # three decades
    accuracy = ((test @ weight.T + bias).argmax(axis=1) == test_labels).mean()
    assert 0.68 < accuracy < 0.82


def test_evaluation_is_plausible(evaluate, written: Path) -> None:
    rows = evaluate(written, "-d", "msp,energy")["rows"]
    auroc = {(row["detector"], row["dataset"]): row["auroc"] for row in rows}
    for detector in ("msp", "energy"):
        assert 0.65 < auroc[detector, "unseen"] < 0.9
        assert 0.75 < auroc[detector, "noise"] < 0.99


def test_same_rows_for_any_number_threads_and_storage(ood: Run, written: Path, tmp_path: Path) -> None:
    short, packed = tmp_path / "short.h5", tmp_path / "packed.h5"
    assert ood(*PRESET, "--rows", 150, "--test-rows", 7, "--threads", 3, "--out", short).returncode == 0
    assert ood(*PRESET, "--rows", 150, "--test-rows", 7, "--compress", "--logits", "--out", packed).returncode == 0
    with h5py.File(written) as many, h5py.File(short) as few, h5py.File(packed) as other:
        for split, rows in (("train", 150), ("ood/noise", 7)):
            assert (few[split]["features"][:] == many[split]["features"][:rows]).all()
            assert (other[split]["features"][:] == many[split]["features"][:rows]).all()
        assert other["train/features"].compression == "gzip"
        logits = other["train/features"][:].astype("f8") @ other["head/weight"][:].T + other["head/bias"][:]
        np.testing.assert_allclose(other["train/logits"][:], logits, atol=1e-4)
    seeded = tmp_path / "seeded.h5"
    assert ood(*PRESET, "--rows", 100, "--test-rows", 1, "--seed", 1, "--out", seeded).returncode == 0
    with h5py.File(written) as many, h5py.File(seeded) as other:
        assert (other["train/features"][:] != many["train/features"][:100]).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--preset", "vgg", "--rows", 1000, "--out", "x.h5"),
         "preset has vgg, expected one of imagenet-resnet50, cifar100-densenet"),
        ((*PRESET[1:], "--rows", 99, "--out", "x.h5"), "rows has 99, expected at least 100"),
        ((*PRESET[1:], "--rows", 100, "--test-rows", 0, "--out", "x.h5"), "test_rows has 0, expected 1 or more"),
        ((*PRESET[1:], "--rows", 100), "--out is required"),
        ((*PRESET[1:], "--rows", 100, "--seed", -1, "--out", "x.h5"), "--seed: Value -1 not in range 0 to"),
        ((*PRESET[1:], "--rows", 100, "--out", "nowhere/x.h5"), "nowhere/x.h5: cannot be written"),
    ])
def test_errors(ood: Run, tmp_path: Path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    result = ood("synth", *arguments)
    assert result.returncode == 2
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_devices_stay(ood: Run) -> None:
    result = ood(*PRESET, "--rows", 100, "--out", "/dev/full")
    assert result.returncode == 2 and "cannot be" in result.stderr
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
