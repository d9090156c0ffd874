"""Scores of margins, centroids and gradients: fdbd, nci, caref, cadref, gradnorm, ora."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from feature_files import SPLITS, Array, FeatureFile, class_means
from logit_scores import log_softmax
from tolerances import U, Result

# What is computed in float64 from float32 inputs and rounded once, or has such factors.
FLOAT64_RTOL = 1e-6


def by_pair(file: FeatureFile, score: Callable[[Array, Array], float]) -> dict[str, Array]:
    return {split: np.array([score(z, f)
                             for z, f in zip(file.features[split], file.logits[split])])
            for split in SPLITS}


def quotient(a: float, b: float) -> float:
    """a / b with a >= 0: 0 / 0 is 0, a / 0 infinite."""
    return 0.0 if a == 0.0 else math.inf if b == 0.0 else a / b


def fdbd(file: FeatureFile, normalizer: str = "distance") -> Result:
    """mean over c != y of (f_y - f_c) / |w_y - w_c|, divided by |z - mu|; y = argmax f.

    Liu and Qin, ICML 2024, arXiv:2312.11536. normalizer = norm: divided by |z|.
    """
    mean = file.train_features.mean(axis=0)

    def score(z: Array, f: Array) -> float:
        y = int(np.argmax(f))
        distances = [(f[y] - f[c]) / float(np.linalg.norm(file.weight[y] - file.weight[c]))
                     for c in range(len(f)) if c != y]
        divisor = z - mean if normalizer == "distance" else z
        return quotient(math.fsum(distances) / len(distances), float(np.linalg.norm(divisor)))

    return Result(by_pair(file, score), rtol=FLOAT64_RTOL)


def nci(file: FeatureFile, alpha: float = 1e-4) -> Result:
    """<w_y, z - mu> / |z - mu| + alpha |z|_1, y = argmax f.

    Liu and Qin, CVPR 2025, arXiv:2311.01479.
    """
    mean = file.train_features.mean(axis=0)

    def score(z: Array, f: Array) -> float:
        w = file.weight[int(np.argmax(f))]
        return (math.fsum(w * (z - mean)) / float(np.linalg.norm(z - mean))
                + alpha * math.fsum(abs(z)))

    def loss(z: Array, f: Array) -> float:
        """Of a float32 mean, differences, their product with w, and the two sums."""
        w, away = file.weight[int(np.argmax(f))], float(np.linalg.norm(z - mean))
        return (10.0 + math.sqrt(len(z))) * U * (
            float(np.linalg.norm(w)) * (1.0 + float(np.linalg.norm(mean)) / away)
            + alpha * math.fsum(abs(z)))

    return Result(by_pair(file, score), rtol=FLOAT64_RTOL, bound=by_pair(file, loss))


def predicted_means(file: FeatureFile) -> Array:
    """Means of the train rows that are predicted to be of each class."""
    predicted = np.array([int(np.argmax(f)) for f in file.train_logits])
    assert set(predicted) == set(range(file.classes))
    return np.array([file.train_features[predicted == c].mean(axis=0)
                     for c in range(file.classes)])


def rounding_of_means(z: Array, mean: Array) -> float:
    """What means rounded to float32 lose of |z - mu|_1 / |z|_1."""
    return U * quotient(math.fsum(abs(mean)), math.fsum(abs(z))) if np.any(z) else 0.0


def caref(file: FeatureFile) -> Result:
    """-|z - mu_y|_1 / |z|_1, y = argmax f, mu_c the mean of the train rows predicted as c.

    Ling et al., CVPR 2025, arXiv:2503.00325 (CADRef, there the first of two scores).
    """
    means = predicted_means(file)

    def score(z: Array, f: Array) -> float:
        return -quotient(math.fsum(abs(z - means[int(np.argmax(f))])), math.fsum(abs(z)))

    return Result(by_pair(file, score), rtol=FLOAT64_RTOL,
                  bound=by_pair(file, lambda z, f: rounding_of_means(z, means[int(np.argmax(f))])))


def confidence_of(name: str, f: Array) -> float:
    if name == "energy":
        top = float(np.max(f))
        return top + math.log(math.fsum(math.exp(x - top) for x in f))
    if name == "max_logit":
        return float(np.max(f))
    log_p = log_softmax(f)
    if name == "msp":
        return math.exp(float(np.max(log_p)))
    assert name == "gen"  # of max(10, C / 10) classes, gamma = 0.1
    largest = np.sort(log_p)[::-1][:max(10, len(f) // 10)]
    return quotient(1.0, math.fsum(math.exp(0.1 * x) * (-math.expm1(x))**0.1 for x in largest))


def confidence_loss(name: str, f: Array) -> float:
    """Of float32, relative to the confidence."""
    if name == "energy":
        return 8.0 * U * (abs(float(np.max(f))) + math.log(len(f))) / abs(confidence_of(name, f))
    return {"max_logit": U, "msp": 1e-5, "gen": 1e-5}[name]


def cadref(file: FeatureFile, confidence: str = "energy") -> Result:
    """-(E_p / S + E_n / mean S), e = sign(w_y) (z - mu_y), E_p = sum_j max(e_j, 0) / |z|_1,
    E_n = sum_j max(-e_j, 0) / |z|_1, mean S over train; mu_y as in caref.

    Ling et al., CVPR 2025, arXiv:2503.00325. S <= 0, of which the paper says nothing, is taken as
    its limit: infinite E_p / S.
    """
    means = predicted_means(file)
    mean_confidence = float(np.mean([confidence_of(confidence, f) for f in file.train_logits]))
    assert mean_confidence > 0.0

    def parts(z: Array, f: Array) -> tuple[float, float]:
        y = int(np.argmax(f))
        e = np.sign(file.weight[y]) * (z - means[y])
        s, length = confidence_of(confidence, f), math.fsum(abs(z))
        positive = quotient(math.fsum(e[e > 0.0]), max(s, 0.0))
        negative = math.fsum(-e[e < 0.0]) / mean_confidence
        return quotient(positive, length), quotient(negative, length)

    def loss(z: Array, f: Array) -> float:
        s = confidence_of(confidence, f)
        positive, negative = parts(z, f)
        if not math.isfinite(positive + negative):
            return 0.0
        train_loss = max(confidence_loss(confidence, g) for g in file.train_logits)
        return (positive * confidence_loss(confidence, f) + negative * train_loss
                + rounding_of_means(z, means[int(np.argmax(f))])
                * (1.0 / s + 1.0 / mean_confidence))

    return Result(by_pair(file, lambda z, f: -sum(parts(z, f))), rtol=FLOAT64_RTOL,
                  bound=by_pair(file, loss), state={"mean_confidence": mean_confidence},
                  state_atol={"mean_confidence": 1e-5 * mean_confidence})


def gradnorm(file: FeatureFile, temperature: float = 1.0) -> Result:
    """Sum of the absolute entries of d KL(u || softmax(f / T)) / dW, f = W z + b, u = 1 / C.

    Huang et al., NeurIPS 2021, arXiv:2110.00218. d KL / df_c = (p_c - u_c) / T, and f_c depends on
    row c of W, by z.
    """
    def score(z: Array, f: Array) -> float:
        p = np.exp(log_softmax(f / temperature))
        gradient = np.outer((p - 1.0 / len(f)) / temperature, z)
        return math.fsum(abs(gradient.ravel()))

    return Result(by_pair(file, score), rtol=FLOAT64_RTOL)


def ora(file: FeatureFile) -> Result:
    """max over c != y of the angle at m between z and its projection z_c on the boundary between y
    and c, over pi. m = mean of the class means.

    Demirel, Fumero and Locatello, NeurIPS 2025, arXiv:2410.04525. In float32 the logits and the
    distances of weights lose a few U of the products that the angle is made of.
    """
    m = class_means(file).mean(axis=0)

    def angle(z: Array, f: Array, y: int, c: int) -> float:
        normal = file.weight[y] - file.weight[c]
        projection = z - (f[y] - f[c]) / float(normal @ normal) * normal
        a, b = z - m, projection - m
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        # well-conditioned: no row lies behind m as seen from a boundary
        assert abs(a @ normal) < 0.99 * np.linalg.norm(normal)
        return 2.0 * math.atan2(float(np.linalg.norm(a - b)), float(np.linalg.norm(a + b)))

    def score(z: Array, f: Array) -> float:
        y = int(np.argmax(f))
        return max(angle(z, f, y, c) for c in range(len(f)) if c != y) / math.pi

    return Result(by_pair(file, score), rtol=FLOAT64_RTOL, atol=1e-6)
