"""`ood fit --out`: what is written, what is said, what is refused."""

import json
import os
import stat
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

OOD = os.environ["OOD_COMMAND"]
DIGITS = Path(__file__).resolve().parents[2] / "examples/data/digits.h5"


def fit(*arguments, status=0):
    result = subprocess.run([OOD, "fit", *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    return result


def refused(*arguments):
    result = fit(*arguments, status=2)
    assert result.stdout == "" and result.stderr.startswith("ood: ") and result.stderr.count("\n") == 1
    return result.stderr


def scores_of(model, split):
    text = subprocess.run([OOD, "score", model, DIGITS, "--split", split], capture_output=True, text=True,
                          check=True).stdout
    return np.array([float(line.split(",")[1]) for line in text.splitlines()[1:]])


def without_id_val(path):
    with h5py.File(DIGITS) as old, h5py.File(path, "w") as new:
        for name in old:
            if name != "id_val":
                old.copy(name, new)
    return path


def test_what_is_written_and_said(tmp_path):
    model = tmp_path / "model.ood"
    result = fit(DIGITS, "--detector", "conjnorm", "-p", "p=2.5", "--out", model)
    assert result.stderr == ""
    scores = scores_of(model, "id_val")
    n = len(scores)
    threshold = np.sort(scores)[int(np.floor(0.05 * (n + 1))) - 1]  # rejects below the k-th smallest score
    lines = result.stdout.splitlines()
    assert lines[-4:-1] == [f"Model: {model}", "fitted on 793 rows of /train", f"calibrated on {n} rows of /id_val"]
    assert float(lines[-1].split("below ")[1].split()[0]) == pytest.approx(threshold, rel=1e-6)
    with h5py.File(model) as file:  # docs/model-file.md
        assert file["model/detector"][()] == b"conjnorm" and file["model/alpha"][()] == 0.05
        assert file["options/p"][()] == 2.5 and file["options/partition"][()] == b"pooled"
        assert file["fitted_on/rows"][()] == 793 and file["fitted_on/split"][()] == b"train"
        assert file["fitted_on/classes"][()] == 8 and file["fitted_on/dim"][()] == 64
        known = subprocess.run(["xxh128sum", DIGITS], capture_output=True, text=True, check=True).stdout.split()[0]
        assert file["fitted_on/fingerprint"][()].decode() == known
        assert file["calibrated_on/split"][()] == b"id_val" and file["calibration/rows"][()] == n
        np.testing.assert_allclose(file["calibration/scores"][()], np.sort(scores), rtol=1e-6)
        np.testing.assert_allclose(file["calibration/thresholds"][()], [threshold], rtol=1e-6)
    header = model.read_bytes()[:512].decode().split("\n")
    assert header[:3] == ["libood model", "format 1", f"bytes {model.stat().st_size}"]
    body = tmp_path / "body"
    body.write_bytes(model.read_bytes()[512:])
    known = subprocess.run(["xxh128sum", body], capture_output=True, text=True, check=True).stdout.split()[0]
    assert header[3] == f"xxh3 {known}"


def test_json_has_the_model(tmp_path):
    model = tmp_path / "model.ood"
    text = fit(DIGITS, "-d", "energy", "--out", model, "-f", "json", "--alpha", "0.2").stdout
    found = json.loads(text)["model_file"]
    assert found["path"] == str(model) and found["alpha"] == 0.2 and not found["by_class"]
    accepted = (scores_of(model, "id_val") >= found["threshold"] - 1e-6).mean()
    assert 0.79 < accepted < 0.82
    assert found["fitted_on"]["split"] == "" and found["calibrated_on"]["split"] == "id_val"
    found = json.loads(fit(DIGITS, "-d", "energy", "--out", model, "-f", "json", "--by-class").stdout)["model_file"]
    assert found["by_class"] and found["threshold"] is None


def test_without_id_val_rows_are_held_out(tmp_path):
    features, model = without_id_val(tmp_path / "features.h5"), tmp_path / "model.ood"
    result = fit(features, "-d", "knn", "--out", model)
    assert "fitted on 713 rows of /train, a part of it\ncalibrated on 80 rows of /train, a part of it" in result.stdout
    assert result.stderr.startswith("warning: knn: calibrated on rows of /train, on which the network was trained")
    with h5py.File(model) as file:
        assert file["state/bank"].shape[0] == 713
        first = file["calibration/scores"][()]
    fit(features, "-d", "knn", "--out", model, "--held-out", "0.5", "--seed", "3")
    with h5py.File(model) as file:
        assert file["state/bank"].shape[0] == 396 and file["calibration/rows"][()] == 397
        assert not np.isin(file["calibration/scores"][()], first).all()


def test_tpr_is_the_decimal_that_is_meant(tmp_path):
    models = [tmp_path / "a.ood", tmp_path / "b.ood"]
    fit(DIGITS, "-d", "energy", "--out", models[0], "--tpr", "0.9")
    fit(DIGITS, "-d", "energy", "--out", models[1], "--alpha", "0.1")
    assert models[0].read_bytes() == models[1].read_bytes()


def test_what_makes_p_values_doubtful_is_said(tmp_path):
    model = tmp_path / "model.ood"
    assert "has fewer than 9999 calibration rows: nothing is rejected at alpha 0.0001" in \
        fit(DIGITS, "-d", "energy", "--out", model, "--alpha", "0.0001").stderr
    assert "nothing is rejected at alpha 0\n" in fit(DIGITS, "-d", "energy", "--out", model, "--tpr", "1").stderr
    assert "8 of 8 classes have fewer than 99 calibration rows" in \
        fit(DIGITS, "-d", "energy", "--out", model, "--alpha", "0.01", "--by-class").stderr
    assert "options were chosen on rows of" in \
        fit(DIGITS, "-d", "knn", "--search", "k=1:50:20", "--criterion", "ood_val_auroc", "--out", model).stderr


def test_links_stay_and_permissions_too(tmp_path):
    target, link = tmp_path / "target.ood", tmp_path / "link.ood"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    fit(DIGITS, "-d", "energy", "--out", link)
    assert link.is_symlink() and target.read_bytes().startswith(b"libood model")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.ood", "target.ood"]


def test_bad_input(tmp_path):
    model = tmp_path / "model.ood"
    energy = (DIGITS, "-d", "energy")
    for flag in (["--alpha", "0.1"], ["--tpr", "0.9"], ["--by-class"], ["--held-out", "0.2"], ["--seed", "1"]):
        assert "--out" in refused(*energy, *flag)
    assert "--tpr has 95, expected above 0 to 1" in refused(*energy, "--out", model, "--tpr", "95")
    assert "alpha has 1.5" in refused(*energy, "--out", model, "--alpha", "1.5")
    assert "held_out has 0.9" in refused(*energy, "--out", model, "--held-out", "0.9")
    assert "excludes" in refused(*energy, "--out", model, "--alpha", "0.1", "--tpr", "0.9")
    assert "which is an input" in refused(*energy, "--out", DIGITS)
    assert "cannot be written" in refused(*energy, "--out", tmp_path / "no" / "model.ood")
    assert "cannot be written" in refused(*energy, "--out", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "cannot be written" in refused(*energy, "--out", tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with h5py.File(DIGITS) as old, h5py.File(tmp_path / "test.h5", "w") as new:
        old.copy("id_test", new)
    assert "neither /id_val nor /train with logits" in refused(tmp_path / "test.h5", "-d", "energy", "--out", model)
    assert not model.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_device_is_not_replaced():
    assert "cannot be written" in refused(DIGITS, "-d", "energy", "--out", "/dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
