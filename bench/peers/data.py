"""Made-up rows, the same in every process: a seed and a shape say all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

F32 = np.float32


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, F32)


@dataclass(frozen=True)
class Logits:
    """Training and test logits: noise, and a margin for the row's own class."""

    rows: int
    classes: int
    train_rows: int = 0

    def _logits(self, seed: int, rows: int) -> np.ndarray:
        f = 2 * normal(seed, rows, self.classes)
        f[np.arange(rows), np.arange(rows) % self.classes] += 6
        return f

    @cached_property
    def test(self) -> np.ndarray:
        return self._logits(1, self.rows)

    @cached_property
    def train(self) -> np.ndarray:
        return self._logits(2, self.train_rows)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.arange(self.train_rows) % self.classes


@dataclass(frozen=True)
class Features:
    """Clusters behind a ReLU, as penultimate features are, and a head that tells them apart."""

    rows: int
    dim: int
    classes: int
    train_rows: int

    @cached_property
    def means(self) -> np.ndarray:
        return normal(1, self.classes, self.dim)

    def _rows(self, seed: int, rows: int) -> np.ndarray:
        z = normal(seed, rows, self.dim)
        z *= F32(0.5)
        z += self.means[np.arange(rows) % self.classes]
        return np.maximum(z, 0, out=z)

    @cached_property
    def test(self) -> np.ndarray:
        return self._rows(2, self.rows)

    @cached_property
    def train(self) -> np.ndarray:
        return self._rows(3, self.train_rows)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.arange(self.train_rows) % self.classes

    @cached_property
    def weight(self) -> np.ndarray:
        inside = np.maximum(self.means, 0)
        return (inside - F32(0.9) * inside.mean(axis=0)) / F32(self.dim / 20)

    @cached_property
    def bias(self) -> np.ndarray:
        return 0.1 * normal(4, self.classes)

    @cached_property
    def test_logits(self) -> np.ndarray:
        return self.test @ self.weight.T + self.bias

    @cached_property
    def train_logits(self) -> np.ndarray:
        return self.train @ self.weight.T + self.bias

    @cached_property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        return self.weight, self.bias


@dataclass(frozen=True)
class Scores:
    """Scores of so many ID and so many OOD rows, float32 as detectors give them."""

    rows: int

    @cached_property
    def id(self) -> np.ndarray:
        return normal(1, self.rows)

    @cached_property
    def ood(self) -> np.ndarray:
        return normal(2, self.rows) - 2
