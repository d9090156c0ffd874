"""Research code that loops over rows or classes, transcribed as it is: the loop is what users wait for.

Each is float32 or float64 as the original, and goes on as long as its rows say: its time is
proportional to them.
"""

from __future__ import annotations

import numpy as np
from data import Features, Logits
from logit_scores import ours as from_logits
from work import Contender, Run, Work, threads


def gradnorm(data: Features) -> Run:
    import ood

    detector = ood.GradNorm()
    return lambda: detector.score(features=data.test, logits=data.test_logits, threads=threads())


def gradnorm_and_head(data: Features) -> Run:
    """Logits too, as OpenOOD's makes them."""
    import ood

    detector = ood.GradNorm()
    return lambda: detector.score(features=data.test, logits=data.test @ data.weight.T + data.bias,
                                  threads=threads())


def gradnorm_openood(data: Features) -> Run:
    """A gradient by automatic differentiation for each row. The loss is C times the paper's."""
    import torch

    torch.set_num_threads(threads())
    head = torch.nn.Linear(data.dim, data.classes)
    head.weight.data, head.bias.data = torch.from_numpy(data.weight), torch.from_numpy(data.bias)
    features = torch.from_numpy(data.test)
    targets = torch.ones(1, data.classes)

    def run() -> np.ndarray:
        scores = []
        for z in features:
            head.zero_grad()
            loss = (-targets * head(z[None]).log_softmax(dim=1)).sum(dim=1).mean()
            loss.backward()
            scores.append(head.weight.grad.abs().sum().item() / data.classes)
        return np.array(scores)
    return run


def gradnorm_numpy(data: Features) -> Run:
    """The same gradient as an outer product for each row."""
    from scipy.special import softmax

    def run() -> np.ndarray:
        p = softmax(data.test_logits, axis=1)
        return np.array([np.abs(np.outer(row - 1 / data.classes, z)).sum() for row, z in zip(p, data.test)])
    return run


def kl_matching(data: Logits) -> Run:
    import ood

    detector = ood.KlMatching().fit(logits=data.train)
    return lambda: detector.score(logits=data.test, threads=threads())


def kl_matching_openood(data: Logits) -> Run:
    """scipy's entropy for each row and class."""
    from scipy.special import softmax
    from scipy.stats import entropy

    p, predicted = softmax(data.train, axis=1), data.train.argmax(axis=1)
    means = [p[predicted == c].mean(axis=0) for c in range(data.classes)]

    def run() -> np.ndarray:
        return np.array([-min(entropy(row, mean) for mean in means) for row in softmax(data.test, axis=1)])
    return run


def ora(data: Features) -> Run:
    import ood

    detector = ood.Ora().fit(features=data.train, labels=data.labels, head=data.head)
    return lambda: detector.score(features=data.test, logits=data.test_logits, threads=threads())


def ora_authors(data: Features) -> Run:
    """Projections [n, D] on the boundary of each class in turn, in float64, and the angle by an arc cosine."""
    means = np.stack([data.train[data.labels == c].mean(axis=0) for c in range(data.classes)])
    m = means.mean(axis=0).astype(np.float64)
    z, f, w = (array.astype(np.float64) for array in (data.test, data.test_logits, data.weight))

    def run() -> np.ndarray:
        y = f.argmax(axis=1)
        widest = np.zeros(len(z))
        from_m = z - m
        length = np.linalg.norm(from_m, axis=1)
        for c in range(data.classes):
            normal = w[y] - w[c]
            with np.errstate(divide="ignore", invalid="ignore"):
                away = (f[np.arange(len(f)), y] - f[:, c]) / np.linalg.norm(normal, axis=1) ** 2
                projected = z - away[:, None] * normal - m
                cosine = (from_m * projected).sum(axis=1) / (length * np.linalg.norm(projected, axis=1))
            angle = np.nan_to_num(np.arccos(np.clip(cosine, -1, 1)) / np.pi)
            widest = np.maximum(widest, angle)
        return widest
    return run


