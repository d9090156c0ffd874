#!/usr/bin/env python3
"""Float64 reference values for the tests of libood.

Writes into the folder of this script

    small.h5, deficient.h5   synthetic feature files (float32, as the library reads them)
    scores.json              detector scores of those files
    metrics.json             AUROC, FPR at 95 % TPR and AUPR of score lists

Every formula is written out in float64 from its definition, one row or one pair at a time, from
the float32 arrays read back from the files. It shares no code and no shortcut with the library.

    make_reference.py            write the four files
    make_reference.py --check    recompute; exit 1 and say which value differs (arrays: at all,
                                 other numbers: by more than 1e-10 relative)

Needs numpy, scipy, h5py, scikit-learn.

Score convention: higher = more in-distribution (ID). A test passes if, for every row,
|got - want| <= atol + rtol * |want|.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import pinvh
from scipy.special import logsumexp
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

Array = NDArray[np.float64]
Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
SPLITS = ("id_test", "ood/near", "ood/far")
SMALL = "small.h5"
DEFICIENT = "deficient.h5"

U = 2.0**-24  # unit roundoff of float32: |fl(x) - x| <= U |x|


# --------------------------------------------------------------------------------------------------
# A. Feature files
# --------------------------------------------------------------------------------------------------

# Path in the file -> array, and group -> attributes.
Datasets = dict[str, NDArray[Any]]
Attributes = dict[str, dict[str, str]]

ATTRIBUTES: Attributes = {
    "/": {"model": "synthetic", "id_dataset": "synthetic"},
    "/ood/near": {"kind": "near"},
    "/ood/far": {"kind": "far"},
}


def product(a: Array, b: Array) -> Array:
    """a @ b.T with correctly rounded sums, so that the files do not depend on the BLAS."""
    return np.array([[math.fsum(x * y for x, y in zip(r, s)) for s in b.tolist()]
                     for r in a.tolist()])


def logits_of(features: NDArray[np.float32], weight: NDArray[np.float32],
              bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """z W^T + b from the float32 arrays, in float64, rounded to float32 once."""
    f = product(features.astype(np.float64), weight.astype(np.float64)) + bias.astype(np.float64)
    return f.astype(np.float32)


def unsorted_labels(rng: np.random.Generator, n: int, classes: int) -> NDArray[np.int64]:
    """Every class at least twice, unequal class sizes, in random order."""
    weights = np.arange(2.0, 2.0 + classes)
    free = rng.choice(classes, size=n - 2 * classes, p=weights / weights.sum())
    labels = np.concatenate([np.repeat(np.arange(classes), 2), free])
    return rng.permutation(labels).astype(np.int64)


# Rows of special value in /id_test and /ood/far of small.h5.
ZERO_ROW = 5  # all features zero: logits = bias
CONFIDENT_ROW = 17  # scaled by 30: the runner-up class has a softmax between 1e-130 and 1e-17
SATURATED_ROW = 29  # scaled by 1000: the softmax is 1 and 0 in float32, and 1 in float64


def make_small() -> Datasets:
    """Gaussian classes with one anisotropic covariance; features of any sign."""
    rng = np.random.default_rng(1001)
    dim, classes = 37, 7
    means = 0.8 * rng.standard_normal((classes, dim)) + 0.3 * rng.standard_normal(dim)
    # z = mean + g A^T: standard deviations from 0.15 to 1.8 along mixed axes.
    scales = np.geomspace(0.15, 1.8, dim)
    mixing = (np.eye(dim) + 0.15 * rng.standard_normal((dim, dim))) * scales

    def noise(n: int) -> Array:
        return product(rng.standard_normal((n, dim)), mixing)

    out: Datasets = {}
    raw: dict[str, Array] = {}
    for split, n in (("train", 331), ("id_test", 83)):
        labels = unsorted_labels(rng, n, classes)
        raw[split] = means[labels] + noise(n)
        out[f"/{split}/labels"] = labels
    # Near: between two classes, and a little off. Far: another place and another shape.
    pairs = np.array([rng.choice(classes, size=2, replace=False) for _ in range(61)])
    raw["ood/near"] = (0.5 * (means[pairs[:, 0]] + means[pairs[:, 1]])
                       + 0.4 * rng.standard_normal(dim) + 0.8 * noise(61))
    raw["ood/far"] = 1.2 * rng.standard_normal(dim) + 1.1 * rng.standard_normal((47, dim))

    for split in ("id_test", "ood/far"):
        raw[split][ZERO_ROW] = 0.0
        raw[split][CONFIDENT_ROW] *= 30.0
        raw[split][SATURATED_ROW] *= 1000.0

    weight = (0.33 * (means - means.mean(axis=0))
              + 0.03 * rng.standard_normal((classes, dim))).astype(np.float32)
    bias = (0.5 * rng.standard_normal(classes)).astype(np.float32)
    out["/head/weight"], out["/head/bias"] = weight, bias
    for split, z in raw.items():
        out[f"/{split}/features"] = z.astype(np.float32)
        out[f"/{split}/logits"] = logits_of(out[f"/{split}/features"], weight, bias)

    for split in ("id_test", "ood/far"):
        top = np.sort(out[f"/{split}/logits"].astype(np.float64), axis=1)
        gap = top[:, -1] - top[:, -2]
        assert 40.0 < gap[CONFIDENT_ROW] < 300.0, gap[CONFIDENT_ROW]
        assert gap[SATURATED_ROW] > 200.0, gap[SATURATED_ROW]
    return out


DEAD_COLUMNS = (4, 17)
COPIED_COLUMN, COPY_COLUMN = 2, 9  # column 9 is column 2 again
DEFICIENT_RANK = 21  # 24 - 2 dead - 1 copy


def make_deficient() -> Datasets:
    """ReLU-like features (non-negative, many exact zeros) with a covariance of rank 21 of 24."""
    rng = np.random.default_rng(2002)
    dim, classes = 24, 4
    means = rng.standard_normal((classes, dim))
    scales = np.geomspace(0.5, 1.5, dim)
    mixing = (np.eye(dim) + 0.1 * rng.standard_normal((dim, dim))) * scales

    def finish(pre: Array) -> NDArray[np.float32]:
        z = np.maximum(pre, 0.0).astype(np.float32)
        z[:, list(DEAD_COLUMNS)] = 0.0
        z[:, COPY_COLUMN] = z[:, COPIED_COLUMN]
        return z

    def noise(n: int) -> Array:
        return product(rng.standard_normal((n, dim)), mixing)

    out: Datasets = {}
    for split, n in (("train", 150), ("id_test", 40)):
        labels = unsorted_labels(rng, n, classes)
        out[f"/{split}/labels"] = labels
        out[f"/{split}/features"] = finish(means[labels] + noise(n))
    out["/ood/near/features"] = finish(0.3 * rng.standard_normal(dim) + noise(30))
    out["/ood/far/features"] = finish(0.5 + 1.5 * rng.standard_normal((25, dim)))

    out["/head/weight"] = (0.5 * rng.standard_normal((classes, dim))
                           + 0.4 * means).astype(np.float32)
    out["/head/bias"] = (0.3 * rng.standard_normal(classes)).astype(np.float32)
    for split in ("train", *SPLITS):
        out[f"/{split}/logits"] = logits_of(out[f"/{split}/features"], out["/head/weight"],
                                            out["/head/bias"])
    return out


def write_features(path: Path, datasets: Datasets) -> None:
    with h5py.File(path, "w", libver="earliest") as file:
        for name in sorted(datasets):
            # No time stamps: the same arrays give the same bytes.
            file.create_dataset(name, data=datasets[name], track_times=False)
        for group, attributes in ATTRIBUTES.items():
            for key, value in attributes.items():
                file[group].attrs[key] = value


def check_features(path: Path, datasets: Datasets) -> list[str]:
    """Differences between the file and the arrays it should hold."""
    if not path.is_file():
        return [f"{path.name}: missing"]
    errors: list[str] = []
    with h5py.File(path, "r") as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(f"/{name}")
                        if isinstance(item, h5py.Dataset) else None)
        for name in sorted(set(found) ^ set(datasets)):
            errors.append(f"{path.name}: {name}: {'unexpected' if name in found else 'missing'}")
        for name in sorted(set(found) & set(datasets)):
            have, want = file[name][()], datasets[name]
            if have.dtype != want.dtype or have.shape != want.shape:
                errors.append(f"{path.name}: {name}: {have.dtype}{have.shape}, "
                              f"want {want.dtype}{want.shape}")
            elif not np.array_equal(have, want):
                errors.append(f"{path.name}: {name}: {np.count_nonzero(have != want)} "
                              f"of {want.size} values differ")
        for group, attributes in ATTRIBUTES.items():
            have_attributes = dict(file[group].attrs) if group in file else None
            if have_attributes != attributes:
                errors.append(f"{path.name}: attributes of {group}: {have_attributes}, "
                              f"want {attributes}")
    return errors


@dataclass(frozen=True)
class FeatureFile:
    """A feature file, its float32 arrays widened (exactly) to float64."""

    train_features: Array
    train_labels: NDArray[np.int64]
    features: dict[str, Array]
    logits: dict[str, Array]
    classes: int

    @staticmethod
    def read(path: Path) -> FeatureFile:
        with h5py.File(path, "r") as file:
            return FeatureFile(
                train_features=file["/train/features"][()].astype(np.float64),
                train_labels=file["/train/labels"][()],
                features={s: file[f"/{s}/features"][()].astype(np.float64) for s in SPLITS},
                logits={s: file[f"/{s}/logits"][()].astype(np.float64) for s in SPLITS},
                classes=int(file["/head/weight"].shape[0]),
            )


# --------------------------------------------------------------------------------------------------
# B. Detector scores
#
# Tolerances. They are what an implementation with float32 inputs and float32 products can reach if
# it is written with care; float64 after the products is of course allowed. Detectors made of
# products give, row by row, an estimate ("bound") of the float32 loss; plain float32 versions of
# the detectors stay 3 to 50 times below it. Then rtol is a number fixed per detector, or (where the
# loss is in proportion to the score, Mahalanobis) the median of bound / |want|; atol is what
# rtol |want| leaves uncovered of the bound in any row. Both are rounded up to one digit.
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Scores of each split, the float32 loss bound of each row, and the state of the detector."""

    scores: dict[str, Array]
    rtol: float | None  # None: from the bound
    bound: dict[str, Array] | None = None  # None: rtol covers the loss, up to `atol`
    atol: float = 0.0  # at least
    state: Json | None = None


