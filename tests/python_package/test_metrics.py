"""Metrics against scikit-learn and brute force, intervals against transcriptions of their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import ood.metrics as metrics


def draw(seed: int, n: int = 300, m: int = 200, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    id, outliers = random.normal(1, 1, n), random.normal(0, 1.3, m)
    return (np.round(id, 1), np.round(outliers, 1)) if ties else (id, outliers)


CASES = [pytest.param(*draw(seed, n, m, ties), id=f"{n}-{m}-{'ties' if ties else 'distinct'}")
         for seed, (n, m, ties) in enumerate([(300, 200, False), (300, 200, True), (40, 900, True), (1, 1, False),
                                              (2, 1, True), (1, 50, False)])]
CASES += [pytest.param(np.ones(5), np.ones(7), id="all equal"),
          pytest.param(np.arange(10.0) + 100, np.arange(20.0), id="separated"),
          pytest.param(np.array([np.inf, 1, -np.inf]), np.array([-np.inf, 0, np.inf]), id="infinite")]


def pairs(id: np.ndarray, outliers: np.ndarray) -> np.ndarray:
    """psi of DeLong et al. for every pair [n, m]: 1, 1/2 for a tie, 0."""
    return (id[:, None] > outliers) + 0.5 * (id[:, None] == outliers)


@pytest.mark.parametrize(("id", "outliers"), CASES)
def test_auroc_is_the_share_of_pairs(id: np.ndarray, outliers: np.ndarray) -> None:
    assert metrics.auroc(id, outliers) == pytest.approx(pairs(id, outliers).mean(), abs=1e-12)


@pytest.mark.parametrize(("id", "outliers"), CASES)
def test_scikit_learn_agrees(id: np.ndarray, outliers: np.ndarray) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    if not np.isfinite(np.concatenate([id, outliers])).all():
        return  # scikit-learn refuses infinity
    truth, scores = np.r_[np.ones(len(id)), np.zeros(len(outliers))], np.r_[id, outliers]
    assert metrics.auroc(id, outliers) == pytest.approx(sklearn.roc_auc_score(truth, scores), abs=1e-12)
    assert metrics.aupr(id, outliers) == pytest.approx(sklearn.average_precision_score(truth, scores), abs=1e-12)
    assert metrics.aupr(id, outliers, positive="ood") == pytest.approx(
        sklearn.average_precision_score(1 - truth, -scores), abs=1e-12)
    for positive, labels, values in (("id", truth, scores), ("ood", 1 - truth, -scores)):
        precision, recall, _ = sklearn.precision_recall_curve(labels, values)
        assert metrics.aupr(id, outliers, positive=positive, trapezoid=True) == pytest.approx(
            sklearn.auc(recall, precision), abs=1e-12)
        fpr, tpr, _ = sklearn.roc_curve(labels, values, drop_intermediate=False)
        for level in (0.5, 0.8, 0.95):
            assert metrics.fpr_at_tpr(id, outliers, level, positive=positive) == fpr[np.argmax(tpr >= level)]


def brute_fpr(positives: np.ndarray, negatives: np.ndarray, tpr: float) -> float:
    """At the highest threshold, one of the scores, that accepts the share `tpr` of the positives."""
    accepted = [t for t in positives if np.sum(positives >= t) >= tpr * len(positives)]
    return float(np.mean(negatives >= max(accepted)))


@pytest.mark.parametrize(("id", "outliers"), CASES)
@pytest.mark.parametrize("tpr", [0.25, 0.5, 0.95, 1.0])
def test_fpr_is_that_of_every_threshold_tried(id: np.ndarray, outliers: np.ndarray, tpr: float) -> None:
    assert metrics.fpr_at_tpr(id, outliers, tpr) == brute_fpr(id, outliers, tpr)
    assert metrics.fpr_at_tpr(id, outliers, tpr, positive="ood") == brute_fpr(-outliers, -id, tpr)


@pytest.mark.parametrize(("id", "outliers"), CASES)
def test_compute_is_each_on_its_own(id: np.ndarray, outliers: np.ndarray) -> None:
    assert metrics.compute(id, outliers) == {
        "auroc": metrics.auroc(id, outliers), "fpr95": metrics.fpr_at_tpr(id, outliers),
        "fpr95_ood": metrics.fpr_at_tpr(id, outliers, positive="ood"), "aupr_in": metrics.aupr(id, outliers),
        "aupr_out": metrics.aupr(id, outliers, positive="ood"),
        "aupr_in_trapezoid": metrics.aupr(id, outliers, trapezoid=True),
        "aupr_out_trapezoid": metrics.aupr(id, outliers, positive="ood", trapezoid=True)}


def test_scores_of_any_type() -> None:
    id, outliers = draw(3)
    narrow = id.astype(np.float32), outliers.astype(np.float32)
    expected = metrics.auroc(*narrow)
    assert metrics.auroc(*(scores.astype(np.float64) for scores in narrow)) == expected
    assert metrics.auroc(*(scores.tolist() for scores in narrow)) == expected
    assert metrics.auroc(*(np.repeat(scores, 2)[::2] for scores in narrow)) == expected
    assert metrics.auroc(narrow[0][::-1], narrow[1]) == expected
    assert metrics.auroc([3, 2], [1, 2]) == 0.875


FUNCTIONS = [metrics.auroc, metrics.fpr_at_tpr, metrics.aupr, metrics.compute, metrics.auroc_interval,
             metrics.bootstrap, lambda id, outliers: metrics.compare((id, outliers), (id, outliers))]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_scores(function: Any) -> None:
    with pytest.raises(ValueError, match="NaN"):
        function([1.0, math.nan], [0.0, 1.0])
    for empty in (([], [1.0]), ([1.0], np.empty(0))):
        with pytest.raises(ValueError):
            function(*empty)
    with pytest.raises(ValueError, match=r"id has shape \[1, 2\], expected \[n\]"):
        function([[1.0, 2.0]], [0.0])
    for wrong in (["a", "b"], [1j], [True, False], [None], np.array([1, "x"], object)):
        with pytest.raises(TypeError, match="has dtype .*, expected numbers"):
            function(wrong, [0.0])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="positive has 'in', expected 'id' or 'ood'"):
        metrics.aupr([1], [0], positive="in")
    for tpr in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="tpr"):
            metrics.fpr_at_tpr([1.0], [0.0], tpr)
    for level in (0.0, 1.0, -1, math.nan):
        for call in (lambda: metrics.auroc_interval([1, 2], [0, 1], level=level),
                     lambda: metrics.bootstrap([1, 2], [0, 1], level=level),
                     lambda: metrics.compare(([1, 2], [0, 1]), ([1, 2], [0, 1]), level=level)):
            with pytest.raises(ValueError, match="level"):
                call()
    with pytest.raises(ValueError, match="resamples"):
        metrics.bootstrap([1, 2], [0, 1], resamples=0)
    with pytest.raises(ValueError, match="id_b has 2 scores, expected 3"):
        metrics.compare(([1, 2, 3], [0, 1]), ([1, 2], [0, 1]))


# --- DeLong.

Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def delong(id: np.ndarray, outliers: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC and the structural components, from all n x m pairs (DeLong et al. 1988, eq. 3-5)."""
    psi = pairs(id, outliers)
    return psi.mean(), psi.mean(axis=1), psi.mean(axis=0)


