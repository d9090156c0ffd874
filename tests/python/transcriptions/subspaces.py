"""Subspace and histogram scores of real features, by whole arrays of numpy in float64."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_softmax, softmax

from conftest import SOURCE
from transcriptions.arrays import Arrays, Score

sys.path.insert(0, str(SOURCE / "tests/reference"))
import philox  # noqa: E402


def unit(z: np.ndarray) -> np.ndarray:
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def blocks(z: np.ndarray) -> list[np.ndarray]:
    return np.array_split(z, len(z) // 4000 + 1)


def principal(values: np.ndarray, vectors: np.ndarray, share: float) -> np.ndarray:
    """Of an ascending spectrum the vectors, in rows, that hold the share of the variance."""
    cumulative = np.cumsum(values[::-1]) / values.sum()
    return vectors.T[::-1][:int(np.searchsorted(cumulative, share)) + 1]


def neco(data: Arrays, dim: int = 0, factor: bool = True) -> Score:
    train = data.features["train"]
    mean, std = train.mean(axis=0), train.std(axis=0)
    values, vectors = np.linalg.eigh(np.corrcoef(train, rowvar=False))
    directions = vectors.T[::-1][:dim] if dim else principal(values, vectors, 0.9)

    def score(name: str) -> np.ndarray:
        x = (data.features[name] - mean) / std
        ratio = np.linalg.norm(x @ directions.T, axis=1) / np.linalg.norm(x, axis=1)
        return ratio * (data.logits[name].max(axis=1) if factor else 1.0)
    return score


def neco_of_resnets(data: Arrays) -> Score:
    return neco(data, factor=False)


def left_over(data: Arrays, mapping: Callable[[np.ndarray], np.ndarray], share: float) -> Score:
    train = blocks(data.features["train"])
    rows = sum(len(z) for z in train)
    mean = sum(mapping(z).sum(axis=0) for z in train) / rows
    moved = (mapping(z) - mean for z in train)
    directions = principal(*np.linalg.eigh(sum(x.T @ x for x in moved) / rows), share)

    def of_block(z: np.ndarray) -> np.ndarray:
        x = mapping(z) - mean
        return -np.linalg.norm(x - x @ directions.T @ directions, axis=1)

    return lambda name: np.concatenate([of_block(z) for z in blocks(data.features[name])])


def cop(data: Arrays, share: float = 0.85) -> Score:
    return left_over(data, unit, share)


def cop_of_imagenet(data: Arrays) -> Score:
    return cop(data, 0.99)


def corp(data: Arrays, share: float = 0.8, gamma: float = 2.0, dimension: int = 2048) -> Score:
    width = data.features["train"].shape[1]
    weight = np.stack([philox.normal(0, 0x430, m, width) for m in range(dimension)])
    phase = philox.uniforms(0, 0x431, dimension)
    return left_over(
        data, lambda z: math.sqrt(2 / dimension) * np.cos(
            math.sqrt(2 * gamma) * unit(z) @ weight.T + 2 * math.pi * phase), share)


def wdiscood(data: Arrays, weight: float = 5.0) -> Score:
    train, labels, means = data.features["train"], data.labels, data.means
    within = train - means[labels]
    values, vectors = np.linalg.eigh(within.T @ within / len(train))
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    whitening = vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T
    places, mean = means @ whitening, train.mean(axis=0) @ whitening
    basis = np.linalg.svd(places - mean)[2][:len(means) - 1]

    def score(name: str) -> np.ndarray:
        x = data.features[name] @ whitening
        nearest = np.min([np.linalg.norm((x - place) @ basis.T, axis=1) for place in places],
                         axis=0)
        rest = (x - mean) - (x - mean) @ basis.T @ basis
        return -nearest - weight * np.linalg.norm(rest, axis=1)
    return score


def weiper(data: Arrays, copies: int = 100, delta: float = 1.8, lambda1: float = 2.5,
           lambda2: float = 0.1, windows: tuple[int, int] = (4, 15), bins: int = 100) -> Score:
    classes, width = data.weight.shape
    noise = np.stack([philox.normal(0, 0x410, i, width) for i in range(copies * classes)])
    own = np.tile(data.weight, (copies, 1))
    weight = own + delta * np.linalg.norm(own, axis=1, keepdims=True) * unit(noise)
    bias = np.tile(data.bias, copies)

    def histograms(x: np.ndarray, least: float, most: float) -> np.ndarray:
        place = np.floor((x - least) * (bins / (most - least)))
        inside = (place >= 0) & (place < bins)
        flat = (np.arange(len(x))[:, None] * bins + np.where(inside, place, 0)).astype(np.int64)
        counts = np.bincount(flat[inside], minlength=len(x) * bins)
        return counts.reshape(len(x), bins) / x.shape[1]

    def ends(least: float, most: float) -> tuple[float, float]:
        gap = (most - least) / len(data.features["train"])
        return least - gap, most + gap

    def divergence(mean: np.ndarray, rows: np.ndarray, window: int, epsilon: float) -> np.ndarray:
        left = (window - 1) // 2
        padded = np.pad(rows, ((0, 0), (left, window - 1 - left)), mode="edge")
        smooth = sum(padded[:, k:k + bins] for k in range(window)) / window
        p, q = mean + epsilon, smooth + epsilon
        p, q = p / p.sum(), q / q.sum(axis=1, keepdims=True)
        return ((p - q) * np.log(p / q)).sum(axis=1)

    train = data.features["train"]
    range1 = ends(train.min(), train.max())
    range2 = ends(min((z @ weight.T + bias).min() for z in blocks(train)),
                  max((z @ weight.T + bias).max() for z in blocks(train)))
    mean1 = histograms(train, *range1).mean(axis=0)
    mean2 = sum(histograms(z @ weight.T + bias, *range2).sum(axis=0)
                for z in blocks(train)) / len(train)

    def of_block(z: np.ndarray) -> np.ndarray:
        logits = z @ weight.T + bias
        confidence = softmax(logits.reshape(-1, copies, classes), axis=2).max(axis=2).mean(axis=1)
        return (lambda2 * confidence
                - divergence(mean1, histograms(z, *range1), windows[0], 0.01)
                - lambda1 * divergence(mean2, histograms(logits, *range2), windows[1], 0.025))

    return lambda name: np.concatenate([of_block(z) for z in blocks(data.features[name])])


def nac(data: Arrays, alpha: float = 100.0, saturation: float = 50.0, bins: int = 50,
        rows: int = 1000) -> Score:
    def states(z: np.ndarray, logits: np.ndarray) -> np.ndarray:
        slope = (np.exp(log_softmax(logits, axis=1)) - 1 / logits.shape[1]) @ data.weight
        return expit(alpha * z * slope)

    half = np.log(np.linspace(1, math.sqrt(1000), bins // 2)) / math.log(1000)
    edges = np.r_[half[1:-1], 0.5, 1 - half[1:-1][::-1]]
    train = data.features["train"]
    chosen: list[int] = []
    for i, u in enumerate(philox.uniforms(0, 0x420, len(train))):
        if u * (len(train) - i) < rows - len(chosen):
            chosen.append(i)
    logits = data.logits["train"][chosen]
    place = np.searchsorted(edges, states(train[chosen], logits), side="right")
    cover = np.stack([np.minimum(np.bincount(column, minlength=len(edges) + 1), saturation)
                      for column in place.T])  # whole numbers: rounding breaks no tie

    def score(name: str) -> np.ndarray:
        place = np.searchsorted(edges, states(data.features[name], data.logits[name]), side="right")
        return cover[np.arange(len(cover)), place].sum(axis=1) / (saturation * len(cover))
    return score


def corp_of_256(data: Arrays) -> Score:
    return corp(data, dimension=256)


# The transcriptions of defaults, by name of the detector; then (detector, what follows -p, ...).
# CoRP by numpy at its default of 2048 takes minutes.
DEFAULTS = [neco, cop, wdiscood, weiper, nac]
OPTIONS = [("neco", "preset=resnet", neco_of_resnets), ("cop", "preset=imagenet", cop_of_imagenet),
           ("corp", "dimension=256", corp_of_256)]
