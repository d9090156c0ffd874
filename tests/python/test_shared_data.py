"""Real features of real networks: agreement with published reference numbers and with float64.

The files are not part of the project; without them these tests are skipped.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest
import scipy.linalg
from scipy.special import logsumexp, xlogy
from sklearn.metrics import roc_auc_score

# Names in reference_results.json
REFERENCE = {"msp": "msp", "max_logit": "maxlogit", "energy": "energy",
             "mahalanobis": "mahalanobis", "knn": "knn50", "vim": "vim"}
FILES = ("densenet_bc100_cifar10.h5", "resnet56_cifar10.h5")


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest, shared_data: Path,
         evaluate: Callable[..., Any]) -> tuple[Path, Any]:
    path = shared_data / request.param
    return path, evaluate(path)


def test_agrees_with_the_reference_table(case: tuple[Path, Any], shared_data: Path) -> None:
    path, report = case
    reference = json.loads((shared_data / "reference_results.json").read_text())[path.name]
    assert report["id_accuracy"] == pytest.approx(reference["id_test_accuracy"], abs=1e-12)
    compared = 0
    for row in report["rows"]:
        if row["detector"] not in REFERENCE:
            continue
        want = reference["ood"][row["dataset"]][REFERENCE[row["detector"]]]
        where = f"{row['detector']} on {row['dataset']}"
        assert row["auroc"] == pytest.approx(want["auroc"], abs=1e-4), where
        assert row["fpr95"] == pytest.approx(want["fpr95"], abs=1e-3), where
        compared += 1
    assert compared == len(REFERENCE) * len(reference["ood"])


class Arrays:
    """The float32 arrays of a file, computed with in float64."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.labels = file["train/labels"][:]
            self.features = {"train": file["train/features"][:].astype(np.float64),
                             "id_test": file["id_test/features"][:].astype(np.float64)}
            self.logits = {"id_test": file["id_test/logits"][:].astype(np.float64)}
            self.weight = file["head/weight"][:].astype(np.float64)
            self.bias = file["head/bias"][:].astype(np.float64)
            self.ood = list(file["ood"])
            for name in self.ood:
                self.features[name] = file[f"ood/{name}/features"][:].astype(np.float64)
                self.logits[name] = file[f"ood/{name}/logits"][:].astype(np.float64)
        self.means = np.stack([self.features["train"][self.labels == c].mean(axis=0)
                               for c in range(self.labels.max() + 1)])


Score = Callable[[str], np.ndarray]  # name of a set -> a score for each row


