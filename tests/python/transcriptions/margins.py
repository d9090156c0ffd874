"""Float64 transcriptions of scores of margins, centroids and gradients, whole arrays at once."""

from __future__ import annotations


import numpy as np
from scipy.special import logsumexp, softmax

from transcriptions.arrays import Arrays, Score


def fdbd(data: Arrays, normalizer: str = "distance") -> Score:
    origin = data.features["train"].mean(axis=0) if normalizer == "distance" else 0.0
    apart = np.linalg.norm(data.weight[:, None] - data.weight, axis=2)
    np.fill_diagonal(apart, np.inf)

    def score(name: str) -> np.ndarray:
        f = data.logits[name]
        margins = (f.max(axis=1, keepdims=True) - f) / apart[f.argmax(axis=1)]
        mean = margins.sum(axis=1) / (f.shape[1] - 1)
        return mean / np.linalg.norm(data.features[name] - origin, axis=1)
    return score


def nci(data: Arrays, alpha: float = 1e-4) -> Score:
    mean = data.features["train"].mean(axis=0)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        own = data.weight[data.logits[name].argmax(axis=1)]
        along = ((z - mean) * own).sum(axis=1) / np.linalg.norm(z - mean, axis=1)
        return along + alpha * np.abs(z).sum(axis=1)
    return score


def train_logits(data: Arrays) -> np.ndarray:
    return data.features["train"] @ data.weight.T + data.bias


def predicted_means(data: Arrays) -> np.ndarray:
    predicted = train_logits(data).argmax(axis=1)
    return np.stack([data.features["train"][predicted == c].mean(axis=0)
                     for c in range(len(data.weight))])


def caref(data: Arrays) -> Score:
    means = predicted_means(data)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        own = means[data.logits[name].argmax(axis=1)]
        return -np.abs(z - own).sum(axis=1) / np.abs(z).sum(axis=1)
    return score


def cadref(data: Arrays) -> Score:
    means = predicted_means(data)
    mean_energy = logsumexp(train_logits(data), axis=1).mean()

    def score(name: str) -> np.ndarray:
        z, f = data.features[name], data.logits[name]
        y = f.argmax(axis=1)
        raising = np.sign(data.weight[y]) * (z - means[y])
        energy = logsumexp(f, axis=1)
        assert (energy > 0.0).all()
        error = (np.maximum(raising, 0.0).sum(axis=1) / energy
                 + np.maximum(-raising, 0.0).sum(axis=1) / mean_energy)
        return -error / np.abs(z).sum(axis=1)
    return score


def gradnorm(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        p = softmax(data.logits[name], axis=1)
        return np.abs(p - 1.0 / p.shape[1]).sum(axis=1) * np.abs(data.features[name]).sum(axis=1)
    return score


def ora(data: Arrays) -> Score:
    m = data.means.mean(axis=0)

    def score(name: str) -> np.ndarray:
        z, f = data.features[name], data.logits[name]
        y = f.argmax(axis=1)
        widest = np.zeros(len(z))
        for c in range(f.shape[1]):
            normals = data.weight[y] - data.weight[c]
            squared = np.where(y == c, 1.0, (normals**2).sum(axis=1))
            away = (f[np.arange(len(f)), y] - f[:, c]) / squared
            a, b = z - m, z - away[:, None] * normals - m
            a /= np.linalg.norm(a, axis=1, keepdims=True)
            b /= np.linalg.norm(b, axis=1, keepdims=True)
            angle = 2.0 * np.arcsin(np.linalg.norm(a - b, axis=1) / 2.0)
            widest = np.maximum(widest, np.where(y == c, 0.0, angle))
        return widest / np.pi
    return score