def one_digit_up(x: float) -> float:
    """Smallest number d * 10^e, d = 1..9, that is >= x."""
    if x <= 0.0:
        return 0.0
    e = math.floor(math.log10(x))
    return float(f"{math.ceil(x / 10.0**e)}e{e}")


def tolerances(result: Result) -> Json:
    if result.bound is None:
        return {"rtol": result.rtol, "atol": result.atol}
    bound = np.concatenate([result.bound[split] for split in SPLITS])
    want = np.abs(np.concatenate([result.scores[split] for split in SPLITS]))
    rtol = one_digit_up(float(np.median(bound / want))) if result.rtol is None else result.rtol
    rest = one_digit_up(float(np.max(bound - rtol * want)))
    return {"rtol": rtol, "atol": max(result.atol, rest)}


def dot_loss(dim: int) -> float:
    """Loss of a float32 inner product of length dim, relative to sum_i |x_i y_i|.

    Both inputs rounded and the products rounded (3 U), one rounding of the result, and the sum: the
    worst case is dim * U, but rounding errors are of either sign and add up like a random walk, and
    blocked or vectorised sums do better still: sqrt(dim) * U.
    """
    return (4.0 + math.sqrt(dim)) * U


# ---- Scores of the logits -----------------------------------------------------------------------


