"""How well scores separate in-distribution (ID) from out-of-distribution (OOD) rows, and how sure that is.

Scores are confidences: higher = more in-distribution. All metrics depend on ranks alone, with ties
as one threshold. NaN and empty arrays raise ValueError.

>>> import ood
>>> id, outliers = [3.0, 2.0, 2.5, 4.0], [1.0, 2.0, 0.5]
>>> round(ood.metrics.auroc(id, outliers), 4)
0.9583
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _ood
from ._arrays import as_scores

__all__ = ["Comparison", "Interval", "adjusted_p_values", "auroc", "auroc_interval", "aupr", "bootstrap",
           "compare", "compute", "fpr_at_tpr", "threshold_at_tpr"]


class Interval(NamedTuple):
    """A value, and the interval that covers the true one in a share `level` of repetitions."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Two detectors on the same rows: the paired DeLong test."""

    auroc_a: float
    auroc_b: float
    #: auroc_a - auroc_b
    difference: Interval
    z: float
    #: Two-sided: how often a difference of this size comes about where there is none.
    p_value: float


def _pair(id: Any, ood: Any) -> tuple[Any, Any]:
    return as_scores(id, "id"), as_scores(ood, "ood")


def _choose(positive: str, id: Any, ood: Any) -> Any:
    if positive not in ("id", "ood"):
        raise ValueError(f"positive has {positive!r}, expected 'id' or 'ood'")
    return id if positive == "id" else ood


def auroc(id: Any, ood: Any) -> float:
    """Area under the ROC curve: P(id > ood) + P(id = ood) / 2 for one random row of each.

    >>> auroc([2, 3], [1, 2])
    0.875
    """
    return _ood.auroc(*_pair(id, ood))


def fpr_at_tpr(id: Any, ood: Any, tpr: float = 0.95, *, positive: str = "id") -> float:
    """Share of negatives that are accepted where at least `tpr` of the positives are.

    positive="id": the share of OOD rows accepted at the highest threshold that accepts `tpr` of the ID
    rows, "FPR95" of most papers. positive="ood": the share of ID rows rejected at the lowest threshold
    that rejects `tpr` of the OOD rows, as OpenOOD prints it.

    >>> fpr_at_tpr([2, 3, 4, 5], [0, 1, 2, 3])
    0.5
    >>> fpr_at_tpr([2, 3, 4, 5], [0, 1, 2, 3], positive="ood")
    0.5
    """
    return float(_choose(positive, _ood.fpr_at_tpr, _ood.fpr_at_tpr_ood)(*_pair(id, ood), tpr))


def aupr(id: Any, ood: Any, *, positive: str = "id", trapezoid: bool = False) -> float:
    """Average precision with ID or OOD as the positives, without interpolation (scikit-learn's
    average_precision_score); trapezoid=True: the area by the trapezoid rule, which OpenOOD prints.

    >>> aupr([2, 3], [1, 0])
    1.0
    """
    names = ("aupr_in_trapezoid", "aupr_out_trapezoid") if trapezoid else ("aupr_in", "aupr_out")
    return float(getattr(_ood, _choose(positive, *names))(*_pair(id, ood)))


def compute(id: Any, ood: Any) -> dict[str, float]:
    """All metrics of a report, as one sort gives them: auroc, fpr95, fpr95_ood, aupr_in, aupr_out,
    aupr_in_trapezoid, aupr_out_trapezoid.

    >>> compute([2, 3], [1, 0])["fpr95"]
    0.0
    """
    return _ood.compute_metrics(*_pair(id, ood))


def auroc_interval(id: Any, ood: Any, *, level: float = 0.95) -> Interval:
    """AUROC with DeLong's interval (Biometrics 44, 1988), clipped to [0, 1].

    Needs two rows of each. Where the scores are separated the variance is 0, and the interval [1, 1].

    >>> value, low, high = auroc_interval([3, 2, 2.5, 4], [1, 2, 0.5])
    >>> low < value <= high <= 1
    True
    """
    return Interval(*_ood.auroc_interval(*_pair(id, ood), level))


def bootstrap(id: Any, ood: Any, *, resamples: int = 2000, seed: int = 0, level: float = 0.95,
              tpr: float = 0.95, threads: int = 0) -> dict[str, Interval]:
    """All metrics with percentile intervals of the bootstrap: ID and OOD rows are drawn anew, each kind
    on its own. The same numbers for the same seed, whatever the number of threads.

    Keys: auroc, fpr, fpr_ood (both at `tpr`), aupr_in, aupr_out, aupr_in_trapezoid,
    aupr_out_trapezoid.

    >>> intervals = bootstrap([3, 2, 2.5, 4], [1, 2, 0.5], resamples=200)
    >>> intervals["fpr"].low <= intervals["fpr"].value <= intervals["fpr"].high
    True
    """
    resamples, seed, threads = map(operator.index, (resamples, seed, threads))
    if not 0 <= seed < 2**64:
        raise ValueError(f"bootstrap: seed has {seed}, expected 0 to 2^64 - 1")
    found = _ood.bootstrap_intervals(*_pair(id, ood), resamples, seed, level, tpr, threads)
    return {name: Interval(*interval) for name, interval in found.items()}


def compare(scores_a: tuple[Any, Any], scores_b: tuple[Any, Any], *, level: float = 0.95) -> Comparison:
    """DeLong's paired test of two detectors: each argument is (id, ood) scores, of the same rows in
    the same order.

    >>> a, b = ([3, 2, 2.5, 4], [1, 2, 0.5]), ([1, 2, 1.5, 3], [1, 2, 0.5])
    >>> comparison = compare(a, b)
    >>> comparison.auroc_a > comparison.auroc_b, comparison.p_value < 0.05
    (True, False)
    """
    id_a, ood_a = _pair(*scores_a)
    id_b, ood_b = _pair(*scores_b)
    auroc_a, auroc_b, difference, z, p_value = _ood.compare_auroc(id_a, ood_a, id_b, ood_b, level)
    return Comparison(auroc_a, auroc_b, Interval(*difference), z, p_value)


def threshold_at_tpr(id: Any, tpr: float = 0.95) -> float:
    """The highest score that accepts (score >= threshold) a share `tpr` or more of these ID scores: the
    threshold of `fpr_at_tpr`. For a statement about further rows see `Detector.calibrate`.

    >>> threshold_at_tpr([3, 1, 4, 1, 5], 0.6)
    3.0
    """
    return float(_ood.threshold_at_tpr(as_scores(id, "id"), tpr))


def adjusted_p_values(p_values: Any) -> npt.NDArray[np.float64]:
    """Benjamini and Hochberg's adjusted p-values: calling out-of-distribution the rows with a value of f or less keeps the
    expected share of ID rows among them at f or less.

    >>> adjusted_p_values([0.01, 0.04, 0.03, 0.9]).round(3).tolist()
    [0.04, 0.053, 0.053, 0.9]
    """
    return _ood.adjusted_p_values(as_scores(p_values, "p_values"))
