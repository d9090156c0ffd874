"""The activation-shaping detectors in vectorised float64, for comparison on real features."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from transcriptions.arrays import Arrays, Score


def energy(data: Arrays, rows: np.ndarray) -> np.ndarray:
    return logsumexp(rows @ data.weight.T + data.bias, axis=1)


def react(data: Arrays) -> Score:
    threshold = np.percentile(data.features["train"], 90)
    return lambda name: energy(data, np.minimum(data.features[name], threshold))


def react_at_1(data: Arrays) -> Score:
    """Preset pytorch_ood."""
    return lambda name: energy(data, np.minimum(data.features[name], 1.0))


def vra(data: Arrays) -> Score:
    low, high = np.percentile(data.features["train"], [60, 90], axis=0)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        return energy(data, np.where(z < low, 0.0, np.minimum(z, high)))
    return score


def vra_clip_all(data: Arrays) -> Score:
    """Preset openood."""
    low, high = np.percentile(data.features["val"], [10, 90])
    return lambda name: energy(data, np.clip(data.features[name], low, high))


def vra_clip(data: Arrays) -> Score:
    """Preset pytorch_ood."""
    low, high = np.percentile(data.features["train"], [1, 99], axis=0)
    return lambda name: energy(data, np.clip(data.features[name], low, high))


def optfs(data: Arrays) -> Score:
    train = data.features["train"]
    left, right = np.quantile(train, [1e-3, 1 - 1e-3])
    width = (right - left) / 100

    def bins(rows: np.ndarray) -> np.ndarray:
        """0 and 101 are outside."""
        return np.clip(np.floor((rows - left) / width), -1, 100).astype(int) + 1

    predicted = (train @ data.weight.T + data.bias).argmax(axis=1)
    theta = np.bincount(bins(train).ravel(), (data.weight[predicted] * train).ravel(),
                        minlength=102)
    theta[[0, -1]] = 0
    theta *= 1000 / np.linalg.norm(theta)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        return energy(data, theta[bins(z)] * z)
    return score


def dice(data: Arrays) -> Score:
    contribution = data.weight * data.features["train"].mean(axis=0)
    sparse = np.where(contribution > np.percentile(contribution, 90), data.weight, 0.0)
    return lambda name: logsumexp(data.features[name] @ sparse.T + data.bias, axis=1)


def largest(rows: np.ndarray, percentile: float) -> np.ndarray:
    """Where the k largest entries of each row are, of equal ones the first."""
    dim = rows.shape[1]
    order = np.argsort(-rows, axis=1, kind="stable")[:, :dim - round(dim * percentile / 100)]
    mask = np.zeros(rows.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def ratio(rows: np.ndarray, percentile: float) -> np.ndarray:
    top = np.where(largest(rows, percentile), rows, 0.0)
    return rows.sum(axis=1, keepdims=True) / top.sum(axis=1, keepdims=True)


def ash(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        z = data.features[name]
        return energy(data, np.where(largest(z, 90), z * np.exp(ratio(z, 90)), 0.0))
    return score


def ash_b(data: Arrays) -> Score:
    """Preset openood."""
    def score(name: str) -> np.ndarray:
        z = data.features[name]
        mask = largest(z, 90)
        level = z.sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True)
        return energy(data, np.where(mask, level, 0.0))
    return score


def scale(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        z = data.features[name]
        return energy(data, z * np.exp(ratio(z, 85)))
    return score


def lts(data: Arrays) -> Score:
    return lambda name: logsumexp(data.logits[name] * ratio(data.features[name], 95)**2, axis=1)
