"""What agreement with a transcription means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from transcriptions.arrays import Arrays, Score


def as_keywords(options: str) -> dict[str, str]:
    """"k=5" as score_rows takes it."""
    return dict([options.split("=", 1)]) if options else {}


def check_rows(got: np.ndarray, want: np.ndarray) -> None:
    """To 1e-4 of their spread: of all but the extreme rows, which would make it wide."""
    low, high = np.percentile(want, [1, 99])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * (high - low))


def check_aurocs(rows: list[Any], data: Arrays, score: Score) -> None:
    """rows of a report, one for each set: to 1e-5, or two pairs of rows that change places."""
    id_scores = score("id_test")
    for name in data.ood:
        row = next(row for row in rows if row["dataset"] == name)
        ood_scores = score(name)
        want = roc_auc_score(np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))],
                             np.r_[id_scores, ood_scores])
        tolerance = max(1e-5, 2.01 / (len(id_scores) * len(ood_scores)))
        assert row["auroc"] == pytest.approx(want, abs=tolerance), name
