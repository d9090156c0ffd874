"""Scores made of the features: mahalanobis, relative_mahalanobis, ssd, gaussian_density,
max_cosine, knn."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import pinvh
from scipy.special import logsumexp

from feature_files import SPLITS, Array, FeatureFile, class_means
from row_sample import row_sample
from tolerances import U, Result, by_row, dot_loss


@dataclass(frozen=True)
class Precision:
    matrix: Array
    rank: int
    condition_number: float  # largest / smallest retained eigenvalue

    def distance2(self, z: Array, mean: Array) -> float:
        return float((z - mean) @ self.matrix @ (z - mean))

    def loss(self, z: Array, centre: Array, distance2: float, rounding: float = 0.0) -> float:
        """Bound on the float32 loss of a squared distance.

        d^2 = |A (z - mean)|^2 with A^T A = P. The product A (z - centre), and A (mean - centre),
        in float32 loses up to dot_loss |A| |z - centre| (spectral norm; so an ill-conditioned P
        costs sqrt(condition number)), and d^2 twice that times d; taking d^2 apart into
        |a|^2 - 2 a.b + |b|^2 loses dot_loss |A (z - centre)|^2 more. `rounding` is how far z itself
        may be from what was stored: it moves A z by |A| rounding.
        """
        lost = dot_loss(len(z))
        spectral = math.sqrt(float(np.linalg.norm(self.matrix, 2)))
        length = float(np.linalg.norm(z - centre))
        return (lost * (2.0 * math.sqrt(distance2) * spectral * length
                        + self.distance2(z, centre))
                + 2.0 * math.sqrt(distance2) * spectral * rounding)


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


def unit(z: Array) -> Array:
    """z / |z|_2; a zero row stays zero."""
    length = float(np.linalg.norm(z))
    return z / length if length > 0.0 else z


def unit_rows(file: FeatureFile) -> FeatureFile:
    return replace(file, train_features=np.array([unit(z) for z in file.train_features]),
                   features={split: np.array([unit(z) for z in file.features[split]])
                             for split in SPLITS})


UNIT_ROUNDING = 4.0 * U  # of a unit row in float32: its norm and each quotient


def mahalanobis(file: FeatureFile, ridge: float = 0.0, normalize: bool = False) -> Result:
    """-min_c (z - mu_c)^T P (z - mu_c). Lee et al., NeurIPS 2018, arXiv:1807.03888.

    normalize: of rows z / |z|_2, train and test. Mueller & Hein, ICML 2025, arXiv:2505.18032.
    """
    file = unit_rows(file) if normalize else file
    rounding = UNIT_ROUNDING if normalize else 0.0
    means, precision = tied_precision(file, ridge)
    centre = file.train_features.mean(axis=0)

    def nearest(z: Array) -> float:
        return min(precision.distance2(z, mean) for mean in means)

    return Result(
        by_row(file.features, lambda z: -nearest(z)), rtol=None,
        bound=by_row(file.features, lambda z: precision.loss(z, centre, nearest(z), rounding)),
        state={"rank": precision.rank, "condition_number": precision.condition_number})


def relative_mahalanobis(file: FeatureFile, ridge: float = 0.0,
                         normalize: bool = False) -> Result:
    """-min_c [d_c^2 - d_0^2]. Ren et al., 2021, arXiv:2106.09022.

    d_c^2 as for mahalanobis, d_0^2 the distance to the global mean under the global covariance. The
    two cancel, so the losses of both count in full. normalize as for mahalanobis.
    """
    file = unit_rows(file) if normalize else file
    rounding = UNIT_ROUNDING if normalize else 0.0
    means, precision = tied_precision(file, ridge)
    mean, background = global_precision(file, ridge)

    def nearest(z: Array) -> float:
        return min(precision.distance2(z, m) for m in means)

    def score(z: Array) -> float:
        d0 = background.distance2(z, mean)
        return -min(precision.distance2(z, m) - d0 for m in means)

    def loss(z: Array) -> float:
        return (precision.loss(z, mean, nearest(z), rounding)
                + background.loss(z, mean, background.distance2(z, mean), rounding))

    return Result(
        by_row(file.features, score), rtol=None, bound=by_row(file.features, loss),
        state={"rank": precision.rank, "condition_number": precision.condition_number,
               "background_rank": background.rank,
               "background_condition_number": background.condition_number})


def ssd(file: FeatureFile, ridge: float = 0.0) -> Result:
    """-(z' - mu)^T P (z' - mu), z' = z / |z|_2. Sehwag et al., ICLR 2021, arXiv:2103.12051.

    One cluster: mu and P are those of all normalised training rows.
    """
    file = unit_rows(file)
    mean, precision = global_precision(file, ridge)

    def distance2(z: Array) -> float:
        return precision.distance2(z, mean)

    return Result(
        by_row(file.features, lambda z: -distance2(z)), rtol=None,
        bound=by_row(file.features,
                     lambda z: precision.loss(z, mean, distance2(z), UNIT_ROUNDING)),
        state={"rank": precision.rank, "condition_number": precision.condition_number})


def class_precisions(file: FeatureFile, ridge: float) -> tuple[list[Precision], list[float]]:
    """Inverse and log determinant of S_c + ridge (tr S_c / D) I for each class c.

    S_c = 1/(N_c - 1) sum_{y_i = c} (z_i - mu_c) (z_i - mu_c)^T.
    """
    precisions, log_determinants = [], []
    for c in range(file.classes):
        covariance = np.cov(file.train_features[file.train_labels == c], rowvar=False)
        dim = len(covariance)
        covariance = covariance + ridge * np.trace(covariance) / dim * np.eye(dim)
        precisions.append(precision_of(covariance, 0.0))
        assert precisions[-1].rank == dim
        log_determinants.append(float(np.linalg.slogdet(covariance)[1]))
    return precisions, log_determinants


def gaussian_density(file: FeatureFile, covariance: str = "class", class_prior: str = "empirical",
                     ridge: float = 0.0) -> Result:
    """log sum_c pi_c N(z; mu_c, S_c). Mukhoti et al., CVPR 2023, arXiv:2102.11582.

    tied: S_c = S. Morteza & Li, AAAI 2022, arXiv:2112.00787. Where S is singular, 1 / the product
    of its non-zero eigenvalues is that of those of its pseudo-inverse, and D their number.

    Loss: half of that of the squared distances, weighted as the classes count, and what float32
    loses of the exponents.
    """
    means = class_means(file)
    centre = file.train_features.mean(axis=0)
    counts = np.bincount(file.train_labels, minlength=file.classes)
    priors = counts / counts.sum() if class_prior == "empirical" else np.full_like(
        counts, 1.0 / file.classes, dtype=np.float64)
    if covariance == "tied":
        tied = tied_precision(file, ridge)[1]
        eigenvalues = np.linalg.eigvalsh(tied.matrix)[len(centre) - tied.rank:]
        precisions, log_determinants = [tied] * file.classes, [
            float(-np.log(eigenvalues).sum())] * file.classes
        centres = np.array([centre] * file.classes)
    else:
        precisions, log_determinants = class_precisions(file, ridge)
        centres = means
    rank = precisions[0].rank

    def constant(c: int) -> float:
        return (math.log(priors[c])
                - 0.5 * (log_determinants[c] + rank * math.log(2.0 * math.pi)))

    def exponents(z: Array) -> Array:
        return np.array([constant(c) - 0.5 * precisions[c].distance2(z, means[c])
                         for c in range(file.classes)])

    def loss(z: Array) -> float:
        share = np.exp(exponents(z) - logsumexp(exponents(z)))
        total = 0.0
        for c in range(file.classes):
            d2 = precisions[c].distance2(z, means[c])
            total += share[c] * (0.5 * precisions[c].loss(z, centres[c], d2)
                                 + 8.0 * U * (abs(constant(c)) + 0.5 * d2))
        return total

    kept = 1 if covariance == "tied" else file.classes
    state = {"class_rows": counts.tolist(), "log_determinants": log_determinants[:kept],
             "condition_numbers": [p.condition_number for p in precisions[:kept]]}
    if covariance == "tied":
        state["rank"] = rank
    return Result(by_row(file.features, lambda z: float(logsumexp(exponents(z)))), rtol=None,
                  bound=by_row(file.features, loss), state=state)


def max_cosine(file: FeatureFile) -> Result:
    """max_c <z, mu_c> / (|z| |mu_c|); 0 for a row of zeros and for a mean of zeros.

    Techapanurak, Suganuma and Okatani, ACCV 2020, arXiv:1905.10628 (there: weights of a network
    that was trained so, for mu_c). Loss: that of a product of unit vectors, and 4 U of two norms.
    """
    means = class_means(file)

    def cosine(z: Array, mean: Array) -> float:
        lengths = float(np.linalg.norm(z) * np.linalg.norm(mean))
        return math.fsum(z * mean) / lengths if lengths > 0.0 else 0.0

    return Result(
        by_row(file.features, lambda z: max(cosine(z, mean) for mean in means)), rtol=1e-6,
        bound=by_row(file.features, lambda z: dot_loss(len(z)) + 4.0 * U))


def knn(file: FeatureFile, k: int = 50, normalize: bool = True, aggregate: str = "kth",
        bank_share: float = 1.0, seed: int = 0) -> Result:
    """-(distance to the k-th nearest train row). Sun et al., ICML 2022, arXiv:2204.06507.

    normalize: rows z / |z|_2; a zero row stays zero. k = 1 is the nearest row. mean: of the
    distances to the k nearest. bank_share: to a share of the train rows.

    Loss: d^2 = |z|^2 - 2 z.x + |x|^2 from a float32 inner product loses dot_loss (|z|^2 + |x|^2),
    and d half of that over d. (Picking another neighbour for it does not matter: the k-th smallest
    of a list moves by no more than its entries do.)
    """
    def prepare(z: Array) -> Array:
        length = float(np.linalg.norm(z))
        return z / length if normalize and length > 0.0 else z

    kept = row_sample(len(file.train_features), bank_share, seed)
    train = [prepare(x) for x in file.train_features[kept]]
    longest = max(float(np.linalg.norm(x)) for x in train)

    def distance(z: Array) -> float:
        nearest = sorted(math.sqrt(math.fsum((prepare(z) - x)**2)) for x in train)[:k]
        return nearest[-1] if aggregate == "kth" else math.fsum(nearest) / k

    scores = by_row(file.features, lambda z: -distance(z))
    bound = {
        split: np.array([
            dot_loss(len(z)) * (float(np.linalg.norm(prepare(z)))**2 + longest**2) / (-2.0 * s)
            for z, s in zip(file.features[split], scores[split])])
        for split in SPLITS}
    return Result(scores, rtol=2e-6, bound=bound, atol=5e-7)