def log_softmax(f: Array) -> Array:
    """log p, accurate also where p is close to 1.

    With r = sum_{c != top} exp(f_c - f_top):  log p_top = -log(1 + r) = -log1p(r), and
    log p_c = (f_c - f_top) - log1p(r). (f_top - logsumexp(f) is the same number, but its error is
    absolute, eps |f_top|, and it is 0 as soon as r < eps.)
    """
    top = int(np.argmax(f))
    r = math.fsum(math.exp(f[c] - f[top]) for c in range(len(f)) if c != top)
    return np.array([(f[c] - f[top]) - math.log1p(r) for c in range(len(f))])


def by_row(rows: dict[str, Array], score: Callable[[Array], float]) -> dict[str, Array]:
    return {split: np.array([score(row) for row in rows[split]]) for split in SPLITS}


# Loss of the softmax scores. exp(f_c - f_top) with the difference rounded to float32 is off by
# U |f_c - f_top| relative, and underflows to zero where the difference is below -104, so the loss
# is at most 104 U = 6.2e-6 relative: rtol = 1e-5. This holds for the tiny scores of confident
# rows as well, because float32 is relative: a log-probability of -1e-12 is no less accurate than
# one of -1, if 1 + r is never formed (log1p) and nothing of the size of f is subtracted. It is the
# order of such rows that makes msp and gen usable on confident models, so it is checked: atol is
# only 1e-12, the loss of f_top - logsumexp(f) in float64 (2^-53 times logits up to a few thousand).
# In float32 that difference would lose U |f_top| (6e-8 .. 1e-4) and tie all rows with r < 6e-8.
SOFTMAX_RTOL = 1e-5
SOFTMAX_ATOL = 1e-12