def openmax_openood(data: Logits) -> Run:
    """For each row: distances to all classes one after the other, then the revision of its largest logits."""
    from scipy.optimize import brentq
    from scipy.spatial.distance import euclidean
    from scipy.special import logsumexp

    tail, alpha = 20, 3
    right = data.train.argmax(axis=1) == data.labels
    means, weibulls = [], []
    for c in range(data.classes):  # libmr's fit: of the distances less the smallest, plus 1
        rows = data.train[right & (data.labels == c)].astype(np.float64)
        means.append(rows.mean(axis=0))
        largest = np.sort(np.linalg.norm(rows - means[c], axis=1))[-tail:]
        log_y = np.log1p((largest - largest[0]) / 1e4)

        def slope(shape: float, log_y: np.ndarray = log_y) -> float:
            weights = np.exp(shape * (log_y - log_y[-1]))
            return float(np.average(log_y, weights=weights) - log_y.mean() - 1 / shape)

        shape = brentq(slope, 1e-2, 1e9)
        weibulls.append((largest[0], shape, (logsumexp(shape * log_y) - np.log(tail)) / shape))

    def outlying(weibull: tuple[float, float, float], distance: float) -> float:
        smallest, shape, log_scale = weibull
        return float(-np.expm1(-np.exp(shape * (np.log1p((distance - smallest) / 1e4) - log_scale))))

    def run() -> np.ndarray:
        scores = []
        for f in data.test.astype(np.float64):
            ranked = f.argsort()[::-1][:alpha]
            omega = np.zeros(len(f))
            omega[ranked] = [(alpha + 1 - i) / alpha for i in range(1, alpha + 1)]
            revised, lost = [], []
            for c in range(data.classes):
                w = outlying(weibulls[c], euclidean(f, means[c])) * omega[c]
                revised.append(f[c] * (1 - w))
                lost.append(f[c] - revised[c])
            scores.append(logsumexp(revised) - np.sum(lost))
        return np.array(scores)
    return run


def openmax(data: Logits) -> Run:
    import ood

    detector = ood.OpenMax(alpha=3).fit(logits=data.train, labels=data.labels)
    return lambda: detector.score(logits=data.test, threads=threads())


def mahalanobis(data: Features) -> Run:
    import ood

    detector = ood.Mahalanobis().fit(features=data.train, labels=data.labels)
    return lambda: detector.score(data.test, threads=threads())


def precision_and_means(data: Features) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import pinvh

    means = np.stack([data.train[data.labels == c].mean(axis=0, dtype=np.float64) for c in range(data.classes)])
    away = data.train - means[data.labels]
    return pinvh(away.T @ away / len(away)), means


def mahalanobis_openood(data: Features) -> Run:
    """For each class the diagonal of an n x n matrix, n = 200 rows at a time."""
    import torch

    torch.set_num_threads(threads())
    precision, means = (torch.from_numpy(array.astype(np.float32)) for array in precision_and_means(data))
    features = torch.from_numpy(data.test)

    def run() -> np.ndarray:
        scores = []
        for batch in features.split(200):
            of_class = torch.empty(len(batch), data.classes)
            for c in range(data.classes):
                away = batch - means[c].view(1, -1)
                of_class[:, c] = -torch.matmul(torch.matmul(away, precision), away.t()).diag()
            scores.append(of_class.max(dim=1).values)
        return torch.cat(scores).numpy()
    return run


def mahalanobis_numpy(data: Features) -> Run:
    """The same by numpy's OpenBLAS."""
    precision, means = (array.astype(np.float32) for array in precision_and_means(data))

    def run() -> np.ndarray:
        scores = np.empty((len(data.test), data.classes), np.float32)
        for first in range(0, len(data.test), 200):
            batch = data.test[first:first + 200]
            for c in range(data.classes):
                away = batch - means[c]
                scores[first:first + 200, c] = -np.diag(away @ precision @ away.T)
        return scores.max(axis=1)
    return run


CIFAR_LOGITS = Logits(10000, 100, train_rows=20000)
CIFAR = Features(10000, 342, 100, train_rows=20000)
IMAGENET = Features(5000, 2048, 1000, train_rows=20000)
WORKS = [
    Work("GradNorm of features and logits, 5,000 x 2,048, C = 1,000", IMAGENET, gradnorm,
         [Contender("OpenOOD's way (PyTorch), which makes the logits", gradnorm_openood, goal=1000, rows=300),
          Contender("outer products (numpy)", gradnorm_numpy, rows=300)]),
    Work("GradNorm of features and head, 5,000 x 2,048, C = 1,000", IMAGENET, gradnorm_and_head,
         [Contender("OpenOOD's way (PyTorch)", gradnorm_openood, rows=300)]),
    Work("KL-matching 10,000, C = 100", CIFAR_LOGITS, kl_matching,
         [Contender("OpenOOD's way (scipy)", kl_matching_openood, goal=500, rows=300)]),
    Work("ORA 10,000 x 342, C = 100", CIFAR, ora,
         [Contender("the authors' way (numpy)", ora_authors, goal=100)], rounds=3),
    Work("OpenMax 10,000, C = 100", CIFAR_LOGITS, openmax,
         [Contender("OpenOOD's way (numpy, scipy)", openmax_openood, goal=100, rows=500)]),
    Work("Mahalanobis 5,000 x 2,048, C = 1,000", IMAGENET, mahalanobis,
         [Contender("OpenOOD's way (PyTorch)", mahalanobis_openood, goal=1000, rows=200),
          Contender("the same in numpy", mahalanobis_numpy, rows=200)],
         tolerance=2e-3, rounds=3),
]
