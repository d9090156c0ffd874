"""Scores and the tolerances that they are compared with.

Tolerances are what an implementation with float32 inputs and float32 products can reach if it is
written with care; float64 after the products is of course allowed. Detectors made of products give,
row by row, an estimate ("bound") of the float32 loss; plain float32 versions of the detectors stay
3 to 50 times below it. Then rtol is a number fixed per detector, or (where the loss is in
proportion to the score, Mahalanobis) the median of bound / |want|; atol is what rtol |want| leaves
uncovered of the bound in any row. Both are rounded up to one digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_files import SPLITS, Array

Json = dict[str, Any]

U = 2.0**-24  # unit roundoff of float32: |fl(x) - x| <= U |x|


@dataclass(frozen=True)
class Result:
    """Scores of each split, the float32 loss bound of each row, and the state of the detector."""

    scores: dict[str, Array]
    rtol: float | None  # None: from the bound
    bound: dict[str, Array] | None = None  # None: rtol covers the loss, up to `atol`
    atol: float = 0.0  # at least
    state: Json | None = None
    state_atol: Json | None = None  # by name, 0 where it has none; 1e-6 relative comes on top


def one_digit_up(x: float) -> float:
    """Smallest number d * 10^e, d = 1..9, that is >= x."""
    if x <= 0.0:
        return 0.0
    e = math.floor(math.log10(x))
    return float(f"{math.ceil(x / 10.0**e)}e{e}")


def tolerances(result: Result) -> Json:
    if result.bound is None:
        return {"rtol": result.rtol, "atol": result.atol}
    bound = np.concatenate([result.bound[split] for split in SPLITS])
    want = np.abs(np.concatenate([result.scores[split] for split in SPLITS]))
    rtol = one_digit_up(float(np.median(bound / want))) if result.rtol is None else result.rtol
    rest = one_digit_up(float(np.max(bound - rtol * want)))
    return {"rtol": rtol, "atol": max(result.atol, rest)}


def dot_loss(dim: int) -> float:
    """Loss of a float32 inner product of length dim, relative to sum_i |x_i y_i|.

    Both inputs rounded and the products rounded (3 U), one rounding of the result, and the sum: the
    worst case is dim * U, but rounding errors are of either sign and add up like a random walk, and
    blocked or vectorised sums do better still: sqrt(dim) * U.
    """
    return (4.0 + math.sqrt(dim)) * U


def by_row(rows: dict[str, Array], score: Callable[[Array], float]) -> dict[str, Array]:
    return {split: np.array([score(row) for row in rows[split]]) for split in SPLITS}
