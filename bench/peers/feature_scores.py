"""Scores that a product bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from data import Features
from row_by_row import precision_and_means
from work import Contender, Run, Work, threads


def ours(name: str, inputs: Callable[[Features], dict[str, Any]] = lambda data: {},
         scored: tuple[str, ...] = ("features",), **options: Any) -> Callable[[Features], Run]:
    """The detector fitted on features and `inputs`."""
    def prepare(data: Features) -> Run:
        import ood

        detector = getattr(ood, name)(**options).fit(features=data.train, **inputs(data))
        arrays = {"features": data.test}
        if "logits" in scored:
            arrays["logits"] = data.test_logits
        return lambda: detector.score(**arrays, threads=threads())
    return prepare


def labels(data: Features) -> dict[str, Any]:
    return {"labels": data.labels}


def head(data: Features) -> dict[str, Any]:
    return {"head": data.head}


def log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
    largest = x.max(axis, keepdims=True)
    return np.log(np.exp(x - largest).sum(axis)) + largest.squeeze(axis)


def numpy_conjnorm(data: Features) -> Run:
    """As published: float64, whole [n, C] and [n, D] arrays."""
    p, t = 2.5, 0.08
    q = p / (p - 1)

    def unit(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        return x / (np.linalg.norm(x, p, axis=1, keepdims=True) + 1e-10)

    mu = unit(np.stack([data.train[data.labels == k].mean(axis=0, dtype=np.float64)
                        for k in range(data.classes)]))
    size = np.linalg.norm(mu, q, axis=1, keepdims=True)
    gradient = np.sign(mu) * np.abs(mu) ** (q - 1) / size ** (q - 2)

    def exponents(x: np.ndarray) -> np.ndarray:
        z = unit(x)
        half = np.linalg.norm(z, q, axis=1, keepdims=True) ** 2 / 2
        return (z @ gradient.T - half - size.T**2 / 2) / t

    offset = log_sum_exp(exponents(data.train), axis=0) + np.log(data.classes)
    return lambda: log_sum_exp(exponents(data.test) - offset, axis=1)


def numpy_vim(data: Features) -> Run:
    """The authors' benchmark.py, with float32 arrays where it has them."""
    from scipy.special import logsumexp

    dim = 1000 if data.dim >= 2048 else 512 if data.dim >= 768 else data.dim // 2
    u = -np.linalg.pinv(data.weight) @ data.bias
    away = (data.train - u).astype(np.float64)
    values, vectors = np.linalg.eigh(away.T @ away / len(away))
    rest = np.ascontiguousarray(vectors[:, np.argsort(-values)[dim:]]).astype(np.float32)
    of_train = np.linalg.norm((data.train - u) @ rest, axis=1)
    alpha = data.train_logits.max(axis=1).mean() / of_train.mean()

    def run() -> np.ndarray:
        left_over = np.linalg.norm((data.test - u) @ rest, axis=1)
        return logsumexp(data.test_logits, axis=1) - alpha * left_over
    return run


def torch_react(data: Features) -> Run:
    import torch

    torch.set_num_threads(threads())
    features, weight, bias = map(torch.from_numpy, (data.test, data.weight, data.bias))
    threshold = float(np.percentile(data.train, 90))
    return lambda: (features.clip(max=threshold) @ weight.T + bias).logsumexp(dim=1).numpy()


def torch_dice(data: Features) -> Run:
    """With one product; OpenOOD's multiplies [n, 1, D] by [C, D] and sums, which is far slower."""
    import torch

    torch.set_num_threads(threads())
    contribution = data.weight * data.train.mean(axis=0)
    sparse = np.where(contribution > np.percentile(contribution, 90), data.weight, 0).astype(np.float32)
    features, weight, bias = map(torch.from_numpy, (data.test, sparse, data.bias))
    return lambda: (features @ weight.T + bias).logsumexp(dim=1).numpy()