def msp(file: FeatureFile) -> Result:
    """log max_c p_c. Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136 (there: max_c p_c)."""
    return Result(by_row(file.logits, lambda f: float(np.max(log_softmax(f))) + 0.0),
                  rtol=SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


def max_logit(file: FeatureFile) -> Result:
    """max_c f_c. Hendrycks et al., ICML 2022, arXiv:1911.11132.

    A float32 number of the file: exact (1e-8 is below the rounding of float32).
    """
    return Result(by_row(file.logits, lambda f: float(np.max(f))), rtol=1e-8)


def energy(file: FeatureFile, temperature: float = 1.0) -> Result:
    """T logsumexp(f / T). Liu et al., NeurIPS 2020, arXiv:2010.03759.

    = f_top + T log sum exp((f_c - f_top) / T). Each part loses a few U of itself, and the parts may
    cancel: bound 8 U (|f_top| + T log C).
    """
    t = temperature
    scores = by_row(file.logits, lambda f: float(t * logsumexp(f / t)))
    bound = by_row(file.logits,
                   lambda f: 8.0 * U * (abs(float(np.max(f))) + t * math.log(file.classes)))
    return Result(scores, rtol=1e-5, bound=bound, atol=1e-6)


def entropy(file: FeatureFile) -> Result:
    """Negative Shannon entropy, sum_c p_c log p_c, with 0 log 0 = 0.

    All terms have one sign; the loss is that of msp, once more for the factor log p_c.
    """
    def score(f: Array) -> float:
        log_p = log_softmax(f)
        # p underflows to 0 while log p stays finite: their product is 0.
        return math.fsum(math.exp(x) * x for x in log_p) + 0.0

    return Result(by_row(file.logits, score), rtol=2.0 * SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


def gen(file: FeatureFile, gamma: float = 0.1, top_m: int = 100) -> Result:
    """Generalised entropy, -sum over the top_m largest p of p^gamma (1 - p)^gamma.

    Liu, Lochman and Zach, CVPR 2023 (GEN). 1 - p = -expm1(log p): for p close to 1 the difference
    1 - p would lose everything, and a small gamma makes a large number of the lost part
    ((1e-16)^0.1 = 0.025). All terms have one sign; the loss is gamma times that of msp per factor.
    """
    def score(f: Array) -> float:
        largest = np.sort(log_softmax(f))[::-1][:top_m]
        return -math.fsum(math.exp(gamma * x) * (-math.expm1(x))**gamma for x in largest) + 0.0

    return Result(by_row(file.logits, score), rtol=SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


# ---- Mahalanobis --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Precision:
    matrix: Array
    rank: int
    condition_number: float  # largest / smallest retained eigenvalue

    def distance2(self, z: Array, mean: Array) -> float:
        return float((z - mean) @ self.matrix @ (z - mean))

    def loss(self, z: Array, centre: Array, distance2: float) -> float:
        """Bound on the float32 loss of a squared distance.

        d^2 = |A (z - mean)|^2 with A^T A = P. The product A (z - centre), and A (mean - centre),
        in float32 loses up to dot_loss |A| |z - centre| (spectral norm; so an ill-conditioned P
        costs sqrt(condition number)), and d^2 twice that times d; taking d^2 apart into
        |a|^2 - 2 a.b + |b|^2 loses dot_loss |A (z - centre)|^2 more.
        """
        lost = dot_loss(len(z))
        spectral = math.sqrt(float(np.linalg.norm(self.matrix, 2)))
        length = float(np.linalg.norm(z - centre))
        return lost * (2.0 * math.sqrt(distance2) * spectral * length
                       + self.distance2(z, centre))


def precision_of(covariance: Array, ridge: float) -> Precision:
    """Pseudo-inverse of S + ridge (tr S / D) I; eigenvalues <= D eps lambda_max count as zero."""
    dim = len(covariance)
    if ridge > 0.0:
        covariance = covariance + ridge * np.trace(covariance) / dim * np.eye(dim)
    matrix, rank = pinvh(covariance, return_rank=True)  # cuts at D eps max |lambda|
    values = np.linalg.eigvalsh(covariance)
    retained = values[values > dim * np.finfo(np.float64).eps * values[-1]]
    assert len(retained) == rank
    # The rank must not hang on the cutoff: at least four orders of magnitude above it, and what is
    # below is rounding noise of the smallest kind.
    assert retained[0] > 1e-6 * values[-1]
    assert np.all(np.abs(values[:dim - rank]) < 1e-15 * values[-1])
    return Precision(matrix, int(rank), float(retained[-1] / retained[0]))


def class_means(file: FeatureFile) -> Array:
    return np.array([file.train_features[file.train_labels == c].mean(axis=0)
                     for c in range(file.classes)])


def tied_precision(file: FeatureFile, ridge: float) -> tuple[Array, Precision]:
    """Class means and P of S = (1/N) sum_i (z_i - mu_{y_i}) (z_i - mu_{y_i})^T."""
    means = class_means(file)
    dim = file.train_features.shape[1]
    covariance = np.zeros((dim, dim))
    for z, label in zip(file.train_features, file.train_labels):
        covariance += np.outer(z - means[label], z - means[label])
    return means, precision_of(covariance / len(file.train_features), ridge)


def global_precision(file: FeatureFile, ridge: float) -> tuple[Array, Precision]:
    """Mean and P_0 of S_0 = (1/N) sum_i (z_i - mu) (z_i - mu)^T."""
    mean = file.train_features.mean(axis=0)
    dim = len(mean)
    covariance = np.zeros((dim, dim))
    for z in file.train_features:
        covariance += np.outer(z - mean, z - mean)
    return mean, precision_of(covariance / len(file.train_features), ridge)


def mahalanobis(file: FeatureFile, ridge: float = 0.0) -> Result:
    """-min_c (z - mu_c)^T P (z - mu_c). Lee et al., NeurIPS 2018, arXiv:1807.03888."""
    means, precision = tied_precision(file, ridge)
    centre = file.train_features.mean(axis=0)

    def nearest(z: Array) -> float:
        return min(precision.distance2(z, mean) for mean in means)

    return Result(
        by_row(file.features, lambda z: -nearest(z)), rtol=None,
        bound=by_row(file.features, lambda z: precision.loss(z, centre, nearest(z))),
        state={"rank": precision.rank, "condition_number": precision.condition_number})


def relative_mahalanobis(file: FeatureFile, ridge: float = 0.0) -> Result:
    """-min_c [d_c^2 - d_0^2]. Ren et al., 2021, arXiv:2106.09022.

    d_c^2 as for mahalanobis, d_0^2 the distance to the global mean under the global covariance. The
    two cancel, so the losses of both count in full.
    """
    means, precision = tied_precision(file, ridge)
    mean, background = global_precision(file, ridge)

    def nearest(z: Array) -> float:
        return min(precision.distance2(z, m) for m in means)

    def score(z: Array) -> float:
        d0 = background.distance2(z, mean)
        return -min(precision.distance2(z, m) - d0 for m in means)

    def loss(z: Array) -> float:
        return (precision.loss(z, mean, nearest(z))
                + background.loss(z, mean, background.distance2(z, mean)))

    return Result(
        by_row(file.features, score), rtol=None, bound=by_row(file.features, loss),
        state={"rank": precision.rank, "condition_number": precision.condition_number,
               "background_rank": background.rank,
               "background_condition_number": background.condition_number})


# ---- k nearest neighbours -----------------------------------------------------------------------


def knn(file: FeatureFile, k: int = 50, normalize: bool = True) -> Result:
    """-(distance to the k-th nearest train row). Sun et al., ICML 2022, arXiv:2204.06507.

    normalize: rows z / |z|_2; a zero row stays zero. k = 1 is the nearest row.

    Loss: d^2 = |z|^2 - 2 z.x + |x|^2 from a float32 inner product loses dot_loss (|z|^2 + |x|^2),
    and d half of that over d. (Picking another neighbour for it does not matter: the k-th smallest
    of a list moves by no more than its entries do.)
    """
    def prepare(z: Array) -> Array:
        length = float(np.linalg.norm(z))
        return z / length if normalize and length > 0.0 else z

    train = [prepare(x) for x in file.train_features]
    longest = max(float(np.linalg.norm(x)) for x in train)

    def distance(z: Array) -> float:
        return sorted(math.sqrt(math.fsum((prepare(z) - x)**2)) for x in train)[k - 1]

    scores = by_row(file.features, lambda z: -distance(z))
    bound = {
        split: np.array([
            dot_loss(len(z)) * (float(np.linalg.norm(prepare(z)))**2 + longest**2) / (-2.0 * s)
            for z, s in zip(file.features[split], scores[split])])
        for split in SPLITS}
    return Result(scores, rtol=2e-6, bound=bound, atol=5e-7)


# ---- ConjNorm -----------------------------------------------------------------------------------


def lp_norm(x: Array, p: float) -> float:
    """(sum_i |x_i|^p)^(1/p), with the largest entry factored out."""
    largest = float(np.max(np.abs(x)))
    if largest == 0.0:
        return 0.0
    return largest * math.fsum((np.abs(x) / largest)**p)**(1.0 / p)


def grad_phi(mean: Array, q: float) -> Array:
    """Gradient of phi = |.|_q^2 / 2:  sign(mu_i) |mu_i|^(q-1) / |mu|_q^(q-2), and 0 where mu_i = 0.

    Written as |mu|_q sign(mu_i) (|mu_i| / |mu|_q)^(q-1), which is the same.
    """
    length = lp_norm(mean, q)
    gradient = np.zeros_like(mean)
    for i, x in enumerate(mean):
        if x != 0.0:
            gradient[i] = math.copysign(length * (abs(x) / length)**(q - 1.0), x)
    return gradient


def conjnorm(file: FeatureFile, p: float = 2.5, temperature: float = 0.08,
             partition: str = "pooled") -> Result:
    """ConjNorm. Peng et al., ICLR 2024, arXiv:2402.17888.

    The class means are those of the raw train features; then features and means are scaled to unit
    l_p norm, x / (|x|_p + 1e-10). With q = p / (p - 1), phi = |.|_q^2 / 2 (the conjugate of
    |.|_p^2 / 2) and its Bregman divergence

        d(z, mu) = phi(z) - phi(mu) - <z - mu, grad phi(mu)>
                 = |z|_q^2 / 2 + |mu|_q^2 / 2 - <z, grad phi(mu)>

    (as <mu, grad phi(mu)> = |mu|_q^2) the score is

        S(z) = logsumexp_k (-log C - d(z, mu_k) / t - log Phi_k)

        log Phi_k = logsumexp_i (-d(z_i, mu_k) / t) over all train rows (pooled), or
                    the same over the train rows of class k (per_class), or 0 (none).
    """
    q = p / (p - 1.0)
    t = temperature

    def scaled(x: Array) -> Array:
        return x / (lp_norm(x, p) + 1e-10)

    means = [scaled(mean) for mean in class_means(file)]
    gradients = [grad_phi(mean, q) for mean in means]
    mean_norms = [lp_norm(mean, q) for mean in means]

    def divergences(z: Array) -> Array:
        """d(z, mu_k) for all k, z scaled."""
        z_norm = lp_norm(z, q)
        return np.array([0.5 * z_norm**2 + 0.5 * mean_norms[k]**2
                         - math.fsum(z * gradients[k]) for k in range(file.classes)])

    for k, mean in enumerate(means):  # a Bregman divergence is 0 on the diagonal
        assert abs(divergences(mean)[k]) < 1e-12

    train = [scaled(z) for z in file.train_features]
    train_divergences = np.array([divergences(z) for z in train])
    assert np.min(train_divergences) > 0.0
    if partition == "pooled":
        log_phi = np.array([logsumexp(-train_divergences[:, k] / t) for k in range(file.classes)])
    elif partition == "per_class":
        log_phi = np.array([logsumexp(-train_divergences[file.train_labels == k, k] / t)
                            for k in range(file.classes)])
    elif partition == "none":
        log_phi = np.zeros(file.classes)
    else:
        raise ValueError(partition)

    def score(z: Array) -> float:
        return float(logsumexp(-math.log(file.classes) - divergences(scaled(z)) / t - log_phi))

    # Loss. By Hoelder's inequality sum_i |z_i g_i| <= |z|_q |g|_p, and |grad phi(mu)|_p = |mu|_q,
    # so the float32 inner product loses dot_loss |z|_q |mu|_q; the same relative loss is granted
    # to the other two terms: together dot_loss (|z|_q + |mu|_q)^2 / 2. That is divided by t.
    # logsumexp passes on no more than the largest loss of its entries, so log Phi_k adds the loss
    # of a train row. For p = 2.5 and D = 37 (norms up to about 1.9) this is about 8e-6 / t, for
    # p <= 2 (norms up to 1) about 2.4e-6 / t. Tables of d / t or log Phi kept in float32 cost U of
    # their size more: rtol = 1e-6.
    lost = dot_loss(file.train_features.shape[1])
    longest = max(mean_norms)

    def divergence_loss(z: Array) -> float:
        return lost * (lp_norm(z, q) + longest)**2 / 2.0

    phi_loss = 0.0 if partition == "none" else max(divergence_loss(z) for z in train)
    return Result(
        by_row(file.features, score), rtol=1e-6, atol=1e-6,
        bound=by_row(file.features, lambda z: (divergence_loss(scaled(z)) + phi_loss) / t),
        state={"log_phi": log_phi.tolist()})


# ---- Cases --------------------------------------------------------------------------------------

DETECTORS: dict[str, Callable[..., Result]] = {
    "msp": msp, "max_logit": max_logit, "energy": energy, "entropy": entropy, "gen": gen,
    "mahalanobis": mahalanobis, "relative_mahalanobis": relative_mahalanobis, "knn": knn,
    "conjnorm": conjnorm,
}

# (file, detector, options); empty options are the defaults of the detector.
SCORE_CASES: list[tuple[str, str, Json]] = [
    (SMALL, "msp", {}),
    (SMALL, "max_logit", {}),
    (SMALL, "energy", {"temperature": 1.0}),
    (SMALL, "energy", {"temperature": 0.5}),
    (SMALL, "energy", {"temperature": 10.0}),
    (SMALL, "entropy", {}),
    (SMALL, "gen", {}),
    (SMALL, "gen", {"gamma": 0.5, "top_m": 3}),
    (SMALL, "gen", {"gamma": 1.0, "top_m": 1}),
    (SMALL, "mahalanobis", {}),
    (SMALL, "mahalanobis", {"ridge": 0.01}),
    (DEFICIENT, "mahalanobis", {}),
    (SMALL, "relative_mahalanobis", {}),
    (SMALL, "relative_mahalanobis", {"ridge": 0.01}),
    (DEFICIENT, "relative_mahalanobis", {}),
    (SMALL, "knn", {}),
    (SMALL, "knn", {"k": 1}),
    (SMALL, "knn", {"k": 10, "normalize": False}),
    *((SMALL, "conjnorm", {"p": p, "temperature": t, "partition": partition})
      for p, t, partition in ((2.5, 0.08, "pooled"), (2.2, 0.05, "pooled"), (2.0, 0.1, "none"),
                              (1.8, 0.005, "per_class"), (1.5, 0.0005, "per_class"),
                              (3.0, 0.08, "pooled"), (1.2, 0.05, "per_class"))),
    *((DEFICIENT, "conjnorm", {"p": p, "temperature": t, "partition": partition})
      for p, t, partition in ((2.5, 0.08, "pooled"), (3.0, 0.08, "per_class"),
                              (1.5, 0.0005, "per_class"))),
]


def case_name(file: str, detector: str, options: Json) -> str:
    parts = [detector, Path(file).stem]
    parts += [f"{k}={v:g}" if isinstance(v, float) else f"{k}={json.dumps(v).strip(chr(34))}"
              for k, v in options.items()]
    return " ".join(parts if options else [*parts, "defaults"])


def make_scores(folder: Path) -> Json:
    """Scores of the feature files in `folder`."""
    files = {name: FeatureFile.read(folder / name) for name in (SMALL, DEFICIENT)}
    cases: list[Json] = []
    for file, detector, options in SCORE_CASES:
        result = DETECTORS[detector](files[file], **options)
        case: Json = {
            "name": case_name(file, detector, options), "file": file, "detector": detector,
            "options": options, **tolerances(result),
            "scores": {split: result.scores[split].tolist() for split in SPLITS},
        }
        if result.state is not None:
            if file == DEFICIENT and "rank" in result.state:
                assert result.state["rank"] == DEFICIENT_RANK
            case["state"] = result.state
        cases.append(case)
    return {"cases": cases}


# --------------------------------------------------------------------------------------------------
# C. Metrics
#
#   auroc            area under the ROC curve, ID positive, score = confidence; a tie counts half
#   fpr95            share of OOD accepted at the first (highest) threshold at which at least 95 %
#                    of ID is accepted
#   fpr95_ood        OOD positive, score -s: share of ID rejected at the first threshold at which
#                    at least 95 % of OOD is caught
#   aupr_in          average precision, sum_n (R_n - R_{n-1}) P_n, ID positive
#   aupr_out         the same with OOD positive and score -s
#   aupr_*_trapezoid trapezoidal area of the same points (R_n, P_n), and (0, 1) as the first
#
# A threshold takes all rows of equal score together. "At least 95 % of n" is an exact comparison of
# integers, 100 count >= 95 n, without a tolerance: 19 of 20 counts as reached. scikit-learn divides
# count / n and compares with 0.95 in float64, which is the same: the quotient is correctly rounded,
# so that 19/20, 38/40, ... give the very float64 number written 0.95.
#
# JSON has no infinities: they are written as the strings "inf" and "-inf".
# --------------------------------------------------------------------------------------------------


def fpr_at_95(positive: Array, negative: Array) -> float:
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [len(positive), len(negative)]),
                            np.concatenate([positive, negative]), drop_intermediate=False)
    value = float(fpr[np.flatnonzero(tpr >= 0.95)[0]])
    # The same by counting.
    for threshold in np.unique(positive)[::-1]:
        if 100 * int(np.sum(positive >= threshold)) >= 95 * len(positive):
            assert value == int(np.sum(negative >= threshold)) / len(negative)
            break
    return value


def metrics_of(id_scores: Array, ood_scores: Array) -> dict[str, float]:
    n, m = len(id_scores), len(ood_scores)
    is_id = np.repeat([1, 0], [n, m])
    scores = np.concatenate([id_scores, ood_scores])
    precision_in, recall_in, _ = precision_recall_curve(is_id, scores)
    precision_out, recall_out, _ = precision_recall_curve(1 - is_id, -scores)
    return {
        "auroc": float(roc_auc_score(is_id, scores)),
        "fpr95": fpr_at_95(id_scores, ood_scores),
        "fpr95_ood": fpr_at_95(-ood_scores, -id_scores),
        "aupr_in": float(average_precision_score(is_id, scores)),
        "aupr_out": float(average_precision_score(1 - is_id, -scores)),
        "aupr_in_trapezoid": float(auc(recall_in, precision_in)),
        "aupr_out_trapezoid": float(auc(recall_out, precision_out)),
    }


def metric_case(name: str, id_scores: Array, ood_scores: Array) -> Json:
    # scikit-learn may refuse infinities, and the metrics depend on the order only: ranks.
    _, order = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)
    ranks = order.astype(np.float64)
    values = metrics_of(ranks[:len(id_scores)], ranks[len(id_scores):])
    if np.all(np.isfinite(id_scores)) and np.all(np.isfinite(ood_scores)):
        assert values == metrics_of(id_scores, ood_scores), name

    def as_json(scores: Array) -> list[Any]:
        return [x if math.isfinite(x) else str(x) for x in scores.tolist()]

    return {"name": name, "id": as_json(id_scores), "ood": as_json(ood_scores), **values}


