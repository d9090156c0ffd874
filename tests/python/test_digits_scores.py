"""Every detector on the digits, which are real features and part of the project, against float64."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest

from conftest import SOURCE
from transcriptions.arrays import Arrays, Score
from transcriptions.cases import BANKS, CASES
from transcriptions.compare import as_keywords, check_aurocs, check_rows

DIGITS = SOURCE / "examples" / "data" / "digits.h5"


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return Arrays(DIGITS)


@pytest.fixture(scope="module")
def report(evaluate: Callable[..., Any]) -> Any:
    return evaluate(DIGITS)


@pytest.mark.parametrize(("detector", "options", "transcription"), [*CASES, *BANKS])
def test_agrees_with_float64(arrays: Arrays, report: Any, evaluate: Callable[..., Any],
                             score_rows: Callable[..., np.ndarray], detector: str, options: str,
                             transcription: Callable[[Arrays], Score]) -> None:
    left_out = {left["detector"]: left["reason"] for left in report["left_out"]}
    if not options and detector in left_out:
        assert detector == "gaussian_density"  # pixels that are constant within a class
        assert "covariance of rank" in left_out[detector]
        return
    rows = evaluate(DIGITS, "-d", detector, "-p", options)["rows"] if options else report["rows"]
    score = transcription(arrays)
    check_aurocs([row for row in rows if row["detector"] == detector], arrays, score)
    got = score_rows(DIGITS, ["id_test", *(f"ood/{name}" for name in arrays.ood)], detector,
                     **as_keywords(options))
    check_rows(got, np.concatenate([score(name) for name in ["id_test", *arrays.ood]]))
