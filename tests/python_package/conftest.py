"""What the tests of the installed Python package share.

They import `ood` from where it is installed, never from the source tree. OOD_COMMAND names the C++ command that
was built from the same sources, OOD_SCORE_ROWS its tool of that name; what needs them is skipped without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood

SOURCE = Path(__file__).resolve().parents[2]
DIGITS = SOURCE / "examples/data/digits.h5"

ROWS, DIM, CLASSES, COPIES = 120, 12, 3, 4
CENTERS = 2 * np.random.default_rng(0).random((CLASSES, DIM)).astype(np.float32)

# The fit of corp takes seconds with its default.
QUICK = {"corp": {"dimension": 64}}

# What the package's keywords call the arrays of /copies.
KEYWORDS = {"copies/features": "copy_features", "copies/logits": "copy_logits"}


def make(name: str, **options: Any) -> ood.Detector:
    return ood.DETECTORS[name](**QUICK.get(name, {}) | options)


def make_rows(seed: int, rows: int = ROWS, shift: float = 0.0) -> dict[str, Any]:
    """Every array that a detector may ask for: three clusters, features of 0 or more as after a ReLU."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % CLASSES

    def noisy(*shape: int) -> np.ndarray:
        clean = CENTERS[labels] + shift
        return np.abs(clean + 0.3 * random.normal(size=(*shape, rows, DIM))).astype(np.float32)

    arrays = with_outputs(noisy(), noisy(COPIES))
    labels[:2] = 1, 0  # wrong: no temperature calibrates rows that are all right
    return arrays | {"labels": labels}


def make_strange_rows(seed: int, rows: int = ROWS) -> dict[str, Any]:
    """Between the clusters and around them."""
    random = np.random.default_rng(seed)
    features = random.random((1 + COPIES, rows, DIM)).astype(np.float32) * 2
    return with_outputs(features[0], features[1:])


def with_outputs(features: np.ndarray, copy_features: np.ndarray) -> dict[str, Any]:
    weight, bias = make_head()
    return {"features": features, "logits": features @ weight.T + bias,
            "layers": {"early": features[:, :5].copy(), "late": features[:, 5:].copy()},
            "copy_features": copy_features, "copy_logits": copy_features @ weight.T + bias}


def make_head() -> tuple[np.ndarray, np.ndarray]:
    """The nearest center has the largest logit."""
    return CENTERS, -0.5 * (CENTERS**2).sum(axis=1)


def fit_arguments(detector: ood.Detector, train: dict[str, Any], id_val: dict[str, Any] | None = None,
                  ood_val: dict[str, dict[str, Any]] | None = None,
                  head: Any = None) -> dict[str, Any]:
    """What of these the detector asks for, as the keywords of fit()."""
    needs = detector.needs
    names = [KEYWORDS.get(name, name) for name in needs["fit"]]

    def chosen(rows: dict[str, Any]) -> dict[str, Any]:
        return {name: rows[name] for name in names if name != "head"}

    arguments = chosen(train)
    if "head" in names:
        arguments["head"] = make_head() if head is None else head
    if id_val is not None:
        arguments["id_val"] = chosen(id_val)
    if needs["outliers"]:
        sets = {"noise": make_rows(3, shift=4.0)} if ood_val is None else ood_val
        arguments["ood_val"] = {name: {KEYWORDS.get(array, array): rows[KEYWORDS.get(array, array)]
                                       for array in needs["outliers"]} for name, rows in sets.items()}
    return arguments


def score_arguments(detector: ood.Detector, rows: dict[str, Any]) -> dict[str, Any]:
    names = [KEYWORDS.get(name, name) for name in detector.needs["score"]]
    return {name: rows[name] for name in names if name != "head"}


def fit_on_rows(detector: ood.Detector) -> ood.Detector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ood.FitWarning)
        return detector.fit(**fit_arguments(detector, make_rows(1), make_rows(2)))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(scope="session", params=list(ood.DETECTORS))
def fitted(request: pytest.FixtureRequest) -> ood.Detector:
    """Each detector, fitted on rows in memory. Tests do not change it."""
    return fit_on_rows(make(request.param))


@pytest.fixture(scope="session")
def digits() -> Path:
    assert DIGITS.is_file(), "the tests run in the source tree"
    return DIGITS


@pytest.fixture(scope="session")
def full_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature file with every split and every array."""
    path = tmp_path_factory.mktemp("full") / "full.h5"
    outliers = {"near": make_rows(5, 90, 1.0) | {"kind": "near"}, "far": make_rows(6, 80, 5.0) | {"kind": "far"}}
    ood.write(path, train=make_rows(1), id_val=make_rows(2), id_test=make_rows(4, 100), ood=outliers,
              ood_val={"noise": make_rows(3, shift=4.0) | {"kind": "far"}}, head=make_head(),
              model="net", id_dataset="clusters")
    return path


@pytest.fixture(scope="session")
def command() -> str:
    """The C++ command."""
    path = os.environ.get("OOD_COMMAND")
    if not path:
        pytest.skip("OOD_COMMAND does not name the C++ command")
    return path


Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def python() -> Script:
    """Runs a script in another interpreter, from a folder that holds no ood."""

    def run(script: str, *arguments: Any, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        result = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], cwd="/",
                                capture_output=True, text=True, timeout=timeout)
        assert result.returncode == 0, result.stderr
        return result

    return run
