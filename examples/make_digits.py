#!/usr/bin/env python3
"""Makes data/digits.h5, the small feature file that the examples read.

A small ReLU network learns to tell the digits 0 to 7 of scikit-learn's `load_digits` apart (8x8
grey images, values 0 to 16). Its penultimate features, logits and last layer are stored, for
digits, for digits it never saw (8 and 9) and for images that are no digits at all. All images
come with scikit-learn, nothing is downloaded. Needs numpy, scikit-learn, Pillow, torch and h5py.

    make_digits.py [--out PATH]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import sklearn.datasets
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from export_features import export_features

CLASSES = 8  # digits 0 to 7 are in-distribution
FEATURES = 64
WHITE = 16.0  # the brightest value in load_digits
PATCHES = 200
EPOCHS = 20
SOURCE = (
    "scikit-learn load_digits (test set of the UCI optical recognition of handwritten digits) and "
    "scikit-learn's sample photographs china.jpg and flower.jpg"
)
NOTE = (
    "A demonstration, not a benchmark: a small multilayer perceptron (64-128-64-8, batch "
    f"normalisation, ReLU) trained with Adam for {EPOCHS} epochs on 55 % of scikit-learn's 8x8 "
    "images of the digits 0 to 7. Digits 8 and 9 and the other images were never seen in training; "
    "noisy and inverted are made from the id_test images, shuffled from the id_val images."
)


class ImageSet(NamedTuple):
    images: np.ndarray  # [n, 64], 0 to 16
    labels: np.ndarray | None = None
    kind: str | None = None  # of an OOD set: near or far


def photograph(name: str) -> np.ndarray:
    """The brightness [height, width], 0 to 255, of one of scikit-learn's sample photographs."""
    red, green, blue = np.moveaxis(sklearn.datasets.load_sample_image(f"{name}.jpg"), 2, 0)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def patches(name: str, random: np.random.RandomState) -> np.ndarray:
    """Random 8x8 patches, [PATCHES, 64], of a photograph a quarter of its width and height.

    At full size nearly every 8x8 patch would be a flat area or a single edge.
    """
    image = photograph(name)
    height, width = (n // 4 for n in image.shape)
    small = image[: height * 4, : width * 4].reshape(height, 4, width, 4).mean(axis=(1, 3))
    windows = np.lib.stride_tricks.sliding_window_view(small, (8, 8)).reshape(-1, 64)
    return windows[random.choice(len(windows), PATCHES, replace=False)] * (WHITE / 255)


def image_sets() -> dict[str, ImageSet]:
    """All images by their group in the file."""
    digits = sklearn.datasets.load_digits()
    known = digits.target < CLASSES
    images, labels = digits.data[known], digits.target[known].astype(np.int64)
    train, rest, y_train, y_rest = train_test_split(
        images, labels, train_size=0.55, stratify=labels, random_state=0
    )
    val, test, y_val, y_test = train_test_split(
        rest, y_rest, train_size=1 / 3, stratify=y_rest, random_state=0
    )
    # RandomState, whose numbers never change with NumPy's version, unlike default_rng's.
    random = np.random.RandomState(0)
    noisy = np.clip(test + random.normal(0, 2, test.shape), 0, WHITE)
    shuffled = np.stack([random.permutation(image) for image in val])
    return {
        "train": ImageSet(train, y_train),
        "id_val": ImageSet(val, y_val),
        "id_test": ImageSet(test, y_test),
        "csid/noisy": ImageSet(noisy, y_test),
        "ood_val/shuffled": ImageSet(shuffled, kind="far"),
        "ood/digit_8": ImageSet(digits.data[digits.target == 8], kind="near"),
        "ood/digit_9": ImageSet(digits.data[digits.target == 9], kind="near"),
        "ood/china_patches": ImageSet(patches("china", random), kind="far"),
        "ood/flower_patches": ImageSet(patches("flower", random), kind="far"),
        "ood/inverted": ImageSet(WHITE - test, kind="far"),
    }


def train_network(train: ImageSet) -> nn.Module:
    """A network in evaluation mode.

    In float64, so that rounding, which differs by machine, hardly moves the result; with batch
    normalisation, because without it some features are zero for every image.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the order of sums, and so the bytes of the file, stay the same
    network = nn.Sequential(
        nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU(),
        nn.Linear(FEATURES, CLASSES),
    ).double()
    images, labels = batch(train)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return network.eval()


def batch(images: ImageSet) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What a data loader would yield; all images fit in one batch."""
    labels = None if images.labels is None else torch.from_numpy(images.labels)
    return torch.from_numpy(images.images / WHITE), labels


def write(path: Path, network: nn.Module, sets: dict[str, ImageSet]) -> None:
    def named(parent: str) -> dict[str, ImageSet]:
        return {name.split("/")[1]: s for name, s in sets.items() if name.startswith(f"{parent}/")}

    export_features(
        network,
        path,
        train=[batch(sets["train"])],
        id_val=[batch(sets["id_val"])],
        id_test=[batch(sets["id_test"])],
        ood={name: (s.kind, [batch(s)]) for name, s in named("ood").items()},
        ood_val={name: (s.kind, [batch(s)]) for name, s in named("ood_val").items()},
        csid={name: [batch(s)] for name, s in named("csid").items()},
        model_name=f"MLP 64-128-{FEATURES}-{CLASSES} with batch normalisation",
        id_dataset="digits 0 to 7",
    )
    with h5py.File(path, "r+") as file:
        predicted = file["id_test/logits"][:].argmax(axis=1)
        file.attrs["id_test_accuracy"] = np.mean(predicted == file["id_test/labels"][:])
        file.attrs["feature_layer"] = "second hidden layer, after batch normalisation and ReLU"
        file.attrs["source"] = SOURCE
        file.attrs["note"] = NOTE


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the small feature file of the examples.")
    default = Path(__file__).parent / "data" / "digits.h5"
    parser.add_argument("--out", type=Path, default=default, help="default: data/digits.h5")
    out: Path = parser.parse_args().out
    sets = image_sets()
    # Next to the result and renamed at the end: a failed run leaves an older file alone.
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        partial = Path(folder) / out.name
        write(partial, train_network(sets["train"]), sets)
        os.replace(partial, out)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
