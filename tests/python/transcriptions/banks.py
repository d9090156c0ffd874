"""Vectorised float64 transcriptions of the scores against stored training rows."""

from __future__ import annotations

from typing import Callable

import numpy as np
import scipy.linalg
from scipy.special import log_softmax, logsumexp, softmax

from transcriptions.arrays import Arrays, Score

BLOCK = 500  # rows that are compared to the whole bank at a time


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def train_logits(data: Arrays) -> np.ndarray:
    return data.features["train"] @ data.weight.T + data.bias


def in_blocks(rows: int, score: Callable[[slice], np.ndarray]) -> np.ndarray:
    return np.concatenate([score(slice(begin, begin + BLOCK)) for begin in range(0, rows, BLOCK)])


def knn_pytorch_ood(data: Arrays) -> Score:
    train = data.features["train"]
    squares = (train**2).sum(axis=1)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        nearest = in_blocks(len(z), lambda rows: (squares - 2 * z[rows] @ train.T).argmin(axis=1))
        return -np.linalg.norm(z - train[nearest], axis=1)
    return score


def knn(data: Arrays, k: int = 50) -> Score:
    train = unit(data.features["train"])

    def score(name: str) -> np.ndarray:
        z = unit(data.features[name])
        cosines = in_blocks(len(z), lambda rows: -np.partition(-z[rows] @ train.T, k - 1)[:, k - 1])
        return -np.sqrt(np.maximum(2 - 2 * cosines, 0))  # unit rows
    return score


def guided(data: Arrays, weights: np.ndarray, k: int) -> Score:
    bank = weights[:, None] * unit(data.features["train"])

    def score(name: str) -> np.ndarray:
        z = unit(data.features[name])
        guidance = in_blocks(
            len(z), lambda rows: np.partition(z[rows] @ bank.T, -k, axis=1)[:, -k:].mean(axis=1))
        return logsumexp(data.logits[name], axis=1) * guidance
    return score


def nnguide(data: Arrays) -> Score:
    return guided(data, logsumexp(train_logits(data), axis=1), 10)


def nnguide_pytorch_ood(data: Arrays) -> Score:
    return guided(data, np.ones(len(data.labels)), 10)


def she(data: Arrays) -> Score:
    predicted = train_logits(data).argmax(axis=1)
    correct = predicted == data.labels
    patterns = np.stack([data.features["train"][correct & (predicted == c)].mean(axis=0)
                         for c in range(len(data.means))])

    def score(name: str) -> np.ndarray:
        chosen = patterns[data.logits[name].argmax(axis=1)]
        return (data.features[name] * chosen).sum(axis=1)
    return score


def relation(data: Arrays) -> Score:
    directions, p = unit(data.features["train"]), softmax(train_logits(data), axis=1)

    def score(name: str) -> np.ndarray:
        z, own = unit(data.features[name]), softmax(data.logits[name], axis=1)

        def related(rows: slice) -> np.ndarray:
            k = np.maximum(z[rows] @ directions.T, 0) * (own[rows] @ p.T)
            return np.where(k > 0.03, k, 0).sum(axis=1)
        return in_blocks(len(z), related)
    return score


def pnml(data: Arrays) -> Score:
    train = unit(data.features["train"])
    inverse = scipy.linalg.pinvh(train.T @ train)

    def score(name: str) -> np.ndarray:
        z = unit(data.features[name])
        gain = ((z @ inverse) * z).sum(axis=1, keepdims=True)
        kappa = gain / (1 + gain)
        log_p = log_softmax(z @ data.weight.T + data.bias, axis=1)
        p = np.exp(log_p)
        return -np.log((p / (p + (1 - p) * np.exp(kappa * log_p))).sum(axis=1))
    return score
