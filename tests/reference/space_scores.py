"""Scores made of subspaces of the features: neco, cop, corp, wdiscood."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import scipy.linalg

import philox
from feature_files import Array, FeatureFile, class_means
from feature_scores import UNIT_ROUNDING, unit, unit_rows
from tolerances import U, Result, by_row, dot_loss


def principal_directions(rows: Array) -> tuple[Array, Array, Array]:
    """Mean, eigenvalues (descending) and eigenvectors (columns) of the covariance of rows."""
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
    return rows.mean(axis=0), values[::-1], vectors[:, ::-1]


def count_of_share(values: Array, share: float) -> int:
    """The smallest count of eigenvalues whose sum is at least `share` of all of them."""
    cumulative = np.cumsum(values) / values.sum()
    count = int(np.argmax(cumulative >= share)) + 1
    # The choice must not hang on rounding.
    assert np.min(np.abs(cumulative - share)) > 1e-9
    return count


def check_gap(values: Array, count: int) -> None:
    assert values[count - 1] - values[count] > 1e-5 * values[0]


def condition_number(values: Array) -> float:
    """Largest over smallest eigenvalue of the numerical range, in any order."""
    kept = values[values > len(values) * np.finfo(np.float64).eps * values.max()]
    return float(kept.max() / kept.min())


def neco(file: FeatureFile, dim: int = 0, max_logit_factor: bool = True) -> Result:
    """|P^T x| / |x| max_c f_c with x = (z - mean) / std. Ben Ammar et al., ICLR 2024,
    arXiv:2310.06823.

    P: the `dim` largest principal directions of the standardised train rows, whose mean is 0;
    0: as many as hold 0.9 of the variance. A constant column has std 1.

    Loss: U of z - mean and its quotient and of the mean as rounded, and that of a product of unit
    columns; x is at least as long as its projection.
    """
    train = file.train_features
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0.0, std, 1.0)
    _, values, vectors = principal_directions((train - mean) / std)
    count = dim or count_of_share(values, 0.9)
    check_gap(values, count)
    basis = vectors[:, :count]

    def ratio(z: Array) -> float:
        x = (z - mean) / std
        return float(np.linalg.norm(basis.T @ x) / np.linalg.norm(x))

    def loss(z: Array) -> float:
        x = (z - mean) / std
        moved = U * (4.0 + float(np.linalg.norm(mean / std) / np.linalg.norm(x)))
        return dot_loss(len(z)) + 2.0 * moved

    def factor(f: Array) -> float:
        return float(np.max(f)) if max_logit_factor else 1.0

    def of_rows(score) -> dict[str, Array]:
        return {split: np.array([score(z, factor(f)) for z, f in zip(file.features[split],
                                                                    file.logits[split])])
                for split in file.features}

    return Result(of_rows(lambda z, f: ratio(z) * f), rtol=2e-6,
                  bound=of_rows(lambda z, f: loss(z) * abs(f)),
                  state={"dim": count, "condition_number": condition_number(values)})


def reconstruction_error(file: FeatureFile, variance: float, rounding: float) -> Result:
    """-|(I - U U^T) (x - mean)|, U: as many principal directions of the train rows as hold
    `variance` of their variance. `rounding` is how far x may be from its float32 version.

    Loss: that, U of x - mean and of the mean, and that of a product there and one back.
    """
    mean, values, vectors = principal_directions(file.train_features)
    count = count_of_share(values, variance)
    check_gap(values, count)
    basis = vectors[:, :count]

    def score(x: Array) -> float:
        return -float(np.linalg.norm((x - mean) - basis @ (basis.T @ (x - mean))))

    def loss(x: Array) -> float:
        return (rounding + U * float(np.linalg.norm(mean))
                + 2.0 * dot_loss(len(x)) * float(np.linalg.norm(x - mean)))

    return Result(by_row(file.features, score), rtol=1e-6, bound=by_row(file.features, loss),
                  state={"dim": count})


def cop(file: FeatureFile, variance: float = 0.85) -> Result:
    """The reconstruction error of z / |z|. Fang et al., NeurIPS 2024, arXiv:2402.02949."""
    return reconstruction_error(unit_rows(file), variance, UNIT_ROUNDING)


PROJECTION_STREAM, PHASE_STREAM = 0x430, 0x431


def corp(file: FeatureFile, variance: float = 0.8, gamma: float = 2.0, dimension: int = 2048,
         seed: int = 0) -> Result:
    """That of sqrt(2 / M) cos(W z / |z| + v), w_m ~ N(0, 2 gamma I), v_m ~ U(0, 2 pi).

    Fang et al., NeurIPS 2024, arXiv:2402.02949. Loss of the features: each cosine moves as its
    argument does, by dot_loss |w| and 4 U, and by 2 pi U of the phase.
    """
    width = file.train_features.shape[1]
    weight = math.sqrt(2.0 * gamma) * np.array(
        [philox.normal(seed, PROJECTION_STREAM, m, width) for m in range(dimension)])
    phase = 2.0 * math.pi * np.array(
        [philox.uniform(seed, PHASE_STREAM, m) for m in range(dimension)])

    def mapped(z: Array) -> Array:
        return math.sqrt(2.0 / dimension) * np.cos(weight @ unit(z) + phase)

    moved = dot_loss(width) * np.linalg.norm(weight, axis=1) + (4.0 + 2.0 * math.pi) * U
    return reconstruction_error(
        replace(file, train_features=np.array([mapped(z) for z in file.train_features]),
                features={split: np.array([mapped(z) for z in rows])
                          for split, rows in file.features.items()}),
        variance, math.sqrt(2.0 / dimension) * float(np.linalg.norm(moved)))


def wdiscood(file: FeatureFile, discriminants: int = 0, residual_weight: float = 5.0) -> Result:
    """-min_c |g - g_c| - residual_weight |h - h_mean|. Chen et al., ICCV 2023, arXiv:2303.07543.

    Of x = S_w^-1/2 z: g = the coordinates along the eigenvectors of (S_w' + ridge I)^-1 S_b' with
    the largest eigenvalues, h = what they leave over of x. ridge = 1e-3 as in the authors' code
    (no other changes the directions). discriminants = 0: all that the class means span.

    Loss: that of a product with the whitening, in both terms.
    """
    means = class_means(file)
    within = file.train_features - means[file.train_labels]
    covariance = within.T @ within / len(within)
    precision = scipy.linalg.pinvh(covariance)
    whitening = np.real(scipy.linalg.sqrtm(precision))
    train = file.train_features @ whitening.T
    of_class = np.array([train[file.train_labels == c].mean(axis=0) for c in range(file.classes)])
    mean = train.mean(axis=0)
    within = train - of_class[file.train_labels]
    scatter = within.T @ within / len(within)
    between = (of_class - mean).T @ (of_class - mean) / file.classes
    values, vectors = scipy.linalg.eigh(between, scatter + 1e-3 * np.eye(len(mean)))
    count = discriminants or int(np.linalg.matrix_rank(between, hermitian=True))
    assert values[-count] - values[-count - 1] > 1e-4 * values[-1]
    basis = np.linalg.qr(vectors[:, ::-1][:, :count])[0]
    outside = np.eye(len(mean)) - basis @ basis.T

    def score(z: Array) -> float:
        x = whitening @ z
        nearest = min(float(np.linalg.norm(basis.T @ (x - mu))) for mu in of_class)
        return -nearest - residual_weight * float(np.linalg.norm(outside @ (x - mean)))

    stretch = float(np.linalg.norm(whitening, 2))
    centre = file.train_features.mean(axis=0)

    def loss(z: Array) -> float:
        length = float(np.linalg.norm(z - centre)) + float(np.linalg.norm(centre)) * 0.25
        return (1.0 + residual_weight) * dot_loss(len(z)) * stretch * length

    return Result(by_row(file.features, score), rtol=None, bound=by_row(file.features, loss),
                  state={"discriminants": count,
                         "rank": int(np.linalg.matrix_rank(precision, hermitian=True)),
                         "condition_number": condition_number(np.linalg.eigvalsh(covariance))})