def entropy(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        log_p = data.logits[name] - logsumexp(data.logits[name], axis=1, keepdims=True)
        return xlogy(np.exp(log_p), np.exp(log_p)).sum(axis=1)
    return score


def gen(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        log_p = data.logits[name] - logsumexp(data.logits[name], axis=1, keepdims=True)
        return -((np.exp(log_p) * -np.expm1(log_p)) ** 0.1).sum(axis=1)
    return score


def doctor(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        log_p = data.logits[name] - logsumexp(data.logits[name], axis=1, keepdims=True)
        return (np.exp(log_p) * np.expm1(log_p)).sum(axis=1)
    return score


def kl_uniform(data: Arrays) -> Score:
    def score(name: str) -> np.ndarray:
        logits = data.logits[name]
        return logsumexp(logits, axis=1) - logits.mean(axis=1) - np.log(logits.shape[1])
    return score


def max_cosine(data: Arrays) -> Score:
    directions = data.means / np.linalg.norm(data.means, axis=1, keepdims=True)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        return (z @ directions.T).max(axis=1) / np.linalg.norm(z, axis=1)
    return score


def relative_mahalanobis(data: Arrays) -> Score:
    train = data.features["train"]
    mean = train.mean(axis=0)
    within, total = train - data.means[data.labels], train - mean
    precision = scipy.linalg.pinvh(within.T @ within / len(train))
    background = scipy.linalg.pinvh(total.T @ total / len(train))

    def squared(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        return np.einsum("ij,jk,ik->i", rows, matrix, rows, optimize=True)

    def score(name: str) -> np.ndarray:
        z = data.features[name]
        nearest = np.min([squared(z - mu, precision) for mu in data.means], axis=0)
        return squared(z - mean, background) - nearest
    return score


def unit_rows(data: Arrays) -> Arrays:
    unit = copy.copy(data)
    unit.features = {name: z / np.linalg.norm(z, axis=1, keepdims=True)
                     for name, z in data.features.items()}
    train = unit.features["train"]
    unit.means = np.stack([train[data.labels == c].mean(axis=0) for c in range(len(data.means))])
    return unit


def tied_mahalanobis(data: Arrays) -> Score:
    within = data.features["train"] - data.means[data.labels]
    precision = scipy.linalg.pinvh(within.T @ within / len(within))

    def score(name: str) -> np.ndarray:
        return -np.min([np.einsum("ij,jk,ik->i", rows, precision, rows, optimize=True)
                        for rows in (data.features[name] - mu for mu in data.means)], axis=0)
    return score


def ssd(data: Arrays) -> Score:
    train = unit_rows(data).features["train"]
    mean = train.mean(axis=0)
    precision = scipy.linalg.pinvh(np.cov(train, rowvar=False, bias=True))

    def score(name: str) -> np.ndarray:
        rows = unit_rows(data).features[name] - mean
        return -np.einsum("ij,jk,ik->i", rows, precision, rows, optimize=True)
    return score


def gaussian_density(data: Arrays) -> Score:
    dim = data.means.shape[1]

    def log_density(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        mean, covariance = own.mean(axis=0), np.cov(own, rowvar=False)
        squared = ((rows - mean) * np.linalg.solve(covariance, (rows - mean).T).T).sum(axis=1)
        volume = np.linalg.slogdet(covariance)[1] + dim * math.log(2 * math.pi)
        return math.log(len(own) / len(data.labels)) - 0.5 * (squared + volume)

    def score(name: str) -> np.ndarray:
        return logsumexp([log_density(data.features[name], data.features["train"][data.labels == c])
                          for c in range(len(data.means))], axis=0)
    return score


def gem(data: Arrays) -> Score:
    within = data.features["train"] - data.means[data.labels]
    precision = scipy.linalg.pinvh(within.T @ within / len(within))

    def score(name: str) -> np.ndarray:
        return logsumexp([-0.5 * np.einsum("ij,jk,ik->i", rows, precision, rows, optimize=True)
                          for rows in (data.features[name] - mu for mu in data.means)], axis=0)
    return score


def residual(data: Arrays) -> Score:
    origin = -scipy.linalg.pinv(data.weight) @ data.bias
    train = data.features["train"] - origin
    dim = train.shape[1] // 2  # of features narrower than 768
    basis = np.linalg.eigh(train.T @ train / len(train))[1][:, :-dim]

    def score(name: str) -> np.ndarray:
        return -np.linalg.norm((data.features[name] - origin) @ basis, axis=1)
    return score


def check(rows: list[Any], data: Arrays, score: Score, tolerance: float) -> None:
    id_scores = score("id_test")
    for name in data.ood:
        row = next(row for row in rows if row["dataset"] == name)
        ood_scores = score(name)
        want = roc_auc_score(np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))],
                             np.r_[id_scores, ood_scores])
        assert row["auroc"] == pytest.approx(want, abs=tolerance), name


@pytest.mark.parametrize("transcription", [entropy, gen, doctor, kl_uniform, relative_mahalanobis,
                                           ssd, gaussian_density, max_cosine, residual])
def test_agrees_with_float64(case: tuple[Path, Any],
                             transcription: Callable[[Arrays], Score]) -> None:
    path, report = case
    rows = [row for row in report["rows"] if row["detector"] == transcription.__name__]
    # 1 - p loses digits of float64 too where p is near 1: gen and doctor are compared to what numpy
    # can do
    check(rows, data := Arrays(path), transcription(data), 1e-5)


@pytest.mark.parametrize(("detector", "preset", "transcription"), [
    ("mahalanobis", "mahalanobis++", lambda data: tied_mahalanobis(unit_rows(data))),
    ("relative_mahalanobis", "relative_mahalanobis++",
     lambda data: relative_mahalanobis(unit_rows(data))),
    ("gaussian_density", "gem", gem)])
def test_presets_agree_with_float64(case: tuple[Path, Any], evaluate: Callable[..., Any],
                                    detector: str, preset: str,
                                    transcription: Callable[[Arrays], Score]) -> None:
    path, _ = case
    rows = evaluate(path, "-d", detector, "-p", f"preset={preset}")["rows"]
    check(rows, data := Arrays(path), transcription(data), 1e-5)
