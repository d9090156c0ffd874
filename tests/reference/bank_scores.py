"""Scores against stored training rows, or the patterns and the second moment of them: nnguide,
relation, she, pnml."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.linalg import pinvh
from scipy.special import logsumexp

from feature_files import Array, FeatureFile
from feature_scores import UNIT_ROUNDING, unit
from logit_scores import log_softmax
from row_sample import row_sample
from tolerances import U, Result, dot_loss


def by_row_of_both(file: FeatureFile, score: Callable[[Array, Array], float]) -> dict[str, Array]:
    return {split: np.array([score(z, f) for z, f in zip(file.features[split], file.logits[split])])
            for split in file.features}


def log_sum_exp_loss(f: Array) -> float:
    return 8.0 * U * (float(np.max(np.abs(f))) + math.log(len(f)))


def nnguide(file: FeatureFile, k: int = 10, bank: str = "confidence_weighted",
            bank_share: float = 1.0, seed: int = 0) -> Result:
    """LSE(f) times the mean of the k largest <z / |z|, g_i>, g_i = LSE(f_i) z_i / |z_i|.

    Park, Jung and Teoh, ICCV 2023, arXiv:2309.14888; unweighted: g_i = z_i / |z_i|.

    Loss: that of both LSE, and of a product of unit vectors times |g_i|. (Picking other rows for it
    does not matter: the mean of the k largest moves by no more than the products do.)
    """
    kept = row_sample(len(file.train_features), bank_share, seed)
    weighted = bank == "confidence_weighted"
    weights = [float(logsumexp(file.train_logits[i])) if weighted else 1.0 for i in kept]
    rows = np.array([w * unit(file.train_features[i]) for w, i in zip(weights, kept)])
    product_loss = max(
        abs(w) * (dot_loss(rows.shape[1]) + 2.0 * UNIT_ROUNDING)
        + (log_sum_exp_loss(file.train_logits[i]) if weighted else 0.0)
        for w, i in zip(weights, kept))

    def guidance(z: Array) -> float:
        return math.fsum(sorted((math.fsum(unit(z) * g) for g in rows), reverse=True)[:k]) / k

    return Result(
        by_row_of_both(file, lambda z, f: float(logsumexp(f)) * guidance(z)), rtol=2e-5,
        bound=by_row_of_both(file, lambda z, f: abs(float(logsumexp(f))) * product_loss
                             + log_sum_exp_loss(f) * abs(guidance(z))))


def relation(file: FeatureFile, power: int = 1, threshold: float = 0.03, bank_share: float = 1.0,
             seed: int = 0) -> Result:
    """The sum over k_i > threshold of k_i^power, k_i = max(0, <z', z'_i>) <p, p_i>.

    z' = z / |z|, p = softmax(f). Kim et al., NeurIPS 2023.

    Loss of k_i: that of both products. A k_i so near to the threshold that its loss may carry it
    across counts or not: all of it is in the bound.
    """
    kept = row_sample(len(file.train_features), bank_share, seed)
    directions = np.array([unit(file.train_features[i]) for i in kept])
    probabilities = np.array([np.exp(log_softmax(file.train_logits[i])) for i in kept])

    def relations(z: Array, f: Array) -> tuple[Array, Array]:
        cosines = np.array([max(0.0, math.fsum(unit(z) * x)) for x in directions])
        agreement = np.array([math.fsum(np.exp(log_softmax(f)) * p) for p in probabilities])
        losses = (agreement * (dot_loss(len(z)) + 2.0 * UNIT_ROUNDING)
                  + cosines * agreement * (dot_loss(len(f)) + 4.0 * U))
        return cosines * agreement, losses

    def score(z: Array, f: Array) -> float:
        k, _ = relations(z, f)
        return math.fsum(k[k > threshold]**power)

    def loss(z: Array, f: Array) -> float:
        k, losses = relations(z, f)
        unsure = np.abs(k - threshold) <= losses + 2.0 * U * threshold
        sure = (k > threshold) & ~unsure
        return (math.fsum(power * k[sure]**(power - 1) * (losses[sure] + U * k[sure]))
                + math.fsum((k[unsure] + losses[unsure])**power))

    return Result(by_row_of_both(file, score), rtol=2e-6, bound=by_row_of_both(file, loss))


def she(file: FeatureFile, metric: str = "inner_product") -> Result:
    """<z, S_c>, c = argmax f; S_c = mean of the train rows of class c whose largest logit is c.

    Zhang et al., ICLR 2023. euclidean: -|z - S_c|; cosine: of the angle between both.
    """
    predicted = file.train_logits.argmax(axis=1)
    correct = predicted == file.train_labels
    patterns = np.array([file.train_features[correct & (predicted == c)].mean(axis=0)
                         for c in range(file.classes)])

    def score(z: Array, f: Array) -> float:
        pattern = patterns[int(np.argmax(f))]
        if metric == "euclidean":
            return -math.sqrt(math.fsum((z - pattern)**2))
        if metric == "cosine":
            return math.fsum(unit(z) * unit(pattern))
        return math.fsum(z * pattern)

    def loss(z: Array, f: Array) -> float:
        pattern = patterns[int(np.argmax(f))]
        if metric == "euclidean":
            return (dot_loss(len(z)) * float(np.linalg.norm(z - pattern))
                    + U * float(np.linalg.norm(pattern)))
        if metric == "cosine":
            return dot_loss(len(z)) + 2.0 * UNIT_ROUNDING
        return dot_loss(len(z)) * float(np.sum(np.abs(z * pattern)))

    return Result(by_row_of_both(file, score), rtol=5e-6, bound=by_row_of_both(file, loss))


def pnml(file: FeatureFile) -> Result:
    """-log sum_c p_c / (p_c + (1 - p_c) p_c^kappa), kappa = g / (1 + g), g = z'^T (X^T X)^+ z'.

    z' = z / |z|, X the train rows likewise, p = softmax(W z' + b). Bibas, Feder and Hassner,
    NeurIPS 2021, arXiv:2110.09246 (there: over log C).

    Loss: g is that of a squared distance (Precision.loss); W z' + b loses dot_loss |w_c|; what
    either does to the regret is taken by central differences.
    """
    dim = file.train_features.shape[1]
    gram = np.zeros((dim, dim))
    for z in file.train_features:
        gram += np.outer(unit(z), unit(z))
    inverse, rank = pinvh(gram, return_rank=True)
    values = np.linalg.eigvalsh(gram)
    assert values[dim - rank] > 1e-6 * values[-1]  # the rank must not hang on the cutoff
    spectral = math.sqrt(float(np.linalg.norm(inverse, 2)))

    def logits(z: Array) -> Array:
        return np.array([math.fsum(unit(z) * w) for w in file.weight]) + file.bias

    def gain(z: Array) -> float:
        return float(unit(z) @ inverse @ unit(z))

    def regret(f: Array, g: float) -> float:
        kappa, log_p = g / (1.0 + g), log_softmax(f)
        p, rest = np.exp(log_p), -np.expm1(log_p)
        return math.log(math.fsum(p / (p + rest * np.exp(kappa * log_p))))

    def loss(z: Array) -> float:
        f, g, h = logits(z), gain(z), 1e-4
        lost = dot_loss(dim) + UNIT_ROUNDING
        g_lost = 2.0 * math.sqrt(g) * spectral * lost + lost * g
        by_gain = abs(regret(f, g * (1.0 + h)) - regret(f, g * (1.0 - h))) / (2.0 * h * g or 1.0)
        total = by_gain * g_lost + U * regret(f, g)
        for c, w in enumerate(file.weight):
            step = h * np.eye(len(f))[c]
            slope = abs(regret(f + step, g) - regret(f - step, g)) / (2.0 * h)
            total += slope * (lost * float(np.linalg.norm(w)) + 2.0 * U * abs(f[c]))
        return total

    return Result(
        {split: np.array([-regret(logits(z), gain(z)) + 0.0 for z in file.features[split]])
         for split in file.features}, rtol=2e-6,
        bound={split: np.array([loss(z) for z in file.features[split]])
               for split in file.features}, atol=1e-9, state={"rank": int(rank)})
