"""Real features of real networks: agreement with published reference numbers and with float64.

The files are not part of the project; without them these tests are skipped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest

from transcriptions.arrays import Arrays, Score
from transcriptions.cases import BANKS, CASES
from transcriptions.compare import as_keywords, check_aurocs, check_rows

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


@pytest.fixture(scope="module")
def arrays(case: tuple[Path, Any]) -> Arrays:
    return Arrays(case[0])


@pytest.mark.parametrize(("detector", "options", "transcription"), CASES)
def test_agrees_with_float64(case: tuple[Path, Any], arrays: Arrays, evaluate: Callable[..., Any],
                             score_rows: Callable[..., np.ndarray], detector: str, options: str,
                             transcription: Callable[[Arrays], Score]) -> None:
    path, report = case
    if options:
        report = evaluate(path, "-d", detector, "-p", options)
    score = transcription(arrays)
    check_aurocs([row for row in report["rows"] if row["detector"] == detector], arrays, score)
    check_rows(score_rows(path, ["ood/svhn"], detector, **as_keywords(options)), score("svhn"))


@pytest.fixture(scope="module")
def thinned(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A share of the rows of one file: numpy compares each row with the whole bank."""
    path = tmp_path_factory.mktemp("thinned") / "densenet.h5"
    with h5py.File(shared_data / FILES[0]) as whole, h5py.File(path, "w") as file:
        whole.copy("head", file)
        for split, step in (("train", 8), ("id_test", 5), ("ood/svhn", 1), ("ood/textures", 1)):
            for name, array in whole[split].items():
                file[f"{split}/{name}"] = array[::step]
    return path


@pytest.mark.parametrize(("detector", "options", "transcription"), BANKS)
def test_banks_agree_with_float64(thinned: Path, evaluate: Callable[..., Any], detector: str,
                                  options: str, transcription: Callable[[Arrays], Score]) -> None:
    arguments = ("-p", options) if options else ()
    rows = evaluate(thinned, "-d", detector, *arguments)["rows"]
    check_aurocs(rows, data := Arrays(thinned), transcription(data))
