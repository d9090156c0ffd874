"""Scores of K copies of an output: mean_msp, mean_logit_energy, predictive_entropy,
expected_entropy, mutual_information, copy_variance, variation_ratio, wepe, min_cosine,
cosine_variance, crossmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from feature_files import SPLITS, Array, FeatureFile
from logit_scores import SOFTMAX_RTOL, log_softmax
from tolerances import U, Result

# What is float64 throughout loses the rounding of the score to float32, U. The digits of float64
# are lost too where a small score is a difference: 1e-14 is far below what separates two rows.
RTOL = 2e-7
ATOL = 1e-14


def by_copies(copies: dict[str, Array], score: Callable[[Array], float]) -> dict[str, Array]:
    """score([K, D]) of every row of [K, n, D]."""
    return {split: np.array([score(copies[split][:, i]) for i in range(copies[split].shape[1])])
            for split in SPLITS}


def log_mean_softmax(f: Array) -> Array:
    """log of mean_k softmax(f_k), [C]; near 0 by way of the other classes' sum."""
    log_p = np.array([log_softmax(row) for row in f])
    log_m = logsumexp(log_p, axis=0) - math.log(len(f))
    top = int(np.argmax(log_m))
    rest = math.fsum(math.exp(x) for x in np.delete(log_m, top))
    if rest < 0.5:
        log_m[top] = math.log1p(-rest)
    return log_m


def mean_msp(file: FeatureFile, mean: str = "probabilities") -> Result:
    """log max_c mean_k p^k_c; mean = logits: log max_c softmax(mean_k f^k)_c.

    The mean logits are rounded to float32: U |f| for the difference of two.
    """
    if mean == "probabilities":
        return Result(by_copies(file.copy_logits, lambda f: float(np.max(log_mean_softmax(f))) + 0.0),
                      rtol=RTOL, atol=ATOL)
    scores = by_copies(file.copy_logits, lambda f: float(np.max(log_softmax(f.mean(axis=0)))) + 0.0)
    loss = by_copies(file.copy_logits, lambda f: 2.0 * U * float(np.max(np.abs(f))))
    return Result(scores, rtol=SOFTMAX_RTOL,
                  bound={s: np.abs(scores[s]) * (SOFTMAX_RTOL + loss[s]) for s in SPLITS},
                  atol=1e-12)


def mean_logit_energy(file: FeatureFile) -> Result:
    """logsumexp(mean_k f^k)."""
    return Result(by_copies(file.copy_logits, lambda f: float(logsumexp(f.mean(axis=0)))), rtol=1e-5,
                  bound=by_copies(file.copy_logits, lambda f: 8.0 * U * (
                      float(np.max(np.abs(f))) + math.log(file.classes))), atol=1e-6)


def negative_entropy(log_p: Array) -> float:
    return math.fsum(math.exp(x) * x for x in log_p) + 0.0


def predictive_entropy(file: FeatureFile) -> Result:
    """-H(mean_k p^k)."""
    return Result(by_copies(file.copy_logits, lambda f: negative_entropy(log_mean_softmax(f))),
                  rtol=RTOL, atol=ATOL)


def expected_entropy(file: FeatureFile) -> Result:
    """-mean_k H(p^k). The loss of entropy."""
    return Result(by_copies(file.copy_logits, lambda f: float(np.mean(
        [negative_entropy(log_softmax(row)) for row in f]))), rtol=2.0 * SOFTMAX_RTOL, atol=1e-12)


def mutual_information(file: FeatureFile) -> Result:
    """-(H(mean_k p^k) - mean_k H(p^k)). Written as the definition has it: 1e-15 is lost."""
    return Result(by_copies(file.copy_logits, lambda f: negative_entropy(log_mean_softmax(f)) - float(
        np.mean([negative_entropy(log_softmax(row)) for row in f]))), rtol=RTOL, atol=1e-14)


def copy_variance(file: FeatureFile) -> Result:
    """-mean_c Var_k p^k_c, with divisor K - 1."""
    return Result(by_copies(file.copy_logits, lambda f: -float(np.mean(np.var(
        np.exp([log_softmax(row) for row in f]), axis=0, ddof=1)))), rtol=RTOL, atol=ATOL)


def variation_ratio(file: FeatureFile) -> Result:
    """-(1 - share of the copies that predict what most of them predict)."""
    return Result(by_copies(file.copy_logits, lambda f: float(np.max(np.bincount(
        f.argmax(axis=1)))) / len(f) - 1.0), rtol=RTOL, atol=1e-15)


def cosine_scores(file: FeatureFile, score: Callable[[Array], float]) -> dict[str, Array]:
    """score(cosines of z with its K copies); 0 where either is zero."""
    def cosine(a: Array, b: Array) -> float:
        if not a.any() or not b.any():
            return 0.0
        return math.fsum(a * b) / math.sqrt(math.fsum(a * a) * math.fsum(b * b))

    return {split: np.array([score(np.array([cosine(z, copy[i]) for copy in
                                             file.copy_features[split]]))
                             for i, z in enumerate(file.features[split])]) for split in SPLITS}


def wepe(file: FeatureFile) -> Result:
    """mean_k cos(z, z^k) - 1."""
    return Result(cosine_scores(file, lambda c: float(np.mean(c)) - 1.0), rtol=RTOL, atol=ATOL)


def min_cosine(file: FeatureFile) -> Result:
    """min_k cos(z, z^k) - 1."""
    return Result(cosine_scores(file, lambda c: float(np.min(c)) - 1.0), rtol=RTOL, atol=ATOL)


def cosine_variance(file: FeatureFile) -> Result:
    """-Var_k cos(z, z^k), with divisor K - 1."""
    return Result(cosine_scores(file, lambda c: -float(np.var(c, ddof=1))), rtol=RTOL, atol=ATOL)


def crossmax(file: FeatureFile, members: str = "copies", k: int = 0,
             statistic: str = "energy") -> Result:
    """Y_c = median (k = 0) or k-th largest over the members m of f_mc - max_c f_mc, less the largest
    of it over the members; the score is logsumexp(Y), max_c Y_c or log max softmax(Y).

    Fort and Lakshminarayanan, 2024, arXiv:2408.05446, algorithm 1. Y in float32, then the loss of
    energy and msp; Y_c <= 0, and near 0 for one c at least.
    """
    def aggregate(f: Array) -> Array:
        shifted = f - f.max(axis=1, keepdims=True)
        shifted = shifted - shifted.max(axis=0, keepdims=True)
        return np.median(shifted, axis=0) if k == 0 else np.sort(shifted, axis=0)[-k]

    of = {"max_logit": lambda y: float(np.max(y)), "energy": lambda y: float(logsumexp(y)),
          "msp": lambda y: float(np.max(log_softmax(y)))}[statistic]
    stacked = file.copy_logits if members == "copies" else {
        split: np.stack(list(file.layers[split].values())) for split in SPLITS}
    return Result(by_copies(stacked, lambda f: of(aggregate(f)) + 0.0), rtol=1e-5, atol=1e-6)
