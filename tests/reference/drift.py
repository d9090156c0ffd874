"""Drift of scores against calibration scores, by scipy.stats: the cases of drift.json.

  statistic, p_exact     ks_2samp(method="exact"), which knows nothing of ties either
  p_asymptotic           Kolmogorov's limit, scipy.special.kolmogorov, at Stephens' argument
  t, p_value             ttest_ind(equal_var=False), the window first
  degrees_of_freedom     of Welch, written out
  low, high              shift -+ t.ppf((1 + 0.95) / 2, v) standard errors
  rejects                count, rows, calibration rows, alpha: binomtest(...).proportion_ci(0.95, "exact"),
                         and, in whole numbers, the chance that of the count + k - 1 lowest of all
                         n + rows scores k - 1 or fewer are calibration scores, k = floor(alpha (n + 1))
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import special, stats

from feature_files import Array
from tolerances import Json


def kolmogorov_smirnov(calibration: Array, window: Array) -> dict[str, float]:
    n, m = len(calibration), len(window)
    # D by its definition, at every score
    at = np.concatenate([calibration, window])
    statistic = max(abs(Fraction(int(np.sum(calibration <= x)), n)
                        - Fraction(int(np.sum(window <= x)), m)) for x in at)
    root = math.sqrt(n * m / (n + m))
    argument = (root + 0.12 + 0.11 / root) * float(statistic)
    found = {"statistic": float(statistic), "p_asymptotic": float(special.kolmogorov(argument))}
    exact = stats.ks_2samp(calibration, window, method="exact")
    assert math.isclose(exact.statistic, statistic, rel_tol=1e-12)
    return {**found, "p_exact": float(exact.pvalue)}


def mean_shift(calibration: Array, window: Array) -> dict[str, float]:
    test = stats.ttest_ind(window, calibration, equal_var=False)
    a = calibration.var(ddof=1) / len(calibration)
    b = window.var(ddof=1) / len(window)
    v = (a + b) ** 2 / (a**2 / (len(calibration) - 1) + b**2 / (len(window) - 1))
    shift = window.mean() - calibration.mean()
    half = stats.t.ppf(0.975, v) * math.sqrt(a + b)
    return {"shift": float(shift), "low": float(shift - half), "high": float(shift + half),
            "standardized": float(shift / calibration.std(ddof=1)), "t": float(test.statistic),
            "degrees_of_freedom": float(v), "p_value": float(test.pvalue)}


def score_case(name: str, calibration: Array, window: Array) -> Json:
    return {"name": name, "calibration": calibration.tolist(), "window": window.tolist(),
            "ks": kolmogorov_smirnov(calibration, window),
            "mean": mean_shift(calibration, window)}


def rejects_case(count: int, rows: int, calibration_rows: int, alpha: str) -> Json:
    interval = stats.binomtest(count, rows).proportion_ci(0.95, method="exact")
    n = calibration_rows
    k = math.floor(Fraction(alpha) * (n + 1))
    lowest = count + k - 1
    orders = sum(math.comb(n, x) * math.comb(rows, lowest - x) for x in range(k))
    p = Fraction(orders, math.comb(n + rows, lowest)) if count else 1
    return {"name": f"rejects: {count} of {rows}, {calibration_rows} at {alpha}", "count": count,
            "rows": rows, "calibration_rows": calibration_rows, "alpha": float(alpha),
            "low": float(interval.low), "high": float(interval.high), "p_value": float(p)}


def make_drift() -> Json:
    rng = np.random.default_rng(6006)
    lists: list[tuple[str, Any, Any]] = [
        ("normals", rng.normal(0, 1, 97), rng.normal(0, 1, 53)),
        ("shifted", rng.normal(0, 1, 200), rng.normal(-0.4, 1, 80)),
        ("wider", rng.normal(5, 1, 150), rng.normal(5, 3, 60)),
        ("far", rng.normal(0, 1, 120), rng.normal(-4, 1, 90)),
        ("separated", rng.uniform(1, 2, 30), rng.uniform(-2, -1, 20)),
        ("equal sizes", rng.normal(0, 1, 64), rng.normal(0.3, 1, 64)),
        ("two and three", np.array([0.5, 1.5]), np.array([1.0, 2.0, 4.0])),
        ("ties", rng.integers(0, 5, 60).astype(float), rng.integers(0, 4, 40).astype(float)),
        ("large numbers", rng.normal(1e6, 1e-2, 50), rng.normal(1e6, 1e-2, 40)),
        ("above the exact range", rng.normal(0, 1, 1500).round(4),
         rng.normal(-0.05, 1, 900).round(4)),
    ]
    return {"cases": [
        *(score_case(name, calibration, window) for name, calibration, window in lists),
        *(rejects_case(*case) for case in [
            (0, 1, 19, "0.05"), (1, 1, 19, "0.05"), (0, 40, 99, "0.05"), (3, 40, 99, "0.05"),
            (9, 40, 99, "0.05"), (40, 40, 99, "0.05"), (60, 1000, 500, "0.05"),
            (55, 1000, 100000, "0.05"), (130, 1000, 999, "0.1"), (2, 100, 150, "0.01"), (1, 3, 30, "0.01"),
            (5200, 100000, 20000, "0.05"), (30, 50, 60, "0.5"), (29, 300, 299, "0.07")]),
    ]}
