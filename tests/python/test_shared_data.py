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
from sklearn.metrics import roc_auc_score

from transcriptions import (
    banks,
    fitted_logits,
    gaussians,
    logits,
    margins,
    shaping,
    subspaces,
)
from transcriptions.arrays import Arrays, Score, unit_rows

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


# With the defaults.
DEFAULTS = [
    logits.entropy, logits.gen, logits.doctor, logits.kl_uniform,
    fitted_logits.temperature_scaling, fitted_logits.kl_matching, fitted_logits.openmax,
    gaussians.relative_mahalanobis, gaussians.ssd, gaussians.gaussian_density,
    gaussians.max_cosine, gaussians.residual,
    banks.she, banks.pnml,
    subspaces.neco, subspaces.cop, subspaces.wdiscood, subspaces.weiper, subspaces.nac,
    shaping.react, shaping.vra, shaping.optfs, shaping.dice, shaping.ash, shaping.scale,
    shaping.lts,
    margins.fdbd, margins.nci, margins.caref, margins.cadref, margins.gradnorm, margins.ora,
]
# (detector, what follows -p, transcription)
OPTIONS = [
    ("mahalanobis", "preset=mahalanobis++",
     lambda data: gaussians.tied_mahalanobis(unit_rows(data))),
    ("relative_mahalanobis", "preset=relative_mahalanobis++",
     lambda data: gaussians.relative_mahalanobis(unit_rows(data))),
    ("gaussian_density", "preset=gem", gaussians.gem),
    *((detector, f"preset={preset}", score) for detector, preset, score in fitted_logits.PRESETS),
    *subspaces.OPTIONS,
    ("react", "preset=pytorch_ood", shaping.react_at_1),
    ("vra", "preset=openood", shaping.vra_clip_all),
    ("vra", "preset=pytorch_ood", shaping.vra_clip),
    ("ash", "preset=openood", shaping.ash_b),
    ("fdbd", "normalizer=norm", lambda data: margins.fdbd(data, "norm")),
    ("nci", "preset=pytorch_ood", lambda data: margins.nci(data, 0)),
]
BANKS = [
    ("nnguide", "k=10", banks.nnguide),
    ("nnguide", "preset=pytorch_ood", banks.nnguide_pytorch_ood),
    ("relation", "power=1", banks.relation),
    ("knn", "preset=pytorch_ood", banks.knn_pytorch_ood),
]


def check(rows: list[Any], data: Arrays, score: Score, sets: list[str]) -> None:
    id_scores = score("id_test")
    for name in sets:
        row = next(row for row in rows if row["dataset"] == name)
        ood_scores = score(name)
        want = roc_auc_score(np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))],
                             np.r_[id_scores, ood_scores])
        assert row["auroc"] == pytest.approx(want, abs=1e-5), name


@pytest.fixture(scope="module")
def arrays(case: tuple[Path, Any]) -> Arrays:
    return Arrays(case[0])


@pytest.mark.parametrize("transcription", DEFAULTS, ids=lambda score: score.__name__)
def test_agrees_with_float64(case: tuple[Path, Any], arrays: Arrays,
                             transcription: Callable[[Arrays], Score]) -> None:
    rows = [row for row in case[1]["rows"] if row["detector"] == transcription.__name__]
    # 1 - p loses digits of float64 too where p is near 1: gen and doctor are compared to what numpy
    # can do
    check(rows, arrays, transcription(arrays), arrays.ood)


@pytest.mark.parametrize(("detector", "options", "transcription"), OPTIONS)
def test_options_agree_with_float64(case: tuple[Path, Any], arrays: Arrays,
                                    evaluate: Callable[..., Any], detector: str, options: str,
                                    transcription: Callable[[Arrays], Score]) -> None:
    rows = evaluate(case[0], "-d", detector, "-p", options)["rows"]
    check(rows, arrays, transcription(arrays), arrays.ood)


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
    rows = evaluate(thinned, "-d", detector, "-p", options)["rows"]
    data = Arrays(thinned)
    check(rows, data, transcription(data), data.ood)
