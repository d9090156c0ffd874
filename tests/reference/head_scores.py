"""Scores that need the last layer, logits = W z + b: residual, vim."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from feature_files import Array, FeatureFile
from tolerances import U, Json, Result, by_row, dot_loss, one_digit_up


class ResidualSpace:
    """u = -pinv(W) b, and the eigenvectors of M = (1/N) sum_i (z_i - u) (z_i - u)^T but for those
    of the `dim` largest eigenvalues. dim = 0: 1000 if D >= 2048, 512 if D >= 768, else D / 2."""

    def __init__(self, file: FeatureFile, dim: int) -> None:
        width = file.train_features.shape[1]
        self.dim = dim or (1000 if width >= 2048 else 512 if width >= 768 else width // 2)
        self.origin = -np.linalg.pinv(file.weight) @ file.bias
        moment = np.zeros((width, width))
        for z in file.train_features:
            moment += np.outer(z - self.origin, z - self.origin)
        values, vectors = np.linalg.eigh(moment / len(file.train_features))  # ascending
        self.basis = vectors[:, :width - self.dim]
        retained = values[values > width * np.finfo(np.float64).eps * values[-1]]
        self.rank = len(retained)
        self.condition_number = float(values[-1] / retained[0])
        # The split must not hang on rounding.
        assert values[width - self.dim] - values[width - self.dim - 1] > 1e-4 * values[-1]

    def norm(self, z: Array) -> float:
        return math.sqrt(math.fsum((self.basis.T @ (z - self.origin))**2))

    def loss(self, z: Array) -> float:
        """The columns of the basis are orthonormal: a float32 product loses dot_loss |z - u|; u and
        z - u, rounded to float32, U of their lengths more."""
        return (dot_loss(len(z)) * float(np.linalg.norm(z - self.origin))
                + U * float(np.linalg.norm(self.origin)))

    def state(self) -> Json:
        return {"dim": self.dim, "rank": self.rank, "condition_number": self.condition_number}


def residual(file: FeatureFile, dim: int = 0) -> Result:
    """-|R^T (z - u)|. Wang et al., CVPR 2022, arXiv:2203.10807 (ViM), its residual score."""
    space = ResidualSpace(file, dim)
    return Result(by_row(file.features, lambda z: -space.norm(z)), rtol=2e-6,
                  bound=by_row(file.features, space.loss), state=space.state())


def vim(file: FeatureFile, dim: int = 0) -> Result:
    """logsumexp(f) - alpha |R^T (z - u)|, alpha = mean of max_c f over mean of the norm, on train.

    Wang et al., CVPR 2022, arXiv:2203.10807. Loss: that of the norm times alpha, the loss of alpha
    (that of a mean of norms, relative to it) times the norm, and that of the energy.
    """
    space = ResidualSpace(file, dim)
    mean_norm = float(np.mean([space.norm(z) for z in file.train_features]))
    alpha = float(np.mean(file.train_logits.max(axis=1))) / mean_norm
    alpha_loss = alpha * float(np.mean([space.loss(z) for z in file.train_features])) / mean_norm

    def score(z: Array, f: Array) -> float:
        return float(logsumexp(f)) - alpha * space.norm(z)

    def loss(z: Array, f: Array) -> float:
        energy_loss = 8.0 * U * (abs(float(np.max(f))) + math.log(file.classes))
        return energy_loss + alpha * space.loss(z) + alpha_loss * space.norm(z)

    return Result(
        {split: np.array([score(z, f) for z, f in zip(file.features[split], file.logits[split])])
         for split in file.features},
        rtol=2e-6,
        bound={split: np.array([loss(z, f) for z, f in zip(file.features[split],
                                                          file.logits[split])])
               for split in file.features},
        state={**space.state(), "alpha": alpha}, state_atol={"alpha": one_digit_up(alpha_loss)})
