"""Scores that change the features, the weights or the logits before the energy: react, vra, optfs,
dice, ash, scale, lts, adascale."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from feature_files import SPLITS, Array, FeatureFile
from tolerances import U, Result, dot_loss


def fit_features(file: FeatureFile, split: str) -> Array:
    """Of the split; of train where the file has no id_val."""
    return file.train_features if split == "train" or file.val_features is None \
        else file.val_features


def head_energy(file: FeatureFile, shape: Callable[[Array], Array],
                weight: Array | None = None, **state: object) -> Result:
    """logsumexp(W z' + b), z' = shape(z), one row at a time.

    Loss: that of the float32 products, and of a float32 logsumexp.
    """
    w = file.weight if weight is None else weight
    scores: dict[str, Array] = {}
    bound: dict[str, Array] = {}
    for split in SPLITS:
        shaped = [shape(z) for z in file.features[split]]
        logits = [np.array([math.fsum(row * z) for row in w]) + file.bias for z in shaped]
        scores[split] = np.array([logsumexp(f) for f in logits])
        bound[split] = np.array([
            dot_loss(len(z)) * float(np.max(np.abs(w) @ np.abs(z) + np.abs(file.bias)))
            + 8.0 * U * (float(np.max(np.abs(f))) + math.log(file.classes))
            for z, f in zip(shaped, logits)])
    return Result(scores, rtol=2e-6, bound=bound, state=dict(state) or None)


def react(file: FeatureFile, percentile: float = 90.0, split: str = "train",
          threshold: float = 0.0) -> Result:
    """z' = min(z, t), t the percentile of all entries. Sun et al., NeurIPS 2021."""
    t = threshold or float(np.percentile(fit_features(file, split), percentile))
    return head_energy(file, lambda z: np.minimum(z, t), clip=t)


def vra(file: FeatureFile, low: float = 60.0, high: float = 90.0, scope: str = "dimension",
        below: str = "zero", lift: float = 0.0, split: str = "train",
        thresholds: tuple[float, ...] = ()) -> Result:
    """z' = 0 where z < low, high where z > high, z + lift between. Xu et al., NeurIPS 2023."""
    rows = fit_features(file, split)
    dim = rows.shape[1]
    if thresholds:
        a, b = np.full(dim, thresholds[0]), np.full(dim, thresholds[1])
    elif scope == "dimension":
        a, b = np.percentile(rows, low, axis=0), np.percentile(rows, high, axis=0)
    else:
        a, b = np.full(dim, np.percentile(rows, low)), np.full(dim, np.percentile(rows, high))

    def shape(z: Array) -> Array:
        out = z + lift
        for j in range(dim):
            if z[j] < a[j]:
                out[j] = 0.0 if below == "zero" else a[j]
            elif z[j] > b[j]:
                out[j] = b[j]
        return out

    return head_energy(file, shape, low_threshold=a.tolist(), high_threshold=b.tolist())


OPTFS_BINS = 100


def optfs(file: FeatureFile) -> Result:
    """z'_j = theta_bin(z_j) z_j. Zhao et al., ICLR 2024: theta is in the direction of the mean
    contribution of each bin to the predicted logit, and 1000 long. 0 outside of the bins."""
    rows = file.train_features
    left, right = np.quantile(rows, 1e-3), np.quantile(rows, 1.0 - 1e-3)
    width = (right - left) / OPTFS_BINS

    def bins(z: Array) -> list[int]:
        return [math.floor(x) for x in (z - left) / width]

    contribution = np.zeros(OPTFS_BINS)
    for z, f in zip(rows, file.train_logits):
        predicted = int(np.argmax(f))
        for j, k in enumerate(bins(z)):
            if 0 <= k < OPTFS_BINS:
                contribution[k] += file.weight[predicted, j] * z[j] / len(rows)
    theta = 1000.0 * contribution / np.linalg.norm(contribution)

    def shape(z: Array) -> Array:
        return np.array([theta[k] * x if 0 <= k < OPTFS_BINS else 0.0
                         for k, x in zip(bins(z), z)])

    return head_energy(file, shape, left=float(left), width=float(width), theta=theta.tolist())


def dice(file: FeatureFile, percentile: float = 90.0) -> Result:
    """logsumexp((W * M) z + b), M = V > percentile(V), V_cj = W_cj mean_j. Sun & Li, ECCV 2022."""
    contribution = file.weight * file.train_features.mean(axis=0)
    mask = contribution > np.percentile(contribution, percentile)
    return head_energy(file, lambda z: z, weight=np.where(mask, file.weight, 0.0),
                       kept=int(mask.sum()))


def kept_entries(dim: int, percentile: float) -> int:
    """Python's round takes ties to even, as numpy's does."""
    return max(1, dim - round(dim * percentile / 100.0))


def largest(z: Array, k: int) -> Array:
    """Of equal entries the first are taken."""
    return np.argsort(-z, kind="stable")[:k]


def share_ratio(z: Array, k: int) -> float:
    """sum z / sum of the k largest, 1 for a row of zeros; z >= 0."""
    top = math.fsum(z[largest(z, k)])
    return math.fsum(z) / top if top > 0.0 else 1.0


def rectified(z: Array, relu: bool) -> Array:
    assert relu or np.all(z >= 0.0)
    return np.maximum(z, 0.0)


def ash(file: FeatureFile, variant: str = "s", percentile: float = 90.0,
        relu: bool = False) -> Result:
    """The k largest entries: as they are (p), s1 / k (b), times exp(s1 / s2) (s); 0 elsewhere.
    Djurisic et al., ICLR 2023."""
    def shape(raw: Array) -> Array:
        z = rectified(raw, relu)
        k = kept_entries(len(z), percentile)
        top = largest(z, k)
        out = np.zeros(len(z))
        if variant == "p":
            out[top] = z[top]
        elif variant == "b":
            out[top] = math.fsum(z) / k
        else:
            out[top] = z[top] * math.exp(share_ratio(z, k))
        return out

    return head_energy(file, shape)


def scale(file: FeatureFile, percentile: float = 85.0, relu: bool = False) -> Result:
    """z' = z exp(s1 / s2). Xu et al., ICLR 2024."""
    def shape(raw: Array) -> Array:
        z = rectified(raw, relu)
        return z * math.exp(share_ratio(z, kept_entries(len(z), percentile)))

    return head_energy(file, shape)


def scaled_logits(file: FeatureFile, ratio: Callable[[str, int], float], **state: object) -> Result:
    """logsumexp(r^2 f), r = ratio(split, row)."""
    scores: dict[str, Array] = {}
    bound: dict[str, Array] = {}
    for split in SPLITS:
        scaled = [ratio(split, i)**2 * f for i, f in enumerate(file.logits[split])]
        scores[split] = np.array([logsumexp(f) for f in scaled])
        # r^2 and r^2 f, rounded to float32, and the float32 logsumexp
        bound[split] = np.array([12.0 * U * (float(np.max(np.abs(f))) + math.log(file.classes))
                                 for f in scaled])
    return Result(scores, rtol=2e-6, bound=bound, state=dict(state) or None)


def lts(file: FeatureFile, percentile: float = 95.0, relu: bool = False) -> Result:
    """logsumexp(r^2 f), r = s1 / s2. Djurisic et al., 2024, arXiv:2409.01175."""
    def ratio(split: str, i: int) -> float:
        z = rectified(file.features[split][i], relu)
        return share_ratio(z, kept_entries(len(z), percentile))

    return scaled_logits(file, ratio)


def adascale(file: FeatureFile, variant: str = "a", k1: float = 5.0, k2: float = 1.0,
             shift_weight: float = 10.0, percentile_min: float = 75.0, percentile_max: float = 85.0,
             copy: int = 0) -> Result:
    """r = sum relu(z) / sum of its k largest, with a percentile that falls with the rank of
    q = sum of relu(z') at the k1 % largest z + shift_weight * sum of |z - z'| at the k2 % largest
    z among those of id_val. -a: logsumexp(W z e^r + b), -l: logsumexp(r^2 f).
    Regmi, 2025, arXiv:2503.08023."""
    dim = file.weight.shape[1]
    count1, count2 = (max(1, math.floor(dim * k / 100.0)) for k in (k1, k2))

    def shift(z: Array, moved: Array) -> float:
        at1, at2 = largest(z, count1), largest(z, count2)
        return (math.fsum(np.maximum(moved[at1], 0.0))
                + shift_weight * math.fsum(np.abs(z[at2] - moved[at2])))

    known = np.array([shift(z, moved) for z, moved in zip(file.val_features,
                                                          file.copy_features["id_val"][copy])])

    def ratio(split: str, i: int) -> float:
        z = file.features[split][i]
        q = shift(z, file.copy_features[split][copy][i])
        # no q on an edge of the ECDF, but for rows of zeros
        assert q == 0.0 or np.min(np.abs(known - q)) > 1e-9 * q
        below = float(np.mean(known <= q))
        percentile = percentile_min + (1.0 - below) * (percentile_max - percentile_min)
        return share_ratio(np.maximum(z, 0.0), kept_entries(dim, percentile))

    state = {"shifts": np.sort(known).tolist()}
    if variant == "l":
        return scaled_logits(file, ratio, **state)
    ratios = {tuple(z): ratio(split, i) for split in SPLITS
              for i, z in enumerate(file.features[split])}
    return head_energy(file, lambda z: z * math.exp(ratios[tuple(z)]), **state)
