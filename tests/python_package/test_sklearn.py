"""scikit-learn's conventions, where they apply."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import ood
from conftest import fit_on_rows, make, make_rows, same_bits, score_arguments

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier, is_outlier_detector, is_regressor  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

# --- scikit-learn's own checks, on detectors of one array that their small data sets allow.

DETECTORS = [ood.Ssd(ridge=0.1), ood.Knn(k=1), ood.Energy(temperature=2.0), ood.MaxLogit(), ood.KlMatching(),
             ood.MaxCosine(), ood.Mahalanobis(ridge=0.1)]

INTEGERS = "integers and objects are refused, with a message that says what to do; a class without rows is refused"
OWN_WORDS = "the message says the same in this library's words"
NOT_SENSIBLE = {
    "check_do_not_raise_errors_in_init_or_set_params": "wrong options are refused when they are given",
    "check_estimators_dtypes": INTEGERS,
    "check_dtype_object": INTEGERS,
    "check_complex_data": OWN_WORDS,
    "check_estimators_empty_data_messages": OWN_WORDS,
    "check_fit2d_1sample": OWN_WORDS,
    "check_fit2d_1feature": OWN_WORDS,
    "check_n_features_in_after_fitting": OWN_WORDS,
    "check_requires_y_none": OWN_WORDS,
    "check_estimators_nan_inf": "rows with NaN score NaN; a detector without a fit does not look at the rows of fit()",
}


def failures(detector: ood.Detector) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = estimator_checks.check_estimator(clone(detector), on_fail=None, on_skip=None)
    assert sum(each["status"] == "passed" for each in found) >= 20
    return {each["check_name"]: str(each["exception"]) for each in found if each["status"] == "failed"}


@pytest.mark.skipif(not hasattr(estimator_checks, "estimator_checks_generator"), reason="needs scikit-learn 1.6")
@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: type(detector).__name__)
def test_estimator_checks(detector: ood.Detector) -> None:
    unexpected = {name: why for name, why in failures(detector).items() if name not in NOT_SENSIBLE}
    assert unexpected == {}


@pytest.mark.skipif(not hasattr(estimator_checks, "estimator_checks_generator"), reason="needs scikit-learn 1.6")
def test_the_list_holds_nothing_that_passes() -> None:
    failing = set().union(*(failures(detector) for detector in DETECTORS))
    known = {name for name in NOT_SENSIBLE if hasattr(estimator_checks, name)}
    assert known <= failing


@pytest.mark.skipif(not hasattr(estimator_checks, "estimator_checks_generator"), reason="needs scikit-learn 1.6")
def test_checks_see_a_bad_estimator() -> None:
    """Else the list above could be of anything."""

    class Bad(ood.Ssd):
        def set_params(self, **options: Any) -> Bad:
            return self

    assert "check_set_params" in failures(Bad())


# --- Conventions.

@pytest.mark.parametrize("name", ood.DETECTORS)
def test_clone(name: str) -> None:
    detector = fit_on_rows(make(name))
    again = clone(detector)
    assert type(again) is type(detector) and again is not detector
    assert again.get_params() == detector.get_params()
    if detector.needs["fit"]:
        with pytest.raises(ood.NotFittedError):
            again.score(**score_arguments(again, make_rows(9)))


def test_clone_of_lists_and_arrays() -> None:
    rows = make_rows(1)
    for priors in ([0.2, 0.3, 0.5], (0.2, 0.3, 0.5), np.array([0.2, 0.3, 0.5])):
        detector = ood.ConjNorm(priors=priors, class_prior="given", samples=64)
        detector.fit(rows["features"], rows["labels"])
        again = clone(detector).fit(rows["features"], rows["labels"])
        assert same_bits(again.score(rows["features"]), detector.score(rows["features"]))


def test_not_fitted_is_scikit_learns() -> None:
    for call in (lambda: ood.Ssd().score(make_rows(1)["features"]), lambda: check_is_fitted(ood.Ssd())):
        with pytest.raises(NotFittedError):
            call()
    check_is_fitted(ood.Energy())
    check_is_fitted(fit_on_rows(make("ssd")))
    with pytest.raises(ood.NotFittedError):
        ood.Ssd().score(make_rows(1)["features"])


def test_what_it_is_not() -> None:
    for detector in (ood.Ssd(), ood.Mahalanobis()):
        assert not is_classifier(detector) and not is_regressor(detector) and not is_outlier_detector(detector)


def test_number_of_features() -> None:
    rows = make_rows(1)
    detector = ood.Ssd()
    assert not hasattr(detector, "n_features_in_")
    assert detector.fit(rows["features"]).n_features_in_ == rows["features"].shape[1]
    assert ood.KlMatching().fit(rows["logits"]).n_features_in_ == rows["logits"].shape[1]


# --- Pipelines.

def as_float32(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32)


def test_pipeline() -> None:
    rows, test = make_rows(1), make_rows(9)["features"]
    pipeline = make_pipeline(StandardScaler(), ood.Mahalanobis(ridge=0.5))
    assert pipeline.fit(rows["features"], rows["labels"]) is pipeline
    scaler = StandardScaler().fit(rows["features"])
    alone = ood.Mahalanobis(ridge=0.5).fit(scaler.transform(rows["features"]), rows["labels"])
    expected = alone.score(scaler.transform(test))
    assert same_bits(pipeline.score_samples(test), expected)
    assert same_bits(pipeline.score(test), expected)
    assert pipeline.get_params()["mahalanobis__ridge"] == 0.5
    pipeline.set_params(mahalanobis__ridge=0.1)
    with pytest.raises(NotFittedError):
        pipeline.score_samples(test)
    assert "Mahalanobis(" in repr(pipeline)
    assert isinstance(clone(pipeline), Pipeline)


def test_pipeline_of_features_alone() -> None:
    rows = make_rows(1)["features"].astype(np.float64)
    pipeline = make_pipeline(FunctionTransformer(as_float32), ood.Knn(k=3)).fit(rows)
    assert same_bits(pipeline.score_samples(rows), ood.Knn(k=3).fit(rows).score(rows))


def test_pipelines_are_shown_in_notebooks() -> None:
    assert "Mahalanobis" in make_pipeline(StandardScaler(), ood.Mahalanobis())._repr_html_()


def test_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    rows = make_rows(1)
    frame = pandas.DataFrame(rows["features"], columns=[f"f{i}" for i in range(rows["features"].shape[1])])
    found = make_pipeline(StandardScaler(), ood.Ssd()).fit(frame).score_samples(frame)
    expected = make_pipeline(StandardScaler(), ood.Ssd()).fit(rows["features"]).score_samples(rows["features"])
    assert same_bits(found, expected)
