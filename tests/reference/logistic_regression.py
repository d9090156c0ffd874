"""Coefficients of logistic regressions by scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from tolerances import Json


def make_logistic_regression() -> Json:
    rng = np.random.default_rng(4004)
    cases: list[Json] = []

    def case(name: str, x: np.ndarray, labels: np.ndarray, c: float = 1.0,
             weights: np.ndarray | None = None) -> None:
        model = LogisticRegression(C=c, tol=1e-12, max_iter=1000, solver="newton-cholesky")
        model.fit(x, labels, sample_weight=weights)
        cases.append({"name": name, "x": x.tolist(), "labels": labels.tolist(), "c": c,
                      "sample_weights": [] if weights is None else weights.tolist(),
                      "weight": model.coef_[0].tolist(), "intercept": float(model.intercept_[0])})

    # Features of different scales, far from 0, two of them almost the same
    x = rng.standard_normal((60, 4)) * [0.1, 1.0, 10.0, 1.0] + [5.0, -3.0, 20.0, 0.0]
    x[:, 3] = x[:, 1] + 0.05 * x[:, 3]
    x = np.round(x, 4)
    score = 8.0 * (x[:, 0] - 5.0) + (x[:, 1] + 3.0) + rng.logistic(size=60)
    labels = (score > 0.5).astype(np.int64)
    weights = np.round(rng.uniform(0.0, 3.0, size=60), 3)
    for c in (1e-3, 1.0, 1e3):
        case(f"C={c:g}", x, labels, c)
    case("weights", x, labels, weights=weights)
    wide = np.round(rng.standard_normal((12, 20)), 3)
    case("more columns than rows, separable", wide, np.arange(12) % 3 // 2, 10.0)
    apart = np.round(rng.standard_normal((30, 2)), 3) + 4.0 * (np.arange(30) % 2)[:, None]
    case("separable", apart, np.arange(30) % 2, 100.0)
    return {"cases": cases}
