"""The benchmarks' peers agree with libood: at a fiftieth of their sizes, as nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[2] / "bench/peers"


def test_every_peer_that_is_here_has_the_scores_of_libood(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("torch", reason="half of the peers are PyTorch")
    found = tmp_path / "found.json"
    run = subprocess.run([sys.executable, PEERS / "compare.py", "--out", found, "--smaller", "50", "--rounds", "1"],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    comparisons = json.loads(found.read_text())["comparisons"]
    ran = [one for one in comparisons if not one["missing"]]
    assert {one["work"].split()[0].strip(",") for one in ran} >= {
        "energy", "MSP", "entropy", "GEN", "ConjNorm", "Mahalanobis", "ViM", "ReAct", "DICE", "GradNorm", "ORA",
        "KL-matching", "OpenMax", "AUROC"}
    assert all(one["ratio"] > 0 and one["difference"] <= 5e-3 for one in ran)
    for one in comparisons:
        if one["missing"]:
            assert one["missing"].startswith("No module named")


def test_scores_that_differ_are_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numpy")
    monkeypatch.syspath_prepend(PEERS)
    import numpy as np
    from turns import difference

    assert difference(np.array([0.0, 1.0, 9.0]), np.array([0.0, 2.0])) == 0.5
    assert np.isnan(difference(np.array([np.nan]), np.array([1.0])))  # no number is at most the tolerance
