"""The same bits from a file, from arrays in memory, and from the C++ library."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood
from conftest import QUICK, fit_arguments, make, same_bits, score_arguments

NAMES = list(ood.DETECTORS)

# Nothing that is 0 in every row of a class of digits has a covariance of full rank.
SETTINGS = {"digits": {"gaussian_density": {"covariance": "tied"}}, "full_file": {}}


@pytest.fixture(scope="session")
def score_rows() -> Callable[..., np.ndarray]:
    """The C++ library's scores of splits, one after the other."""
    tool = os.environ.get("OOD_SCORE_ROWS")
    if not tool:
        pytest.skip("OOD_SCORE_ROWS does not name the ood_score_rows tool")

    def run(path: Path, splits: list[str], name: str, **options: Any) -> np.ndarray:
        texts = [f"{option}={value}" for option, value in (QUICK.get(name, {}) | options).items()]
        result = subprocess.run([tool, path, ",".join(splits), name, *texts], capture_output=True, timeout=300)
        assert result.returncode == 0, result.stderr.decode()
        return np.frombuffer(result.stdout, "<f4")

    return run


def arrays_of(split: ood.Split) -> dict[str, Any]:
    names = {"features": "features", "logits": "logits", "labels": "labels", "copies/features": "copy_features",
             "copies/logits": "copy_logits"}
    arrays = {keyword: np.asarray(getattr(split, keyword)) for name, keyword in names.items()
              if name in split.shapes}
    return arrays | {"layers": {name: np.asarray(layer) for name, layer in split.layers.items()}}


def one_row(arrays: dict[str, Any], row: int) -> dict[str, Any]:
    here = slice(row, row + 1)
    layers = {name: array[here] for name, array in arrays["layers"].items()}
    return {name: array[:, here] if name.startswith("copy") else array[here]
            for name, array in arrays.items() if name != "layers"} | {"layers": layers}


def allowed(name: str, dataset: ood.Dataset) -> bool:
    return not ood._ood.missing_inputs(dataset._file, make(name)._new_model(), "cpu")


def quietly(fit: Callable[[], ood.Detector]) -> ood.Detector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ood.FitWarning)
        return fit()


SPLITS = {"digits": ["id_test", "ood/digit_9", "ood/flower_patches"], "full_file": ["id_test", "ood/near", "ood/far"]}


@pytest.mark.parametrize("file", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_scores_of_file_memory_and_library(request: pytest.FixtureRequest, file: str, name: str) -> None:
    path = request.getfixturevalue(file)
    dataset = ood.open(path)
    if not allowed(name, dataset):
        assert file == "digits", "the other file has everything"
        return
    options = SETTINGS[file].get(name, {})
    splits = [dataset.splits[split] for split in SPLITS[file]]
    streamed = quietly(lambda: make(name, **options).fit(dataset))
    scores = [streamed.score(split) for split in splits]
    assert all(score.dtype == np.float32 and score.shape == (len(split),) for score, split in zip(scores, splits))

    def from_memory() -> ood.Detector:
        detector = make(name, **options)
        outliers = {key: arrays_of(split) for key, split in dataset.ood_val.items()}
        return detector.fit(**fit_arguments(detector, arrays_of(dataset.train), arrays_of(dataset.id_val), outliers,
                                            dataset.head))

    in_memory = quietly(from_memory)
    for score, split in zip(scores, splits):
        assert same_bits(in_memory.score(**score_arguments(in_memory, arrays_of(split))), score)

    arrays = arrays_of(splits[0])
    one_by_one = [streamed.score(**score_arguments(streamed, one_row(arrays, row))) for row in range(5)]
    assert same_bits(np.concatenate(one_by_one), scores[0][:5])

    if os.environ.get("OOD_SCORE_ROWS"):
        expected = request.getfixturevalue("score_rows")(path, SPLITS[file], name, **options)
        assert same_bits(np.concatenate(scores), expected.astype(np.float32, copy=False))


def test_the_library_was_compared(score_rows: Callable[..., np.ndarray], digits: Path) -> None:
    """Shown as skipped where the tool is not there, so that nobody believes that the above did it."""
    assert np.array_equal(score_rows(digits, ["id_test"], "max_logit"),
                          np.asarray(ood.open(digits).id_test.logits).max(axis=1))


def test_most_detectors_run_on_digits(digits: Path) -> None:
    dataset = ood.open(digits)
    left = {name for name in NAMES if not allowed(name, dataset)}
    assert left == {name for name in NAMES if make(name).needs["score"] == ["layers"] or any(
        array.startswith("copies/") for array in make(name).needs["score"])}


def test_fit_takes_splits(digits: Path) -> None:
    dataset = ood.open(digits)
    expected = ood.LinearProbe().fit(dataset).score(dataset.id_test)
    by_split = ood.LinearProbe().fit(dataset.train, id_val=dataset.id_val, ood_val=dataset.ood_val)
    assert same_bits(by_split.score(dataset.id_test), expected)
    only = quietly(lambda: ood.TemperatureScaling().fit(dataset.id_val))
    assert same_bits(only.score(dataset.id_test), ood.TemperatureScaling().fit(dataset).score(dataset.id_test))


def test_what_is_given_beside_a_dataset(digits: Path) -> None:
    dataset = ood.open(digits)
    features = np.asarray(dataset.train.features)
    for call in (lambda: ood.Ssd().fit(dataset, features=features), lambda: ood.Ssd().fit(dataset, features),
                 lambda: ood.Ssd().fit(dataset, id_val=dataset.id_val),
                 lambda: ood.Ssd().fit(dataset.train, features=features),
                 lambda: ood.Ssd().fit(dataset).score(dataset.id_test, features=features)):
        with pytest.raises(TypeError, match="was given beside a (Dataset|Split), expected one of them"):
            call()
    with pytest.raises(TypeError, match="expected a Split or a mapping"):
        ood.Ssd().fit(features, id_val=features)
    with pytest.raises(ValueError, match="no layers"):
        ood.Layers().fit(dataset)


def test_a_dataset_is_not_scored_as_a_whole(digits: Path) -> None:
    dataset = ood.open(digits)
    with pytest.raises(TypeError, match="Ssd.score has a Dataset, expected one of its splits"):
        ood.Ssd().fit(dataset).score(dataset)