def torch_shaped(data: Features, ash: bool) -> Run:
    """OpenOOD's ash_s, with exp of the ratio, and scale: the top k of each row."""
    import torch

    torch.set_num_threads(threads())
    features, weight, bias = map(torch.from_numpy, (data.test, data.weight, data.bias))
    k = data.dim - round(data.dim * (0.9 if ash else 0.85))

    def run() -> np.ndarray:
        top = features.topk(k, dim=1)
        ratio = features.sum(dim=1, keepdim=True) / top.values.sum(dim=1, keepdim=True)
        kept = torch.zeros_like(features).scatter_(1, top.indices, top.values) if ash else features
        return ((kept * ratio.exp()) @ weight.T + bias).logsumexp(dim=1).numpy()
    return run


def numpy_mahalanobis(data: Features) -> Run:
    """The best that numpy can do, without loops: two products."""
    precision, means = precision_and_means(data)
    values, vectors = np.linalg.eigh(precision)
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    center = means.mean(axis=0)
    places = ((means - center) @ root).astype(np.float32)
    squares = (places.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    center = center.astype(np.float32)

    def run() -> np.ndarray:
        y = (data.test - center) @ root
        return -((y * y).sum(axis=1) + (squares - 2 * y @ places.T).min(axis=1))
    return run


def fit_mahalanobis(data: Features) -> Run:
    import ood

    def run() -> Run:
        detector = ood.Mahalanobis().fit(features=data.train, labels=data.labels, threads=threads())
        return lambda: detector.score(data.test)
    return run


def fit_mahalanobis_openood(data: Features) -> Run:
    """Rows of each class, centred; scikit-learn's EmpiricalCovariance of all of them."""
    from sklearn.covariance import EmpiricalCovariance

    def run() -> Run:
        means, away = [], []
        for c in range(data.classes):
            rows = data.train[data.labels == c]
            means.append(rows.mean(axis=0))
            away.append(rows - means[c])
        model = EmpiricalCovariance(assume_centered=True).fit(np.concatenate(away))

        def score() -> np.ndarray:
            away = [data.test - mean for mean in means]
            return np.max([-((rows @ model.precision_) * rows).sum(axis=1) for rows in away], axis=0)
        return score
    return run


IMAGENET = Features(50000, 2048, 1000, train_rows=20000)
TO_FIT = Features(16, 2048, 1000, train_rows=50000)
WORKS = [
    Work("ConjNorm 50,000 x 2,048, C = 1,000", IMAGENET,
         ours("ConjNorm", labels, p=2.5, temperature=0.08),
         [Contender("numpy float64, as published", numpy_conjnorm, goal=6)], rounds=3),
    Work("Mahalanobis 50,000 x 2,048, C = 1,000", IMAGENET, ours("Mahalanobis", labels),
         [Contender("numpy float32, two products", numpy_mahalanobis)], tolerance=2e-3, rounds=3),
    Work("ViM 50,000 x 2,048, C = 1,000", IMAGENET, ours("Vim", head, scored=("features", "logits")),
         [Contender("numpy, the authors' way", numpy_vim)], rounds=3),
    Work("ReAct 50,000 x 2,048, C = 1,000", IMAGENET, ours("ReAct", head),
         [Contender("PyTorch, OpenOOD's way", torch_react)], rounds=3),
    Work("DICE 50,000 x 2,048, C = 1,000", IMAGENET, ours("Dice", head),
         [Contender("PyTorch", torch_dice)], rounds=3),
    Work("ASH-S 50,000 x 2,048, C = 1,000", IMAGENET, ours("Ash", head, percentile=90),
         [Contender("PyTorch, OpenOOD's way", lambda data: torch_shaped(data, ash=True))], rounds=3),
    Work("SCALE 50,000 x 2,048, C = 1,000", IMAGENET, ours("Scale", head, percentile=85),
         [Contender("PyTorch, OpenOOD's way", lambda data: torch_shaped(data, ash=False))], rounds=3),
    Work("Mahalanobis fit 50,000 x 2,048, C = 1,000", TO_FIT, fit_mahalanobis,
         [Contender("OpenOOD's way (scikit-learn)", fit_mahalanobis_openood)], tolerance=5e-3, rounds=2),
]