@pytest.mark.parametrize(("seed", "n", "m", "ties"), [(0, 300, 200, False), (1, 50, 400, True), (2, 2, 2, False),
                                                      (3, 20, 30, True)])
def test_delong_interval(seed: int, n: int, m: int, ties: bool) -> None:
    id, outliers = draw(seed, n, m, ties)
    auroc, v10, v01 = delong(id, outliers)
    half = Z95 * math.sqrt(v10.var(ddof=1) / n + v01.var(ddof=1) / m)
    interval = metrics.auroc_interval(id, outliers)
    assert interval == pytest.approx((auroc, max(0, auroc - half), min(1, auroc + half)), abs=1e-9)
    wide = metrics.auroc_interval(id, outliers, level=0.99)
    assert wide.low <= interval.low <= interval.value <= interval.high <= wide.high
    assert (interval.value, interval.low, interval.high) == tuple(interval)


def test_delong_interval_of_separated_scores() -> None:
    assert metrics.auroc_interval([3, 4, 5], [0, 1]) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="id has 1 scores, expected 2 or more"):
        metrics.auroc_interval([3], [0, 1])


def test_delong_coverage() -> None:
    """The 95 % interval covers P(id > ood) = Phi(1 / sqrt 2) of two normal distributions.

    In 94 to 96 % of 10,000 draws, where the share itself has a standard error of 0.22 %.
    """
    truth = 0.5 * (1 + math.erf(1 / 2))  # Phi(x) = (1 + erf(x / sqrt 2)) / 2 at x = 1 / sqrt 2
    random = np.random.default_rng(2026)
    covered = 0
    for _ in range(10_000):
        _, low, high = metrics.auroc_interval(random.normal(1, 1, 500), random.normal(0, 1, 500))
        covered += low <= truth <= high
    assert 9400 <= covered <= 9600


