"""Scores of the logits with something fitted on them: temperature_scaling, kl_matching, openmax."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp
from scipy.stats import weibull_min

from feature_files import Array, FeatureFile
from logit_scores import log_softmax
from tolerances import U, Result, by_row


def temperature_scaling(file: FeatureFile) -> Result:
    """log p / (1 - p), p = max_c softmax(f / T)_c, T = argmin of the mean of -log softmax(f / T)_y, on id_val.

    Guo et al., ICML 2017, arXiv:1706.04599. The loss is that of msp, and once more for T in
    float32; T itself is known to the square root of the rounding of the mean.
    """
    f, y = file.val_logits, file.val_labels

    def mean_loss(log_inverse: float) -> float:
        scaled = math.exp(log_inverse) * f
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(y)), y]))

    found = minimize_scalar(mean_loss, bounds=(math.log(1e-2), math.log(1e2)), method="bounded",
                            options={"xatol": 1e-10})
    assert found.success and abs(found.x) < 4.0, found
    t = math.exp(-found.x)
    def log_odds(row: Array) -> float:
        scaled = np.sort(row / t)
        return float(scaled[-1] - logsumexp(scaled[:-1]))

    def loss(row: Array) -> float:
        """kernels::row_log_odds."""
        return U * (abs(log_odds(row)) + math.sqrt(len(row)) + 16.0 + 2.0 * float(np.ptp(row)) / t)

    return Result(by_row(file.logits, log_odds),
                  rtol=2e-5, bound=by_row(file.logits, loss), state={"temperature": t},
                  state_atol={"temperature": 1e-6 * t})


def kl_matching(file: FeatureFile, templates: str = "predicted", match: str = "all") -> Result:
    """-min_c KL(p || d_c), d_c = mean of p over the rows of id_val that are predicted c, or labelled
    c; c = argmax p alone with match = predicted.

    Hendrycks et al., ICML 2022, arXiv:1911.11132. A divergence is a sum of terms of either sign:
    float64 loses 1e-15 or so.
    """
    f = file.val_logits
    own = f.argmax(axis=1) if templates == "predicted" else file.val_labels
    log_p = np.array([log_softmax(row) for row in f])
    # log of the mean of p: p itself may underflow
    log_d = {c: np.array([logsumexp(column) for column in log_p[own == c].T])
                - math.log(np.sum(own == c)) for c in set(own.tolist())}

    def score(row: Array) -> float:
        x = log_softmax(row)
        chosen = list(log_d) if match == "all" else [int(np.argmax(row))]
        return -max(0.0, min(math.fsum(math.exp(a) * (a - b) for a, b in zip(x, log_d[c]))
                             for c in chosen)) + 0.0

    return Result(by_row(file.logits, score), rtol=5e-7, atol=1e-13)


class Weibull:
    """The Weibull distribution of greatest likelihood for y = 10000 + d - min d, as libMR shifts a
    tail of distances d."""

    def __init__(self, tail: Array) -> None:
        self.smallest = float(tail.min())
        y = 10000.0 + (tail - self.smallest)
        log_y = np.log1p((tail - self.smallest) / 10000.0)  # + log 10000

        def slope(shape: float) -> float:
            weight = np.exp(shape * (log_y - log_y.max()))
            return float(np.sum(weight * log_y) / np.sum(weight) - np.mean(log_y)) - 1.0 / shape

        self.shape = float(brentq(slope, 1e-3, 1e12, xtol=1e-12, rtol=1e-14))
        self.log_scale = float(logsumexp(self.shape * log_y) - math.log(len(y))) / self.shape
        # No worse than what scipy finds by a general search
        mine = (self.shape, 0.0, math.exp(self.log_scale) * 10000.0)
        with np.errstate(over="ignore"):
            theirs = weibull_min.fit(y, self.shape * 1.05, floc=0, scale=mine[2])
        assert weibull_min.nnlf(mine, y) <= weibull_min.nnlf(theirs, y) + 1e-9 * len(y)
        assert abs(theirs[0] / self.shape - 1.0) < 0.02, (theirs, mine)

    def cdf(self, distance: float) -> float:
        y = 1.0 + (distance - self.smallest) / 10000.0
        if y <= 0.0:
            return 0.0
        power = self.shape * (math.log(y) - self.log_scale)
        return -math.expm1(-math.exp(min(power, 700.0)))


def openmax(file: FeatureFile, tail: int = 20, alpha: int = 10, rows: str = "correct") -> Result:
    """logsumexp(f') - f'_0: the log odds of any known class against the unknown one.

    f'_c = f_c (1 - w_c), f'_0 = sum_c f_c w_c; for the i-th largest of the `alpha` largest logits
    w_c = (alpha + 1 - i) / alpha * F_c(|f - m_c|), 0 for others. m_c: mean logits of the training
    rows of class c that are predicted c (rows = correct), or of all of them; F_c: Weibull
    distribution of the `tail` largest of their distances to m_c.
    Bendale and Boult, CVPR 2016, arXiv:1511.06233.
    """
    f, y = file.train_logits, file.train_labels
    kept = f.argmax(axis=1) == y if rows == "correct" else np.full(len(y), True)
    classes = range(file.classes)
    means = [f[kept & (y == c)].mean(axis=0) for c in classes]
    fits = []
    for c in classes:
        distances = np.sort(np.linalg.norm(f[kept & (y == c)] - means[c], axis=1))
        assert len(distances) >= tail
        fits.append(Weibull(distances[-tail:]))
    ranks = min(alpha, file.classes)

    def score(row: Array) -> float:
        revised, unknown = row.copy(), 0.0
        for i, c in enumerate(np.argsort(-row, kind="stable")[:ranks], start=1):
            w = (ranks + 1 - i) / ranks * fits[c].cdf(float(np.linalg.norm(row - means[c])))
            revised[c] = row[c] * (1.0 - w)
            unknown += row[c] * w
        return float(logsumexp(revised)) - unknown

    def loss(row: Array) -> float:
        """Of a sum of exponentials in float32, of logits that are rounded to float32 when revised."""
        return U * (5.0 * float(np.max(np.abs(row))) + 4.0 * math.log(len(row)) + math.sqrt(len(row)) + 8.0)

    return Result(by_row(file.logits, score), rtol=1e-6, bound=by_row(file.logits, loss),
                  state={"shapes": [fit.shape for fit in fits]})