def hand_worked() -> list[tuple[str, list[float], list[float], dict[str, Fraction]]]:
    """Cases worked out by hand."""
    F = Fraction
    return [
        # ID 2 1, OOD 1 0.
        #   auroc      pairs 2>1, 2>0, 1=1, 1>0: (1 + 1 + 1/2 + 1) / 4 = 7/8
        #   fpr95      2 of 2 ID needed: s >= 1 takes OOD {1}: 1/2
        #   fpr95_ood  2 of 2 OOD needed: s <= 1 takes ID {1}: 1/2
        #   in         s >= 2: 1 ID 0 OOD, R 1/2 P 1;  s >= 1: 2 ID 1 OOD, R 1 P 2/3
        #              1/2 * 1 + 1/2 * 2/3 = 5/6
        #   trapezoid  1/2 * (1 + 1)/2 + 1/2 * (1 + 2/3)/2 = 1/2 + 5/12 = 11/12
        #   out        the mirror image s -> 2 - s swaps ID and OOD: the same
        ("hand: one tie across", [2, 1], [1, 0],
         {"auroc": F(7, 8), "fpr95": F(1, 2), "fpr95_ood": F(1, 2),
          "aupr_in": F(5, 6), "aupr_in_trapezoid": F(11, 12),
          "aupr_out": F(5, 6), "aupr_out_trapezoid": F(11, 12)}),
        # ID 3 3 2, OOD 3 1.
        #   auroc      3=3 twice, 3>1 twice, 2<3, 2>1: (1/2 + 1/2 + 1 + 1 + 0 + 1) / 6 = 2/3
        #   fpr95      3 of 3 ID needed: s >= 2 takes OOD {3}: 1/2
        #   fpr95_ood  2 of 2 OOD needed: s <= 3 takes all ID: 1
        #   in         s >= 3: 2 ID 1 OOD, R 2/3 P 2/3;  s >= 2: 3 ID 1 OOD, R 1 P 3/4
        #              2/3 * 2/3 + 1/3 * 3/4 = 4/9 + 1/4 = 25/36
        #   trapezoid  2/3 * (1 + 2/3)/2 + 1/3 * (2/3 + 3/4)/2 = 5/9 + 17/72 = 19/24
        #   out        s <= 1: 1 OOD 0 ID, R 1/2 P 1;  s <= 2: 1 OOD 1 ID, R 1/2 P 1/2;
        #              s <= 3: 2 OOD 3 ID, R 1 P 2/5
        #              1/2 * 1 + 0 * 1/2 + 1/2 * 2/5 = 7/10
        #   trapezoid  1/2 * (1 + 1)/2 + 0 + 1/2 * (1/2 + 2/5)/2 = 1/2 + 9/40 = 29/40
        ("hand: ties within and across", [3, 3, 2], [3, 1],
         {"auroc": F(2, 3), "fpr95": F(1, 2), "fpr95_ood": F(1),
          "aupr_in": F(25, 36), "aupr_in_trapezoid": F(19, 24),
          "aupr_out": F(7, 10), "aupr_out_trapezoid": F(29, 40)}),
        # ID 19 x 5, 1 x 0 (n = 20); OOD 2 x 5, 28 x 1, 10 x 0 (n = 40).
        #   auroc      each ID 5: 2 ties, 38 wins = 39;  the ID 0: 10 ties = 5
        #              (19 * 39 + 5) / 800 = 746/800 = 373/400
        #   fpr95      19/20 is exactly 95 %, reached at s >= 5, which takes 2 of 40 OOD: 1/20
        #              (with a strict comparison s >= 0 would be needed: 1)
        #   fpr95_ood  38/40 is exactly 95 %, reached at s <= 1, which takes 1 of 20 ID: 1/20
        #   in         s >= 5: 19 ID 2 OOD, R 19/20 P 19/21;  s >= 1: 19 ID 30 OOD, R 19/20 P 19/49;
        #              s >= 0: 20 ID 40 OOD, R 1 P 1/3
        #              19/20 * 19/21 + 0 + 1/20 * 1/3 = 361/420 + 7/420 = 92/105
        #   trapezoid  19/20 * (1 + 19/21)/2 + 0 + 1/20 * (19/49 + 1/3)/2
        #              = 19/21 + 53/2940 = 2713/2940
        #   out        s <= 0: 10 OOD 1 ID, R 1/4 P 10/11;  s <= 1: 38 OOD 1 ID, R 19/20 P 38/39;
        #              s <= 5: 40 OOD 20 ID, R 1 P 2/3
        #              1/4 * 10/11 + 7/10 * 38/39 + 1/20 * 2/3 = 5/22 + 133/195 + 1/30 = 674/715
        #   trapezoid  1/4 * (1 + 10/11)/2 + 7/10 * (10/11 + 38/39)/2 + 1/20 * (38/39 + 2/3)/2
        #              = 21/88 + 1414/2145 + 8/195 = 16111/17160
        ("hand: exactly 95 % with ties", [5] * 19 + [0], [5] * 2 + [1] * 28 + [0] * 10,
         {"auroc": F(373, 400), "fpr95": F(1, 20), "fpr95_ood": F(1, 20),
          "aupr_in": F(92, 105), "aupr_in_trapezoid": F(2713, 2940),
          "aupr_out": F(674, 715), "aupr_out_trapezoid": F(16111, 17160)}),
    ]