@pytest.mark.parametrize(("seed", "ties"), [(0, False), (1, True)])
def test_paired_delong_test(seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    n, m = 200, 150
    shared_id, shared_ood = random.normal(1, 1, n), random.normal(0, 1, m)
    a = shared_id + 0.3 * random.normal(size=n), shared_ood + 0.3 * random.normal(size=m)
    b = shared_id + 0.9 * random.normal(size=n), shared_ood + 0.9 * random.normal(size=m)
    if ties:
        a, b = (tuple(np.round(scores, 1) for scores in each) for each in (a, b))
    (auroc_a, a10, a01), (auroc_b, b10, b01) = delong(*a), delong(*b)
    variance = (a10 - b10).var(ddof=1) / n + (a01 - b01).var(ddof=1) / m
    difference = auroc_a - auroc_b
    z = difference / math.sqrt(variance)
    found = metrics.compare(a, b)
    assert found.auroc_a == pytest.approx(auroc_a, abs=1e-12)
    assert found.auroc_b == pytest.approx(auroc_b, abs=1e-12)
    half = Z95 * math.sqrt(variance)
    assert found.difference == pytest.approx((difference, difference - half, difference + half), abs=1e-9)
    assert found.z == pytest.approx(z, abs=1e-8)
    assert found.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=1e-9)
    back = metrics.compare(b, a)
    assert (back.z, back.p_value) == pytest.approx((-found.z, found.p_value), abs=1e-12)


def test_comparing_with_itself() -> None:
    scores = draw(0)
    found = metrics.compare(scores, scores)
    assert found.difference == (0.0, 0.0, 0.0) and found.p_value == 1.0


# --- Bootstrap.

NAMES = {"auroc": "auroc", "fpr": "fpr95", "fpr_ood": "fpr95_ood"} | {
    name: name for name in ("aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid")}


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap(ties: bool) -> None:
    """Against NumPy's resampling with other random numbers: each bound is a quantile of `resamples` draws, whose
    standard error is sqrt(q (1 - q) / resamples) / density. Quantiles at q -+ 5 of these errors enclose it."""
    id, outliers = draw(5, 150, 120, ties)
    resamples = 4000
    found = metrics.bootstrap(id, outliers, resamples=resamples, seed=1)
    assert found.keys() == NAMES.keys()
    random = np.random.default_rng(77)
    # The values of compute() are tested above, so that it may serve here.
    drawn = [metrics.compute(random.choice(id, len(id)), random.choice(outliers, len(outliers)))
             for _ in range(resamples)]
    values = metrics.compute(id, outliers)
    for name, key in NAMES.items():
        interval = found[name]
        assert interval.value == values[key]
        sample = np.array([each[key] for each in drawn])
        error = 5 * math.sqrt(2 * 0.025 * 0.975 / resamples)
        for q, bound in ((0.025, interval.low), (0.975, interval.high)):
            low, high = np.quantile(sample, [max(0, q - error), min(1, q + error)])
            assert low - 1e-12 <= bound <= high + 1e-12, (name, q)


def test_bootstrap_is_the_same_for_any_threads() -> None:
    id, outliers = draw(6)
    expected = metrics.bootstrap(id, outliers, resamples=300, seed=9, threads=1)
    for threads in (0, 2, 3):
        assert metrics.bootstrap(id, outliers, resamples=300, seed=9, threads=threads) == expected
    assert metrics.bootstrap(id, outliers, resamples=300, seed=10) != expected
    assert metrics.bootstrap(id[::-1], outliers, resamples=300, seed=9)["auroc"].value == expected["auroc"].value


def test_bootstrap_of_other_levels() -> None:
    id, outliers = draw(7)
    narrow, wide = (metrics.bootstrap(id, outliers, resamples=500, level=level) for level in (0.5, 0.99))
    for name in NAMES:
        assert wide[name].low < narrow[name].low <= narrow[name].high < wide[name].high
    at_half = metrics.bootstrap(id, outliers, resamples=200, tpr=0.5)
    assert at_half["fpr"].value == metrics.fpr_at_tpr(id, outliers, 0.5)
    assert at_half["fpr_ood"].value == metrics.fpr_at_tpr(id, outliers, 0.5, positive="ood")
