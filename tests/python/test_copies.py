"""Eight perturbed copies of a real network: agreement with reference numbers and with float64.

The file is not part of the project; without it these tests are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest
from scipy.special import logsumexp, xlogy
from sklearn.metrics import roc_auc_score

FILE = "resnet56_cifar10_perturbed_k8.h5"
REFERENCE = {"predictive_entropy": "neg_predictive_entropy",
             "mutual_information": "neg_mutual_information"}


@pytest.fixture(scope="module")
def report(shared_data: Path, evaluate: Callable[..., Any]) -> Any:
    return evaluate(shared_data / FILE)


def test_agrees_with_the_reference_table(report: Any, shared_data: Path) -> None:
    reference = json.loads((shared_data / "reference_results.json").read_text())[FILE]["ood"]
    compared = 0
    for row in report["rows"]:
        if row["detector"] in REFERENCE:
            want = reference[row["dataset"]][REFERENCE[row["detector"]]]
            where = f"{row['detector']} on {row['dataset']}"
            assert row["auroc"] == pytest.approx(want["auroc"], abs=1e-4), where
            assert row["fpr95"] == pytest.approx(want["fpr95"], abs=1e-3), where
            compared += 1
    assert compared == len(REFERENCE) * len(reference)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - logsumexp(logits, axis=-1, keepdims=True)


def cosines(z: np.ndarray, copies: np.ndarray) -> np.ndarray:
    return (z * copies).sum(axis=-1) / (np.linalg.norm(z, axis=-1)
                                        * np.linalg.norm(copies, axis=-1))


def crossmax(f: np.ndarray) -> np.ndarray:
    f = f - f.max(axis=2, keepdims=True)
    return np.median(f - f.max(axis=0), axis=0)


def mean_p(f: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(f)).mean(axis=0)


# Of logits f [K, n, C], or of features z [n, D] and their copies [K, n, D]
OF_LOGITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # the rest of the mean: its largest entry has no digits left near 1
    "mean_msp": lambda f: -np.sort(mean_p(f), axis=1)[:, :-1].sum(axis=1),
    "mean_logit_energy": lambda f: logsumexp(f.mean(axis=0), axis=1),
    "predictive_entropy": lambda f: xlogy(mean_p(f), mean_p(f)).sum(axis=1),
    "expected_entropy":
        lambda f: (np.exp(log_softmax(f)) * log_softmax(f)).sum(axis=2).mean(axis=0),
    "mutual_information": lambda f: -(np.exp(log_softmax(f)) * (
        log_softmax(f) - np.log(mean_p(f)))).sum(axis=2).mean(axis=0),
    "copy_variance": lambda f: -np.exp(log_softmax(f)).var(axis=0, ddof=1).mean(axis=1),
    "variation_ratio": lambda f: np.array(
        [np.bincount(votes).max() for votes in f.argmax(axis=2).T]) / len(f),
    "crossmax": lambda f: logsumexp(crossmax(f), axis=1),
}
OF_FEATURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "wepe": lambda z, copies: cosines(z, copies).mean(axis=0),
    "min_cosine": lambda z, copies: cosines(z, copies).min(axis=0),
    "cosine_variance": lambda z, copies: -cosines(z, copies).var(axis=0, ddof=1),
}


@pytest.mark.parametrize("detector", [*OF_LOGITS, *OF_FEATURES])
def test_agrees_with_float64(report: Any, shared_data: Path, detector: str) -> None:
    def score(group: h5py.Group) -> np.ndarray:
        if detector in OF_LOGITS:
            return OF_LOGITS[detector](group["copies/logits"][:].astype(np.float64))
        return OF_FEATURES[detector](group["features"][:].astype(np.float64),
                                     group["copies/features"][:].astype(np.float64))

    with h5py.File(shared_data / FILE) as file:
        id_scores = score(file["id_test"])
        rows = {row["dataset"]: row for row in report["rows"] if row["detector"] == detector}
        assert set(rows) == set(file["ood"])
        for name, row in rows.items():
            ood_scores = score(file["ood"][name])
            want = roc_auc_score(np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))],
                                 np.r_[id_scores, ood_scores])
            assert row["auroc"] == pytest.approx(want, abs=1e-5), name