def make_metrics() -> Json:
    rng = np.random.default_rng(3003)
    inf = math.inf
    # Both shares exactly 95 %, without ties: 19 of 20 ID are >= 50, and so are 3 of 40 OOD; 38 of
    # 40 OOD are <= 52.5, and so are 4 of 20 ID. If more than 95 % were asked for, the values would
    # be 1 (s >= -100) and 12/20 (s <= 60.5) instead.
    exact_id = np.array([-100.0, *np.arange(50.0, 69.0)])
    exact_ood = np.array([*np.arange(-80.0, -43.0), 52.5, 60.5, 70.5])
    f32 = np.finfo(np.float32)
    tiny32 = float(f32.smallest_subnormal)
    tiny64 = float(np.finfo(np.float64).smallest_subnormal)

    lists: list[tuple[str, Any, Any]] = [
        ("normals", rng.normal(0.7, 1.0, 97), rng.normal(0.0, 1.3, 203)),
        ("heavily tied integers", rng.choice(5, 300, p=[0.05, 0.1, 0.2, 0.3, 0.35]),
         rng.choice(5, 150, p=[0.35, 0.25, 0.2, 0.15, 0.05])),
        ("all equal", [0.25] * 13, [0.25] * 29),
        ("perfectly separated", rng.uniform(1.0, 2.0, 31), rng.uniform(-2.0, -1.0, 17)),
        ("perfectly reversed", rng.uniform(-2.0, -1.0, 31), rng.uniform(1.0, 2.0, 17)),
        ("one each", [1.0], [0.0]),
        ("one each reversed", [0.0], [1.0]),
        ("one each tied", [1.0], [1.0]),
        # Every number here is a float32 number, too.
        ("huge and denormal float32",
         [float(np.float32(x)) for x in (1e30, 1e30, 2e30, -1e30, 3e38, 1.0, 0.0, 1.5e-39)]
         + [tiny32, 2 * tiny32, float(f32.tiny), -tiny32],
         [float(np.float32(x)) for x in (-1e30, -2e30, 1e30, -3e38, 0.0, -0.0, 1e-39)]
         + [tiny32, -tiny32, -2 * tiny32, -float(f32.tiny)]),
        # Only for scores held in float64.
        ("huge and denormal float64", [1e300, 2e-310, 2 * tiny64, tiny64, 0.0, -1.7e308],
         [-1e300, 1e-310, tiny64, -tiny64, 0.0, 1.7e308, -1.7e308]),
        ("infinite", [inf, inf, 3.0, 2.0, 2.0, 1.0, 0.5, -inf, 1e308],
         [inf, 2.0, 1.0, 0.0, -1.0, -inf, -inf, -inf, -1e308]),
        ("large and rounded", rng.normal(1.2, 1.0, 5000).round(2),
         rng.normal(0.0, 1.0, 3000).round(2)),
        ("exactly 95 %", rng.permutation(exact_id), rng.permutation(exact_ood)),
    ]
    cases = [metric_case(name, np.array(i, np.float64), np.array(o, np.float64))
             for name, i, o in lists]
    assert cases[-1]["fpr95"] == 3 / 40 and cases[-1]["fpr95_ood"] == 4 / 20

    for name, id_list, ood_list, want in hand_worked():
        case = metric_case(name, np.array(id_list, np.float64), np.array(ood_list, np.float64))
        for key, value in want.items():
            assert abs(case[key] - float(value)) < 1e-14, (name, key, case[key], value)
            case[key] = float(value)
        cases.append(case)
    return {"cases": cases}


