"""Saved detectors, calibration, p-values and decisions."""

from __future__ import annotations

import copy
import pickle
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood
from conftest import DIGITS, fit_on_rows, make, make_head, make_rows, same_bits, score_arguments

NAMES = list(ood.DETECTORS)


def p_by_counting(known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(1 + #{x_i <= s}) / (n + 1), as the definition says."""
    return (1 + (known[None, :] <= scores[:, None]).sum(axis=1)) / (len(known) + 1)


@pytest.fixture(scope="module")
def digits() -> ood.Dataset:
    return ood.open(DIGITS)


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_comes_back_with_the_same_bits(name: str, tmp_path: Path) -> None:
    detector = fit_on_rows(make(name))
    known = score_arguments(detector, make_rows(3))
    queries = score_arguments(detector, make_rows(4))
    detector.calibrate(**known, alpha=0.1)
    path = tmp_path / "model.ood"
    detector.save(path)
    loaded = ood.load(path)
    assert type(loaded) is type(detector) and loaded.get_params() == detector.get_params()
    scores = detector.score(**queries)
    assert same_bits(loaded.score(**queries), scores)
    expected = p_by_counting(detector.score(**known).astype(np.float64), scores.astype(np.float64))
    for each in (detector, loaded):
        assert np.array_equal(each.p_value(**queries), expected)
        assert np.array_equal(each.accepts(**queries), expected > 0.1)
        assert np.array_equal(each.accepts(**queries, alpha=0.5), expected > 0.5)
        assert each.calibration is not None
        assert np.array_equal(scores >= each.calibration.threshold, expected > 0.1)
    assert [file.name for file in tmp_path.iterdir()] == ["model.ood"]


@pytest.mark.parametrize("name", ["energy", "mahalanobis", "knn", "conjnorm", "vim"])
def test_the_command_writes_what_python_would(name: str, tmp_path: Path, command: str,
                                              digits: ood.Dataset) -> None:
    path = tmp_path / "model.ood"
    subprocess.run([command, "fit", DIGITS, "-d", name, "--out", path, "--alpha", "0.2"], check=True,
                   capture_output=True)
    theirs, ours = ood.load(path), ood.DETECTORS[name]().fit(digits).calibrate(digits.id_val, alpha=0.2)
    assert same_bits(theirs.score(digits.id_test), ours.score(digits.id_test))
    assert np.array_equal(theirs.p_value(digits.id_test), ours.p_value(digits.id_test))
    assert np.array_equal(theirs.accepts(digits.id_test), ours.accepts(digits.id_test))
    assert theirs.fitted_on == ours.fitted_on
    assert theirs.calibration.on == ours.calibration.on
    assert theirs.calibration.threshold == ours.calibration.threshold
    assert 0.6 < theirs.accepts(digits.id_test).mean() < 0.95  # 0.8 in expectation
    saved = tmp_path / "ours.ood"
    ours.save(saved)
    assert saved.read_bytes() == path.read_bytes()


def test_what_it_was_fitted_and_calibrated_on(digits: ood.Dataset) -> None:
    detector = ood.Mahalanobis().fit(digits).calibrate(digits.id_val)
    fingerprint = subprocess.run(["xxh128sum", DIGITS], capture_output=True, text=True)
    on = detector.fitted_on
    assert (on.file, on.split, on.rows, on.dim, on.classes, on.part) == (
        str(DIGITS), "train", len(digits.train), 64, 8, False)
    if fingerprint.returncode == 0:
        assert on.fingerprint == fingerprint.stdout.split()[0]
    assert detector.calibration.on.split == "id_val"
    assert detector.calibration.on.rows == detector.calibration.rows == len(digits.id_val)
    rows = make_rows(1)
    detector = ood.Mahalanobis().fit(features=rows["features"], labels=rows["labels"])
    on = detector.fitted_on
    assert (on.file, on.split, on.rows, on.dim, on.classes, on.part) == ("", "train", len(rows["labels"]), 12, 3, False)
    on = ood.Knn(k=3).fit(digits.id_val).fitted_on
    assert (on.file, on.split, on.rows) == (str(DIGITS), "id_val", len(digits.id_val))


def test_calibrated_on_the_rows_of_the_fit_is_said(digits: ood.Dataset) -> None:
    rows = make_rows(1)["features"]
    detector = ood.Knn(k=1).fit(rows)
    with pytest.warns(ood.FitWarning, match="calibrated on the rows that it was fitted on"):
        detector.calibrate(rows.copy())
    with pytest.warns(ood.FitWarning, match="calibrated on the rows that it was fitted on"):
        ood.Knn(k=1).fit(digits.id_val).calibrate(digits.id_val)
    with pytest.warns(ood.FitWarning, match="calibrated on the rows that it was fitted on"):
        ood.Knn(k=1).fit(digits).calibrate(digits.train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.calibrate(make_rows(3)["features"])
        ood.Knn(k=1).fit(digits).calibrate(digits.id_val)
        ood.Energy().calibrate(digits.id_val)  # has no fit


def test_a_calibration_has_a_width(digits: ood.Dataset) -> None:
    detector = ood.Energy().calibrate(digits.id_val)  # itself it scores rows of any width
    with pytest.raises(ValueError, match="logits has 9 columns, expected 8"):
        detector.p_value(np.zeros((3, 9), dtype=np.float32))


def test_by_class(tmp_path: Path) -> None:
    detector = fit_on_rows(make("knn"))
    known, queries = make_rows(3), make_rows(4)
    both = {"features": known["features"], "logits": known["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.calibrate(**both, by_class=True)
    assert detector.calibration.by_class and detector.calibration.threshold is None
    path = tmp_path / "model.ood"
    detector.save(path)
    scores = detector.score(features=queries["features"]).astype(np.float64)
    known_scores = detector.score(features=known["features"]).astype(np.float64)
    predicted, known_class = queries["logits"].argmax(axis=1), known["logits"].argmax(axis=1)
    expected = np.empty(len(scores))
    for c in range(3):
        expected[predicted == c] = p_by_counting(known_scores[known_class == c], scores[predicted == c])
    for each in (detector, ood.load(path)):
        p = each.p_value(features=queries["features"], logits=queries["logits"])
        assert np.array_equal(p, expected)
        close = each.p_value(features=queries["features"], head=make_head())  # logits are computed
        assert np.mean(close == expected) > 0.97
        with pytest.raises(ValueError, match="no logits"):
            each.p_value(features=queries["features"])


def test_copies_and_pickles_keep_the_calibration() -> None:
    detector = fit_on_rows(make("energy")).calibrate(make_rows(3)["logits"], alpha=0.25)
    queries = make_rows(4)["logits"]
    for other in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert np.array_equal(other.p_value(queries), detector.p_value(queries))
        assert other.calibration.alpha == 0.25
        assert other.calibration.on == detector.calibration.on
        assert other.fitted_on == detector.fitted_on


def test_another_fit_forgets_the_calibration() -> None:
    rows = make_rows(3)
    detector = fit_on_rows(make("max_cosine"))
    assert detector.calibration is None
    detector.calibrate(rows["features"])
    assert detector.calibration is not None
    fit_on_rows(detector)
    assert detector.calibration is None
    with pytest.raises(ood.NotFittedError, match="MaxCosine is not calibrated"):
        detector.p_value(rows["features"])
    with pytest.raises(ood.NotFittedError, match="not calibrated"):
        detector.accepts(rows["features"])


def test_before_the_fit() -> None:
    for call in (lambda: ood.Knn().save("nowhere.ood"), lambda: ood.Knn().calibrate(make_rows(1)["features"]),
                 lambda: ood.Knn().p_value(make_rows(1)["features"]), lambda: ood.Knn().fitted_on):
        with pytest.raises(ood.NotFittedError, match="Knn is not fitted"):
            call()
    assert ood.Knn().calibration is None
    assert not Path("nowhere.ood").exists()


def test_warnings_of_a_calibration(digits: ood.Dataset) -> None:
    detector = fit_on_rows(make("energy"))
    with pytest.warns(ood.FitWarning, match="fewer than 999 calibration rows"):
        detector.calibrate(make_rows(3)["logits"], alpha=0.001)
    with pytest.warns(ood.FitWarning, match="on which the network was trained"):
        detector.calibrate(digits.train)


def test_bad_input_is_one_error(tmp_path: Path, digits: ood.Dataset) -> None:
    rows = make_rows(3)["logits"]
    detector = fit_on_rows(make("energy"))
    for alpha in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="calibrate: alpha has"):
            detector.calibrate(rows, alpha=alpha)
    spoiled = rows.copy()
    spoiled[7, 1] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        detector.calibrate(spoiled)
    with pytest.raises(ValueError, match="0 rows"):
        detector.calibrate(rows[:0])
    with pytest.raises(TypeError, match="has a Dataset"):
        detector.calibrate(digits)
    assert detector.calibration is None  # none of them left anything
    detector.calibrate(rows)
    with pytest.raises(ValueError, match="accepts: alpha has 2"):
        detector.accepts(rows, alpha=2)
    assert np.isnan(detector.p_value(spoiled)[7]) and not detector.accepts(spoiled)[7]
    with pytest.raises(OSError, match="cannot be"):
        detector.save(tmp_path / "no" / "folder.ood")
    with pytest.raises(OSError, match="no such file"):
        ood.load(tmp_path / "none.ood")
    with pytest.raises(OSError, match="is another HDF5 file, expected a model file"):
        ood.load(DIGITS)
    path = tmp_path / "model.ood"
    detector.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(OSError, match="is truncated"):
        ood.load(path)
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(OSError, match="is damaged"):
        ood.load(path)


def test_adjusted_p_values_are_those_of_scipy() -> None:
    random = np.random.default_rng(0)
    p = np.concatenate([random.random(300), random.random(50) / 1000, [0.5, 0.5, 1.0, 0.0]])
    order = np.argsort(p)  # a transcription: m p / rank, minima from the right
    adjusted = np.minimum.accumulate((len(p) * p[order] / np.arange(1, len(p) + 1))[::-1])[::-1]
    expected = np.empty_like(p)
    expected[order] = np.minimum(adjusted, 1)
    assert np.allclose(ood.metrics.adjusted_p_values(p), expected, rtol=1e-14)
    try:
        from scipy.stats import false_discovery_control  # 1.11
    except ImportError:
        return
    assert np.allclose(ood.metrics.adjusted_p_values(p), false_discovery_control(p), rtol=1e-14)


def test_threshold_at_tpr_is_that_of_fpr_at_tpr() -> None:
    random = np.random.default_rng(0)
    id, outliers = random.normal(size=501), random.normal(size=300) - 1
    for tpr in (0.5, 0.9, 0.95, 1.0):
        threshold = ood.metrics.threshold_at_tpr(id, tpr)
        assert (id >= threshold).mean() >= tpr
        assert (outliers >= threshold).mean() == ood.metrics.fpr_at_tpr(id, outliers, tpr=tpr)
    with pytest.raises(ValueError, match="is NaN"):
        ood.metrics.threshold_at_tpr([1.0, np.nan])


def test_every_argument_of_score_is_one_of_its_kin() -> None:
    import inspect

    def keywords(method: Any) -> set[str]:
        return set(inspect.signature(method).parameters) - {"self", "X", "y", "alpha", "by_class"}

    expected = keywords(ood.Detector.score) - {"out"}
    for method in (ood.Detector.calibrate, ood.Detector.p_value, ood.Detector.accepts):
        assert keywords(method) == expected
