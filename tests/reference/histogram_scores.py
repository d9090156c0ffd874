"""Scores made of histograms of what the last layer does: weiper, nac."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp, softmax

import philox
from feature_files import SPLITS, Array, FeatureFile
from tolerances import U, Result, dot_loss

NOISE_STREAM, ROW_STREAM = 0x410, 0x420


class SampleHistogram:
    """Histograms of the entries of a row over `bins` equal bins of [least, most], the range of all
    train entries made wider by its width over the number of train rows at both ends; and how far
    a row's is from the mean of those of the train rows:

        sum_b (p_b - q_b) (log p_b - log q_b),  p ~ mean + epsilon,  q ~ smoothed row + epsilon

    (the divergences of p from q and of q from p, added up). Smoothed: the mean of `window` bins,
    (window - 1) // 2 of them to the left; beyond the ends stands the bin at the end. Entries
    outside of the bins count in no bin, but as entries of the row.

    `loss` bounds what it means that entries come to stand in the next bin if rounding, by up to
    `rounding` of the entries of a row, carries them over an edge.
    """

    def __init__(self, train: Array, rounding: Array, bins: int, window: int,
                 epsilon: float) -> None:
        gap = (train.max() - train.min()) / len(train)
        self.least, self.most = train.min() - gap, train.max() + gap
        self.bins, self.window, self.epsilon = bins, window, epsilon
        self.mean = np.mean([self.histogram(row) for row in train], axis=0)
        # As a bound, all that are near an edge go over it, in the same direction
        moving = [self.moving(row, r) for row, r in zip(train, rounding)]
        self.mean_moving = np.mean(moving, axis=0)

    def histogram(self, row: Array) -> Array:
        edges = np.linspace(self.least, self.most, self.bins + 1)
        place = np.searchsorted(edges, row, side="right") - 1
        inside = place[(place >= 0) & (place < self.bins)]
        return np.bincount(inside, minlength=self.bins) / len(row)

    def moving(self, row: Array, rounding: Array | float) -> Array:
        """For each edge the share of entries of the row so near that they may change sides."""
        edges = np.linspace(self.least, self.most, self.bins + 1)
        rounding = np.broadcast_to(rounding, row.shape)
        return np.array([np.mean(np.abs(row - edge) <= rounding) for edge in edges])

    def smooth(self, histogram: Array) -> Array:
        left = (self.window - 1) // 2
        padded = np.concatenate([np.full(left, histogram[0]), histogram,
                                 np.full(self.window - 1 - left, histogram[-1])])
        return np.array([padded[b:b + self.window].mean() for b in range(self.bins)])

    def compare(self, mean: Array, smoothed: Array) -> float:
        p = (mean + self.epsilon) / np.sum(mean + self.epsilon)
        q = (smoothed + self.epsilon) / np.sum(smoothed + self.epsilon)
        return math.fsum((p - q) * (np.log(p) - np.log(q)))

    def divergence(self, row: Array) -> float:
        return self.compare(self.mean, self.smooth(self.histogram(row)))

    def loss(self, row: Array, rounding: Array | float) -> float:
        """Each edge with entries near it: half of what it makes to carry them over, both ways."""
        histogram, here = self.histogram(row), self.moving(row, rounding)
        total = 0.0
        for edge in range(self.bins + 1):
            step = np.zeros(self.bins)
            if edge > 0:
                step[edge - 1] -= 1.0
            if edge < self.bins:
                step[edge] += 1.0
            if here[edge] > 0.0:
                total += 0.5 * abs(
                    self.compare(self.mean, self.smooth(histogram + here[edge] * step))
                    - self.compare(self.mean, self.smooth(histogram - here[edge] * step)))
            if self.mean_moving[edge] > 0.0:
                q, m = self.smooth(histogram), self.mean_moving[edge]
                total += 0.5 * abs(self.compare(self.mean + m * step, q)
                                   - self.compare(self.mean - m * step, q))
        return 1.5 * total + 50.0 * U * self.divergence(row)


def weiper(file: FeatureFile, copies: int = 100, delta: float = 1.8, lambda1: float = 2.5,
           lambda2: float = 0.1, window1: int = 4, window2: int = 15, bins: int = 100,
           seed: int = 0) -> Result:
    """-KLD(z) - lambda1 KLD(W~ z + b) + lambda2 mean_r max_c softmax(W~_r z + b).

    Granz et al., NeurIPS 2024, arXiv:2405.17164. W~_r = W + delta |w_c| noise_rc / |noise_rc|;
    epsilon 0.01 and 0.025.
    """
    classes, width = file.weight.shape
    perturbed = []
    for r in range(copies):
        for c in range(classes):
            noise = philox.normal(seed, NOISE_STREAM, r * classes + c, width)
            perturbed.append(file.weight[c] + delta * np.linalg.norm(file.weight[c])
                             * noise / np.linalg.norm(noise))
    weight = np.array(perturbed)
    bias = np.tile(file.bias, copies)
    lengths = np.linalg.norm(weight, axis=1)

    def logits(z: Array) -> Array:
        return weight @ z + bias

    def rounding(z: Array) -> Array:
        return dot_loss(width) * lengths * np.linalg.norm(z) + 2.0 * U * np.abs(bias)

    rows = file.train_features
    of_features = SampleHistogram(rows, np.zeros(len(rows)), bins, window1, 0.01)
    of_logits = SampleHistogram(np.array([logits(z) for z in rows]),
                                np.array([rounding(z) for z in rows]), bins, window2, 0.025)

    def confidence(z: Array) -> Array:
        return softmax(logits(z).reshape(copies, classes), axis=1).max(axis=1)

    def score(z: Array) -> float:
        return (-of_features.divergence(z) - lambda1 * of_logits.divergence(logits(z))
                + lambda2 * float(np.mean(confidence(z))))

    def loss(z: Array) -> float:
        p = confidence(z)
        moved = float(np.mean(2.0 * p * (1.0 - p))) * float(np.max(rounding(z)))
        return (of_features.loss(z, 0.0) + lambda1 * of_logits.loss(logits(z), rounding(z))
                + lambda2 * (moved + 16.0 * U))

    return Result({split: np.array([score(z) for z in file.features[split]]) for split in SPLITS},
                  rtol=2e-6,
                  bound={split: np.array([loss(z) for z in file.features[split]])
                         for split in SPLITS})


def nac_edges(bins: int) -> Array:
    """Where the bins of [0, 1] meet: log_1000 of h numbers from 1 to sqrt(1000) at equal distances,
    which gives 0 ... 1/2, and their mirror images; h = bins // 2."""
    half = np.log(np.linspace(1.0, math.sqrt(1000.0), bins // 2)) / math.log(1000.0)
    return np.concatenate([half[1:-1], [0.5], 1.0 - half[1:-1][::-1]])


def chosen_rows(rows: int, wanted: int, seed: int) -> list[int]:
    """`wanted` of the rows, all sets alike: row i by chance (still wanted) / (still there)."""
    chosen: list[int] = []
    for i in range(rows):
        if philox.uniform(seed, ROW_STREAM, i) * (rows - i) < wanted - len(chosen):
            chosen.append(i)
    return chosen


def nac(file: FeatureFile, bins: int = 50, saturation: float = 50.0, alpha: float = 100.0,
        rows: int = 1000, seed: int = 0) -> Result:
    """mean_j min(count_j(bin of s_j) / saturation, 1), s = sigmoid(alpha z g), g = W^T (p - 1/C).

    Liu et al., ICLR 2024, arXiv:2306.02879; counts of `rows` of the train rows, 0: of all.

    Loss: a neuron whose state rounding may carry over an edge moves its term to that of the next
    bin, and counts of a train row by 1 / saturation. The argument of the sigmoid loses what a
    float32 product loses, dot_loss |W_j| |p - 1/C|, and what p has lost of the logits.
    """
    train = len(file.train_features)
    chosen = chosen_rows(train, rows, seed) if 0 < rows < train else list(range(train))
    edges = nac_edges(bins)
    weight = file.weight
    absolute = np.abs(weight)

    def states(z: Array, f: Array) -> Array:
        g = weight.T @ (softmax(f) - 1.0 / file.classes)
        return 1.0 / (1.0 + np.exp(np.clip(-alpha * z * g, -700.0, 700.0)))

    def rounding(z: Array, f: Array) -> Array:
        p = softmax(f)
        log_p = f - logsumexp(f)
        # of p - 1/C: the exponent, and the two numbers themselves
        of_p = U * (p * (8.0 + 2.0 * np.abs(log_p) + np.max(np.abs(f))) + 1.0 / file.classes)
        g = weight.T @ (p - 1.0 / file.classes)
        of_g = (dot_loss(file.classes) * np.linalg.norm(weight, axis=0)
                * np.linalg.norm(p - 1.0 / file.classes) + absolute.T @ of_p)
        s = states(z, f)
        return s * (1.0 - s) * alpha * np.abs(z) * (of_g + 3.0 * U * np.abs(g))

    def places(z: Array, f: Array) -> Array:
        return np.searchsorted(edges, states(z, f), side="right")

    dim = file.train_features.shape[1]
    counts = np.zeros((dim, len(edges) + 1))
    moving = np.zeros((dim, len(edges) + 1))

    def near(z: Array, f: Array) -> list[tuple[int, int]]:
        """Neuron and the bin below of each edge that a state is within rounding of."""
        s, r = states(z, f), rounding(z, f)
        return [(j, e) for j, e in zip(*np.nonzero(np.abs(s[:, None] - edges) < r[:, None]))]

    for i in chosen:
        z, f = file.train_features[i], file.train_logits[i]
        counts[np.arange(dim), places(z, f)] += 1.0
        for j, e in near(z, f):
            moving[j, e] += 1.0
            moving[j, e + 1] += 1.0
    cover = np.minimum(counts / saturation, 1.0)
    # What a count that may be one more or less makes of the term
    unsure = np.maximum(np.minimum((counts + moving) / saturation, 1.0) - cover,
                        cover - np.minimum((counts - moving) / saturation, 1.0))

    def score(z: Array, f: Array) -> float:
        return math.fsum(cover[np.arange(dim), places(z, f)]) / dim

    def loss(z: Array, f: Array) -> float:
        total = float(np.sum(unsure[np.arange(dim), places(z, f)]))
        total += sum(abs(cover[j, e] - cover[j, e + 1]) for j, e in near(z, f))
        return total / dim + 4.0 * U

    def of_rows(of_row) -> dict[str, Array]:
        return {split: np.array([of_row(z, f) for z, f in zip(file.features[split],
                                                             file.logits[split])])
                for split in SPLITS}

    return Result(of_rows(score), rtol=1e-6, bound=of_rows(loss),
                  state={"rows_used": len(chosen)})