# --------------------------------------------------------------------------------------------------
# D. Writing and checking
# --------------------------------------------------------------------------------------------------


def json_text(value: Json) -> str:
    """Compact, one case per line; floats with as many digits as it takes to read them back."""
    lines = [json.dumps(case, separators=(",", ":"), allow_nan=False) for case in value["cases"]]
    return '{"cases":[\n' + ",\n".join(lines) + "\n]}\n"


def differences(where: str, have: Any, want: Any) -> list[str]:
    """Places where two JSON values differ, numbers by more than 1e-10 relative."""
    if isinstance(want, dict) and isinstance(have, dict):
        if have.keys() != want.keys():
            return [f"{where}: keys {sorted(have)}, want {sorted(want)}"]
        return [d for key in want for d in differences(f"{where}: {key}", have[key], want[key])]
    if isinstance(want, list) and isinstance(have, list):
        if len(have) != len(want):
            return [f"{where}: {len(have)} entries, want {len(want)}"]
        return [d for i in range(len(want))
                for d in differences(f"{where}[{i}]", have[i], want[i])]
    numbers = [isinstance(x, (int, float)) and not isinstance(x, bool) for x in (have, want)]
    if all(numbers):
        same = abs(have - want) <= 1e-10 * max(abs(have), abs(want))
    else:
        same = type(have) is type(want) and have == want
    return [] if same else [f"{where}: {have!r}, want {want!r}"]


