"""Vectorised transcriptions of the logit detectors that are fitted, for real features.

`data` has labels and logits["train"], logits[<set>]: the files have no id_val, so train it is."""

from __future__ import annotations


import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp

from transcriptions.arrays import Arrays, Score


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - logsumexp(logits, axis=1, keepdims=True)


def temperature_scaling(data: Arrays) -> Score:
    logits, rows = data.logits["val"], np.arange(len(data.val_labels))

    def loss(log_t: float) -> float:
        return -log_softmax(logits / np.exp(log_t))[rows, data.val_labels].mean()

    t = np.exp(minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e2)), method="bounded",
                               options={"xatol": 1e-8}).x)

    def score(name: str) -> np.ndarray:
        f = np.sort(data.logits[name] / t, axis=1)
        return f[:, -1] - logsumexp(f[:, :-1], axis=1)
    return score


def kl_templates(data: Arrays, classes: np.ndarray) -> np.ndarray:
    p = np.exp(log_softmax(data.logits["val"]))
    return np.stack([p[classes == c].mean(axis=0) for c in range(p.shape[1])])


def kl_matching(data: Arrays) -> Score:
    templates = kl_templates(data, data.logits["val"].argmax(axis=1))

    def score(name: str) -> np.ndarray:
        log_p = log_softmax(data.logits[name])
        entropy = (np.exp(log_p) * log_p).sum(axis=1, keepdims=True)
        return -(entropy - np.exp(log_p) @ np.log(templates).T).min(axis=1)
    return score


def kl_matching_pytorch_ood(data: Arrays) -> Score:
    templates = kl_templates(data, data.val_labels)

    def score(name: str) -> np.ndarray:
        log_p = log_softmax(data.logits[name])
        own = np.log(templates)[data.logits[name].argmax(axis=1)]
        return -(np.exp(log_p) * (log_p - own)).sum(axis=1)
    return score


def openmax(data: Arrays, tail: int = 20, alpha: int = 10, correct: bool = True) -> Score:
    f = data.logits["train"]
    kept = (f.argmax(axis=1) == data.labels) | (not correct)
    classes = f.shape[1]
    means = np.stack([f[kept & (data.labels == c)].mean(axis=0) for c in range(classes)])
    smallest, shapes, log_scales = np.empty((3, classes))
    for c in range(classes):
        distances = np.linalg.norm(f[kept & (data.labels == c)] - means[c], axis=1)
        largest = np.sort(distances)[-tail:]
        log_y = np.log1p((largest - largest[0]) / 1e4)
        smallest[c] = largest[0]

        def slope(shape: float) -> float:
            w = np.exp(shape * (log_y - log_y[-1]))
            return np.average(log_y, weights=w) - log_y.mean() - 1 / shape

        shapes[c] = brentq(slope, 1e-2, 1e9)
        log_scales[c] = (logsumexp(shapes[c] * log_y) - np.log(tail)) / shapes[c]

    def score(name: str) -> np.ndarray:
        z = data.logits[name]
        distances = np.linalg.norm(z[:, None] - means, axis=2)
        with np.errstate(over="ignore"):
            power = np.exp(shapes * (np.log1p((distances - smallest) / 1e4) - log_scales))
        ranks = np.argsort(np.argsort(-z, axis=1, kind="stable"), axis=1)
        a = min(alpha, classes)
        w = -np.expm1(-power) * np.maximum(a - ranks, 0) / a
        return logsumexp(z * (1 - w), axis=1) - (z * w).sum(axis=1)
    return score


def openmax_openood(data: Arrays) -> Score:
    return openmax(data, alpha=3)


def openmax_pytorch_ood(data: Arrays) -> Score:
    return openmax(data, tail=25, correct=False)


DEFAULTS = (temperature_scaling, kl_matching, openmax)
PRESETS = (("kl_matching", "pytorch_ood", kl_matching_pytorch_ood),
           ("openmax", "openood", openmax_openood),
           ("openmax", "pytorch_ood", openmax_pytorch_ood))
