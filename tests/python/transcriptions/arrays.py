"""The arrays of a feature file in float64, and what a transcription makes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Callable

import h5py
import numpy as np

Score = Callable[[str], np.ndarray]  # name of a set -> a score for each row


class Arrays:
    """The float32 arrays of a file, computed with in float64."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.labels = file["train/labels"][:]
            self.features = {"train": file["train/features"][:].astype(np.float64),
                             "id_test": file["id_test/features"][:].astype(np.float64)}
            self.logits = {"train": file["train/logits"][:].astype(np.float64),
                           "id_test": file["id_test/logits"][:].astype(np.float64)}
            val = "id_val" if "id_val" in file else "train"  # where fits that ask for id_val go
            self.features["val"] = file[f"{val}/features"][:].astype(np.float64)
            self.logits["val"] = file[f"{val}/logits"][:].astype(np.float64)
            self.val_labels = file[f"{val}/labels"][:]
            self.weight = file["head/weight"][:].astype(np.float64)
            self.bias = file["head/bias"][:].astype(np.float64)
            self.ood = list(file["ood"])
            for name in self.ood:
                self.features[name] = file[f"ood/{name}/features"][:].astype(np.float64)
                self.logits[name] = file[f"ood/{name}/logits"][:].astype(np.float64)
        self.means = np.stack([self.features["train"][self.labels == c].mean(axis=0)
                               for c in range(self.labels.max() + 1)])


def unit_rows(data: Arrays) -> Arrays:
    unit = copy.copy(data)
    unit.features = {name: z / np.linalg.norm(z, axis=1, keepdims=True)
                     for name, z in data.features.items()}
    train = unit.features["train"]
    unit.means = np.stack([train[data.labels == c].mean(axis=0) for c in range(len(data.means))])
    return unit
