"""Float64 transcriptions of scores of logits that fit nothing."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, xlogy

from transcriptions.arrays import Arrays, Score


def msp(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        # log1p of the others: log_softmax has no digits left near 0
        others = np.sort(data.logits[name], axis=1)
        return -np.log1p(np.exp(others[:, :-1] - others[:, -1:]).sum(axis=1))
    return score


def max_logit(data: Arrays) -> Score:
    return lambda name: data.logits[name].max(axis=1)


def energy(data: Arrays) -> Score:
    return lambda name: logsumexp(data.logits[name], axis=1)


def entropy(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        log_p = data.logits[name] - logsumexp(data.logits[name], axis=1, keepdims=True)
        return xlogy(np.exp(log_p), np.exp(log_p)).sum(axis=1)
    return score


def gen(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        log_p = data.logits[name] - logsumexp(data.logits[name], axis=1, keepdims=True)
        return -((np.exp(log_p) * -np.expm1(log_p)) ** 0.1).sum(axis=1)
    return score


def doctor(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        log_p = data.logits[name] - logsumexp(data.logits[name], axis=1, keepdims=True)
        return (np.exp(log_p) * np.expm1(log_p)).sum(axis=1)
    return score


def kl_uniform(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        logits = data.logits[name]
        return logsumexp(logits, axis=1) - logits.mean(axis=1) - np.log(logits.shape[1])
    return score