def check_json(path: Path, want: Json) -> list[str]:
    if not path.is_file():
        return [f"{path.name}: missing"]
    try:
        have = json.loads(path.read_text(encoding="utf-8"))
        have_cases = {case["name"]: case for case in have["cases"]}
    except (ValueError, KeyError, TypeError) as error:
        return [f"{path.name}: cannot be read: {error!r}"]
    if len(have_cases) != len(have["cases"]):
        return [f"{path.name}: two cases of one name"]
    return differences(path.name, have_cases, {case["name"]: case for case in want["cases"]})


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check the reference values.")
    parser.add_argument("--check", action="store_true", help="recompute and compare; write nothing")
    check: bool = parser.parse_args().check

    feature_files = {SMALL: make_small(), DEFICIENT: make_deficient()}
    errors: list[str] = []
    for name, datasets in feature_files.items():
        if check:
            errors += check_features(HERE / name, datasets)
        else:
            write_features(HERE / name, datasets)

    # Scores are those of the files as they lie there.
    if all((HERE / name).is_file() for name in feature_files):
        makers: dict[str, Callable[[], Json]] = {
            "scores.json": lambda: make_scores(HERE), "metrics.json": make_metrics}
        for name, make in makers.items():
            value = make()
            if check:
                errors += check_json(HERE / name, value)
            else:
                (HERE / name).write_text(json_text(value), encoding="utf-8")

    for name in (*feature_files, "scores.json", "metrics.json"):
        mine = [error for error in errors if error.startswith(f"{name}: ")]
        for error in mine[:10]:
            print(error, file=sys.stderr)
        if len(mine) > 10:
            print(f"{name}: ... and {len(mine) - 10} more", file=sys.stderr)
    if check:
        print("reference values differ" if errors else "reference values agree")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
