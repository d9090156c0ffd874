"""Float64 transcriptions of Gaussians, distances to means and residuals."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from scipy.special import logsumexp

from transcriptions.arrays import Arrays, Score, unit_rows


def max_cosine(data: Arrays) -> Score:
    directions = data.means / np.linalg.norm(data.means, axis=1, keepdims=True)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        return (z @ directions.T).max(axis=1) / np.linalg.norm(z, axis=1)
    return score


def relative_mahalanobis(data: Arrays) -> Score:
    train = data.features["train"]
    mean = train.mean(axis=0)
    within, total = train - data.means[data.labels], train - mean
    precision = scipy.linalg.pinvh(within.T @ within / len(train))
    background = scipy.linalg.pinvh(total.T @ total / len(train))

    def squared(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->i", rows @ matrix, rows)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        nearest = np.min([squared(z - mu, precision) for mu in data.means], axis=0)
        return squared(z - mean, background) - nearest
    return score


def mahalanobis(data: Arrays) -> Score:
    within = data.features["train"] - data.means[data.labels]
    precision = scipy.linalg.pinvh(within.T @ within / len(within))

    def score(name: str) -> np.ndarray:
        return -np.min([np.einsum("ij,ij->i", rows @ precision, rows)
                        for rows in (data.features[name] - mu for mu in data.means)], axis=0)
    return score


def ssd(data: Arrays) -> Score:
    train = unit_rows(data).features["train"]
    mean = train.mean(axis=0)
    precision = scipy.linalg.pinvh(np.cov(train, rowvar=False, bias=True))

    def score(name: str) -> np.ndarray:
        rows = unit_rows(data).features[name] - mean
        return -np.einsum("ij,ij->i", rows @ precision, rows)
    return score


def gaussian_density(data: Arrays) -> Score:
    dim = data.means.shape[1]

    def log_density(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        mean, covariance = own.mean(axis=0), np.cov(own, rowvar=False)
        squared = ((rows - mean) * np.linalg.solve(covariance, (rows - mean).T).T).sum(axis=1)
        volume = np.linalg.slogdet(covariance)[1] + dim * math.log(2 * math.pi)
        return math.log(len(own) / len(data.labels)) - 0.5 * (squared + volume)

    def score(name: str) -> np.ndarray:
        return logsumexp([log_density(data.features[name], data.features["train"][data.labels == c])
                          for c in range(len(data.means))], axis=0)
    return score


def gem(data: Arrays) -> Score:
    within = data.features["train"] - data.means[data.labels]
    covariance = within.T @ within / len(within)
    precision = scipy.linalg.pinvh(covariance)
    values = np.linalg.eigvalsh(covariance)
    kept = values[values > len(values) * np.finfo(np.float64).eps * values[-1]]
    volume = np.log(kept).sum() + len(kept) * math.log(2 * math.pi)

    def score(name: str) -> np.ndarray:
        squared = [np.einsum("ij,ij->i", rows @ precision, rows)
                   for rows in (data.features[name] - mu for mu in data.means)]
        return logsumexp(-0.5 * np.array(squared), axis=0) - math.log(len(squared)) - 0.5 * volume
    return score


def residual(data: Arrays) -> Score:
    origin = -scipy.linalg.pinv(data.weight) @ data.bias
    train = data.features["train"] - origin
    dim = train.shape[1] // 2  # of features narrower than 768
    basis = np.linalg.eigh(train.T @ train / len(train))[1][:, :-dim]

    def score(name: str) -> np.ndarray:
        return -np.linalg.norm((data.features[name] - origin) @ basis, axis=1)
    return score


def vim(data: Arrays) -> Score:
    left_over = residual(data)
    alpha = data.logits["train"].max(axis=1).mean() / -left_over("train").mean()
    return lambda name: logsumexp(data.logits[name], axis=1) + alpha * left_over(name)
