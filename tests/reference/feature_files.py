"""The synthetic feature files of the reference values, and how they are read back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SPLITS = ("id_test", "ood/near", "ood/far")
SMALL = "small.h5"
DEFICIENT = "deficient.h5"
PERTURBED = "perturbed.h5"
COPIES = "copies.h5"

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


def make_perturbed() -> Datasets:
    """ReLU features with a split id_val, and of each row two copies that a disturbance moved; rows
    that are out of distribution are moved further."""
    rng = np.random.default_rng(3003)
    dim, classes = 40, 5
    means = 1.2 * rng.standard_normal((classes, dim))
    out: Datasets = {}
    pre: dict[str, Array] = {}
    for split, n in (("train", 90), ("id_val", 47), ("id_test", 40)):
        labels = unsorted_labels(rng, n, classes)
        out[f"/{split}/labels"] = labels
        pre[split] = means[labels] + 0.7 * rng.standard_normal((n, dim))
    pre["ood/near"] = 0.4 * rng.standard_normal(dim) + 0.9 * rng.standard_normal((26, dim))
    pre["ood/far"] = 0.2 + 1.4 * rng.standard_normal((21, dim))
    pre["id_test"][ZERO_ROW] = -1.0

    out["/head/weight"] = (0.4 * means + 0.1 * rng.standard_normal((classes, dim))
                           ).astype(np.float32)
    out["/head/bias"] = (0.3 * rng.standard_normal(classes)).astype(np.float32)
    for split, rows in pre.items():
        moved = 0.6 if split.startswith("ood") else 0.2
        features = np.maximum(rows, 0.0).astype(np.float32)
        out[f"/{split}/features"] = features
        out[f"/{split}/logits"] = logits_of(features, out["/head/weight"], out["/head/bias"])
        out[f"/{split}/copies/features"] = np.maximum(
            rows + moved * rng.standard_normal((2, *rows.shape)), 0.0).astype(np.float32)
    return out


UNSEEN_CLASS = 5  # of the 6 classes of copies.h5: none of /id_val is predicted as it


def make_copies() -> Datasets:
    """An id_val split; five perturbed copies of features and logits; logits of heads on other
    layers. Special rows as in small.h5, in all their copies, and one copy alone of zeros."""
    rng = np.random.default_rng(3003)
    dim, classes, copies = 19, 6, 5
    means = 1.1 * rng.standard_normal((classes, dim))
    weight = (0.5 * (means - means.mean(axis=0))).astype(np.float32)
    bias = (0.3 * rng.standard_normal(classes)).astype(np.float32)
    out: Datasets = {"/head/weight": weight, "/head/bias": bias}

    raw: dict[str, Array] = {}
    for split, n, seen in (("train", 190, classes), ("id_val", 60, UNSEEN_CLASS),
                           ("id_test", 41, classes)):
        labels = rng.permutation(np.arange(n) % seen)
        out[f"/{split}/labels"] = labels
        raw[split] = means[labels] + 1.2 * rng.standard_normal((n, dim))
    raw["ood/near"] = 0.5 * means[rng.integers(classes, size=33)] + rng.standard_normal((33, dim))
    raw["ood/far"] = rng.standard_normal(dim) + 1.3 * rng.standard_normal((37, dim))
    for split, z in raw.items():
        for row, factor in ((ZERO_ROW, 0.0), (CONFIDENT_ROW, 9.0), (SATURATED_ROW, 1000.0)):
            if split in ("id_test", "ood/far"):
                z[row] *= factor
        out[f"/{split}/features"] = z.astype(np.float32)
        out[f"/{split}/logits"] = logits_of(out[f"/{split}/features"], weight, bias)

    for split in SPLITS:
        z = raw[split]
        moved = np.stack([z * (1.0 + 0.1 * rng.standard_normal(z.shape))
                          + (np.abs(z).sum(axis=1, keepdims=True) > 0.0)
                          * 0.2 * rng.standard_normal(z.shape) for _ in range(copies)])
        moved[2, ZERO_ROW - 1] = 0.0
        out[f"/{split}/copies/features"] = moved.astype(np.float32)
        out[f"/{split}/copies/logits"] = np.stack(
            [logits_of(rows, weight, bias) for rows in out[f"/{split}/copies/features"]])
        for layer, noise in (("block1", 3.0), ("block2", 1.5), ("block3", 0.7), ("block4", 0.2)):
            f = out[f"/{split}/logits"] + noise * rng.standard_normal((len(z), classes))
            out[f"/{split}/layers/{layer}"] = f.astype(np.float32)
    predicted = set(out["/id_val/logits"].argmax(axis=1).tolist())
    assert predicted == set(range(classes)) - {UNSEEN_CLASS}, predicted
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
    train_logits: Array
    train_labels: NDArray[np.int64]
    features: dict[str, Array]
    logits: dict[str, Array]
    classes: int
    weight: Array  # of the head, [C, D]
    bias: Array
    val_features: Array | None  # of id_val, where the file has it
    val_logits: Array  # of id_val; without it, of train
    val_labels: NDArray[np.int64]
    copy_features: dict[str, Array]  # [K, n, D] of the splits that have copies
    copy_logits: dict[str, Array]
    layers: dict[str, dict[str, Array]]

    @staticmethod
    def read(path: Path) -> FeatureFile:
        with h5py.File(path, "r") as file:
            val = "id_val" if "id_val" in file else "train"
            copied = [s for s in ("train", "id_val", *SPLITS) if s in file and "copies" in file[s]]
            return FeatureFile(
                train_features=file["/train/features"][()].astype(np.float64),
                train_logits=file["/train/logits"][()].astype(np.float64),
                train_labels=file["/train/labels"][()],
                features={s: file[f"/{s}/features"][()].astype(np.float64) for s in SPLITS},
                logits={s: file[f"/{s}/logits"][()].astype(np.float64) for s in SPLITS},
                classes=int(file["/head/weight"].shape[0]),
                weight=file["/head/weight"][()].astype(np.float64),
                bias=file["/head/bias"][()].astype(np.float64),
                val_features=(file["/id_val/features"][()].astype(np.float64)
                              if "id_val" in file else None),
                val_logits=file[f"/{val}/logits"][()].astype(np.float64),
                val_labels=file[f"/{val}/labels"][()],
                copy_features={s: file[f"/{s}/copies/features"][()].astype(np.float64)
                               for s in copied},
                copy_logits={s: file[f"/{s}/copies/logits"][()].astype(np.float64) for s in copied if "logits" in file[s]["copies"]},
                layers={s: {name: values[()].astype(np.float64)
                            for name, values in file[s].get("layers", {}).items()} for s in SPLITS},
            )


def class_means(file: FeatureFile) -> Array:
    return np.array([file.train_features[file.train_labels == c].mean(axis=0)
                     for c in range(file.classes)])
