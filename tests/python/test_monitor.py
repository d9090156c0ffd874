"""`ood monitor`: its statistics are SciPy's, of scores computed elsewhere."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest
from scipy import stats

from conftest import SOURCE, Run, write_small
from test_score import add_id_val, fails, run_with_input

ALPHA = 0.1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("monitor") / "small.h5", add_id_val)


@pytest.fixture(scope="module")
def model(ood: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.ood"
    result = ood("fit", small, "-d", "mahalanobis", "--out", path, "--alpha", str(ALPHA))
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture(scope="module")
def monitor(ood: Run) -> Callable[..., Any]:
    def run(*arguments: str | Path, status: int = 0) -> Any:
        result = ood("monitor", *arguments, "--format", "json")
        assert (result.returncode, result.stderr) == (status, "")
        return json.loads(result.stdout)

    return run


def close(got: float, want: float) -> bool:
    return math.isclose(got, want, rel_tol=1e-7, abs_tol=1e-300)


def check_window(window: Any, calibration: np.ndarray, scores: np.ndarray) -> None:
    calibration, scores = calibration.astype(float), scores.astype(float)
    n, m = len(calibration), len(scores)
    assert window["rows"] == m
    ks = stats.ks_2samp(calibration, scores, method="exact")
    assert window["ks"]["exact"] is True
    assert close(window["ks"]["statistic"], ks.statistic)
    assert close(window["ks"]["p_value"], ks.pvalue)

    welch = stats.ttest_ind(scores, calibration, equal_var=False)
    mean = window["mean"]
    shift = scores.mean() - calibration.mean()
    assert close(mean["calibration"], calibration.mean())
    assert close(mean["window"], scores.mean())
    assert close(mean["shift"], shift)
    assert close(mean["in_sd"], shift / calibration.std(ddof=1))
    assert close(mean["t"], welch.statistic)
    assert close(mean["p_value"], welch.pvalue)
    error = math.sqrt(calibration.var(ddof=1) / n + scores.var(ddof=1) / m)
    half = stats.t.ppf(0.975, mean["degrees_of_freedom"]) * error
    assert close(mean["low"], shift - half) and close(mean["high"], shift + half)

    p = (1 + (calibration[None, :] <= scores[:, None]).sum(axis=1)) / (n + 1)
    rejected = int((p <= ALPHA).sum())
    rejects = window["rejects"]
    assert rejects["rows"] == rejected
    interval = stats.binomtest(rejected, m).proportion_ci(0.95, method="exact")
    assert close(rejects["share"], rejected / m)
    assert close(rejects["low"], interval.low) and close(rejects["high"], interval.high)
    k = math.floor(ALPHA * (n + 1))
    want = math.fsum(stats.betabinom.pmf(range(rejected, m + 1), m, k, n + 1 - k))
    assert close(rejects["p_value"], want)


def test_statistics_are_those_of_scipy(monitor: Callable[..., Any], small: Path, model: Path,
                                       score_rows) -> None:
    calibration = score_rows(small, ["id_val"], "mahalanobis")
    for split in ("id_test", "ood/near", "ood/far"):
        scores = score_rows(small, [split], "mahalanobis")
        found = monitor(model, small, "--split", split)
        assert len(found["windows"]) == 1
        check_window(found["windows"][0], calibration, scores)
        found = monitor(model, small, "--split", split, "--window", "12")
        assert [(w["first_row"], w["rows"]) for w in found["windows"]] == [
            (begin, min(12, len(scores) - begin)) for begin in range(0, len(scores), 12)]
        for window in found["windows"]:
            begin = window["first_row"]
            if window["rows"] > 1:
                check_window(window, calibration, scores[begin:begin + 12])
    # the spread of the one row that is left of 25 is not known
    assert window["rows"] == 1
    assert window["mean"]["p_value"] is None and window["mean"]["low"] is None
    assert window["mean"]["shift"] is not None and window["ks"]["p_value"] is not None


def test_what_json_says_besides(monitor: Callable[..., Any], small: Path, model: Path) -> None:
    found = monitor(model, small, "--split", "id_test", "--alpha", "0.2", "--alarm", "1e-6")
    windows = found.pop("windows")
    assert found == {
        "model": str(model), "detector": "mahalanobis",
        "calibrated_on": {"split": "id_val", "rows": 57, "part": False, "by_class": False},
        "data": f"{small}: /id_test", "alpha": 0.2, "notes": [], "alarm_level": 1e-6, "alarms": 0}
    page = (SOURCE / "docs" / "deploy.md").read_text()
    for keys in (found, windows[0], *(part for part in windows[0].values() if isinstance(part, dict)),
                 found["calibrated_on"]):
        for key in keys:
            assert f"`{key}`" in page, key


def test_alarm_is_status_1(monitor: Callable[..., Any], small: Path, model: Path, ood: Run) -> None:
    quiet = monitor(model, small, "-s", "ood/far")
    p = quiet["windows"][0]["ks"]["p_value"]
    assert p < 1e-6 and quiet["alarms"] == 0 and quiet["alarm_level"] is None
    assert monitor(model, small, "-s", "ood/far", "--alarm", repr(p), status=1)["alarms"] == 1
    assert monitor(model, small, "-s", "ood/far", "--alarm", repr(p / 2))["alarms"] == 0
    # p-values count as often as there are windows
    windows = monitor(model, small, "-s", "ood/near", "--window", "9")["windows"]
    smallest = min(window["ks"]["p_value"] for window in windows)
    level = ["-s", "ood/near", "--window", "9", "--alarm"]
    found = monitor(model, small, *level, repr(3 * smallest * (1 + 1e-9)), status=1)
    assert [w["alarm"] for w in found["windows"]] == [
        w["ks"]["p_value"] == smallest for w in windows]
    monitor(model, small, *level, repr(3 * smallest * (1 - 1e-9)))
    table = ood("monitor", model, small, *level, repr(3 * smallest * (1 + 1e-9)))
    assert table.returncode == 1
    assert table.stdout.count("ALARM") == found["alarms"]


def test_table(ood: Run, small: Path, model: Path) -> None:
    result = ood("monitor", model, small, "-s", "id_test", "--window", "29")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{model}: mahalanobis, calibrated on 57 rows of /id_val"
    assert lines[3].split()[:4] == ["rows", "KS", "D", "p"]
    assert lines[4].split()[0] == "0-28" and lines[5].split()[0] == "29-29"
    assert len(lines[3]) == len(lines[4]) == len(lines[5])
    assert "[-, -]" in lines[5]  # the interval of one row


def test_notes(monitor: Callable[..., Any], ood: Run, tmp_path: Path) -> None:
    small, model = write_small(tmp_path / "small.h5"), tmp_path / "model.ood"  # without /id_val
    assert ood("fit", small, "-d", "energy", "--out", model, "--by-class").returncode == 0
    found = monitor(model, small, "-s", "id_test")
    assert "calibrated on rows of /train" in found["notes"][0]
    assert "has no p-value" in found["notes"][-1]
    assert found["windows"][0]["rejects"]["p_value"] is None
    table = ood("monitor", model, small, "-s", "id_test")
    assert table.stdout.count("note: ") == len(found["notes"])


def test_standard_input_is_as_the_file(ood: Run, small: Path, model: Path) -> None:
    with h5py.File(small) as file:
        rows = file["id_test/features"][:].astype("<f4")
    result = run_with_input("monitor", model, "-", "--window", "8", data=rows.tobytes())
    assert result.returncode == 0, result.stderr
    want = ood("monitor", model, small, "-s", "id_test", "--window", "8").stdout
    assert result.stdout.decode() == want.replace(f"{small}: /id_test", "standard input")


def test_bad_input(ood: Run, small: Path, model: Path, tmp_path: Path) -> None:
    for arguments, message in (
            ([model, small], "--split has nothing, expected one of"),
            ([model, small, "-s", "id_test", "--window", "1"],
             "--window has 1, expected 2 or more rows"),
            ([model, small, "-s", "id_test", "--window", "many"], "--window"),
            ([model, small, "-s", "id_test", "--alarm", "0"],
             "--alarm has 0, expected a share in (0, 1)"),
            ([model, small, "-s", "id_test", "--alpha", "1.5"],
             "--alpha has 1.5, expected a share in (0, 1)"),
            ([model, small, "-s", "id_test", "--format", "xml"], "--format"),
            ([tmp_path / "none.ood", small, "-s", "id_test"], "no such file"),
            ([model], "data is required")):
        fails(ood("monitor", *arguments), message)
    fails(run_with_input("monitor", model, "-", data=b"123"), "standard input has 3 bytes of row 0")
