"""`ood gate` as a user meets it, and its tests against NumPy and SciPy."""

from __future__ import annotations

import base64
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from conftest import SOURCE, Run, write_small

DIGITS = SOURCE / "examples/data/digits.h5"
EXAMPLE = SOURCE / "examples/gate/requirements.toml"
SETS = ["china_patches", "digit_8", "digit_9", "flower_patches", "inverted"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("gate") / "small.h5")


def noised(path: Path, noise: float, rows: slice = slice(None)) -> Path:
    """digits.h5 with noise on the features of id_test, and the logits that follow from them."""
    shutil.copy(DIGITS, path)
    random = np.random.RandomState(1)
    with h5py.File(path, "r+") as file:
        group = file["id_test"]
        features = group["features"][:]
        features[rows] += noise * features.std() * random.normal(size=features[rows].shape)
        group["features"][:] = features
        group["logits"][:] = features @ file["head/weight"][:].T + file["head/bias"][:]
    return path


def gate_json(ood: Run, *arguments: object, status: int = 0) -> Any:
    result = ood("gate", *arguments, "-f", "json")
    assert result.returncode == status, result.stderr
    return json.loads(result.stdout)


def update(ood: Run, file: Path, baseline: Path, *arguments: str) -> Any:
    result = ood("gate", file, "--baseline", baseline, "--update", *arguments)
    assert (result.returncode, result.stderr) == (0, f"{baseline}: written\n")
    return json.loads(baseline.read_text())


def scores_of(node: dict[str, Any]) -> np.ndarray:
    scores = np.frombuffer(base64.b64decode(node["scores"], validate=True), "<f4")
    assert len(scores) == node["rows"]
    return scores.astype(np.float64)


# DeLong, DeLong & Clarke-Pearson (1988), by all pairs; Holm (1979), step by step


def components(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wins = (id_scores[:, None] > ood_scores) + 0.5 * (id_scores[:, None] == ood_scores)
    return wins.mean(axis=1), wins.mean(axis=0)


def variance(u: np.ndarray, v: np.ndarray) -> float:
    return float(u.var(ddof=1) / len(u) + v.var(ddof=1) / len(v))


def holm(p_values: list[float]) -> list[float]:
    adjusted, reached = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = reached
    return adjusted


def expected_drops(before: dict, now: dict, paired: bool, max_drop: float = 0.005) -> list[dict[str, Any]]:
    drops = []
    for old, new in zip(before["detectors"], now["detectors"]):
        for old_set, new_set in zip(old["sets"], new["sets"]):
            u, v = components(scores_of(old["id_test"]), scores_of(old_set))
            u_now, v_now = components(scores_of(new["id_test"]), scores_of(new_set))
            drop = u.mean() - u_now.mean()
            sd = np.sqrt(variance(u - u_now, v - v_now) if paired
                         else variance(u, v) + variance(u_now, v_now))
            half = norm.ppf(0.975) * sd
            drops.append({"detector": old["detector"], "dataset": old_set["dataset"],
                          "before": u.mean(), "now": u_now.mean(), "drop": drop,
                          "interval": [drop - half, drop + half],
                          "p_value": (norm.sf((drop - max_drop) / sd) if sd > 0
                                      else float(drop <= max_drop))})
    for drop, p in zip(drops, holm([drop["p_value"] for drop in drops])):
        drop["p_value"] = p
    return drops


def test_requirements_that_hold(ood: Run, evaluate: Callable[..., Any]) -> None:
    result = ood("gate", DIGITS, "--require", "conjnorm.far.auroc >= 0.93",
                 "--require", "energy.digit_9.fpr95 <= 0.30", "-r", "id_accuracy>0.9")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{DIGITS}: 3 checks, all hold\n")
    report = evaluate(DIGITS, "-d", "conjnorm,energy")
    got = gate_json(ood, DIGITS, "-r", "conjnorm.far.auroc.lo95 >= 0.93",
                    "-r", "energy.digit_9.fpr95 <= 0.30", "-r", "id_accuracy>0.9")["requirements"]
    far = next(mean for mean in report["means"]
               if (mean["detector"], mean["kind"]) == ("conjnorm", "far"))
    nine = next(row for row in report["rows"]
                if (row["detector"], row["dataset"]) == ("energy", "digit_9"))
    assert [check["got"] for check in got] == [far["auroc_low"], nine["fpr95"],
                                               report["id_accuracy"]]
    assert got[0]["interval"] == [far["auroc_low"], far["auroc_high"]]
    assert got[2]["interval"] is None


def test_a_failed_line_says_required_got_interval(ood: Run) -> None:
    arguments = (DIGITS, "-r", "knn.far.auroc >= 0.999", "-r", "knn.near.auroc >= 0.5",
                 "-r", "energy.digit_9.fpr95 < 0.01", "-r", "energy.far.fpr95 <= 0.1")
    result = ood("gate", *arguments)
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(f"{DIGITS}: 3 of 4 checks failed\n")
    checks = gate_json(ood, *arguments, status=1)["requirements"]
    assert [check["holds"] for check in checks] == [False, True, False, False]
    failed = [line for line in result.stdout.splitlines() if line.startswith("failed: ")]
    for line, check in zip(failed, (checks[0], checks[2], checks[3]), strict=True):
        expected = (f"failed: {check['requirement']}: required {check['op']} {check['bound']}, "
                    f"got {check['got']:.6g}")
        if check["interval"]:
            expected += f", 95 % interval [{check['interval'][0]:.4f}, {check['interval'][1]:.4f}]"
        assert line == expected
    # DeLong's, the bootstrap's, and none for the mean of another metric
    assert [check["interval"] is not None for check in checks] == [True, True, True, False]


@pytest.mark.parametrize(("arguments", "message"), [
    (["-r", "conjnrom.far.auroc >= 0.9"], "unknown detector 'conjnrom', did you mean conjnorm?"),
    (["-r", "msp.fra.auroc >= 0.9"], "has no set 'fra', did you mean far?"),
    (["-r", "msp.svhn.auroc >= 0.9"], "has no set 'svhn', expected one of far, near"),
    (["-r", "msp.far.aurok >= 0.9"], "unknown metric 'aurok', did you mean auroc?"),
    (["-r", "msp.far.auroc >= 93"], "bound has '93', expected a share from 0 to 1"),
    (["-r", "msp.far.auroc"], "has no comparison, expected one of >=, >, <=, <"),
    (["-r", "msp.auroc > 0.9"], "expected <detector>.<set>.<metric>"),
    (["-r", ""], "has no comparison"),
    (["-d", "msq"], "there is nothing to check, expected --require or --baseline"),
    (["-d", "msq", "-r", "msp.far.auroc > 0"], "--detector: unknown detector 'msq', did you mean msp"),
    (["-d", "all", "-r", "msp.far.auroc > 0"], "--detector: unknown detector 'all'"),
    ([], "there is nothing to check, expected --require or --baseline"),
    (["-r", "id_accuracy > 0"], "no detector is named"),
    (["--update"], "expected --baseline beside it"),
    (["--baseline", "{tmp}/none.json"], "none.json: there is no such baseline, expected one that "
                                        "--update has written"),
    (["--baseline", "{tmp}"], "cannot be read"),
    (["-r", "fusion.far.auroc > 0", "-p", "msp.x=1"], "-p sets an option of msp, expected one of fusion"),
    (["-r", "knn.far.auroc > 0", "-p", "knn.kk=1"], "kk"),
    (["-r", "msp.far.auroc > 0", "--max-drop", "2"], "max-drop"),
    (["-r", "msp.far.auroc > 0", "--max-drop", "0.1"], "--max-drop has no place without --baseline"),
    (["-r", "msp.far.auroc > 0", "--same-rows"], "--same-rows has no place without --baseline"),
    (["-r", "msp.far.auroc > 0", "--junit", "{file}"], "--junit has {file}, which is an input"),
    (["-r", "msp.far.auroc > 0", "--summary", "{tmp}/no/x"], "no/x: cannot be written"),
    (["-r", "msp.far.auroc > 0", "--summary", "{tmp}/x", "--junit", "{tmp}/x"], "is named twice"),
    (["-r", "scale.far.auroc > 0"], "expected 0 or more"),  # known only in the fit
    (["-r", "mean_msp.far.auroc > 0"], "mean_msp: no copies"),
    (["--config", "{tmp}/x.yml"], "expected a file named .toml or .json"),
    (["--config", "{tmp}/x.toml"], "x.toml: cannot be read"),
])
def test_bad_input_is_2_and_one_line(ood: Run, small: Path, tmp_path: Path, arguments: list[str],
                                     message: str) -> None:
    names = {"tmp": str(tmp_path), "file": str(small)}
    result = ood("gate", small, *[argument.format(**names) for argument in arguments])
    assert (result.returncode, result.stdout) == (2, ""), result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1 and message.format(**names) in lines[0], result.stderr


def test_names_out_of_a_file_in_every_form(ood: Run, tmp_path: Path) -> None:
    name = "a|b&<c>\"'\x01.d"

    def change(file: h5py.File) -> None:
        file.move("ood/near", f"ood/{name}")

    file = write_small(tmp_path / "small.h5", change)
    junit, summary = tmp_path / "out.xml", tmp_path / "out.md"
    result = ood("gate", file, "-r", f"msp.{name}.auroc < 0", "-r", "msp.far.auroc >= 0",
                 "--junit", junit, "--summary", summary)
    assert (result.returncode, result.stderr) == (1, "")
    root = ElementTree.parse(junit).getroot()
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "2", "1")
    (suite,) = root
    failed, passed = suite
    shown = name.replace("\x01", "?")
    assert failed.get("name") == f"msp.{shown}.auroc < 0"
    (failure,) = failed
    assert failure.tag == "failure"
    assert failure.get("message").startswith("required < 0, got 1, 95 % interval [")
    assert (passed.get("classname"), passed.get("name"), len(passed)) == (
        "msp", "msp.far.auroc >= 0", 0)
    lines = summary.read_text().splitlines()
    assert lines[0] == f"### {file}: 1 of 2 checks failed"
    assert lines[4].startswith("| msp." + shown.replace("|", "\\|") + ".auroc |")
    assert f"- failed: msp.{shown}.auroc: required < 0, got 1, " in "\n".join(lines)
    assert ood("gate", file, "-r", "msp.far.auroc >= 0", "-f", "markdown").stdout.startswith("### ")


def test_file_and_flags_say_the_same(ood: Run, tmp_path: Path) -> None:
    baseline = tmp_path / "folder/baseline.json"
    baseline.parent.mkdir()
    update(ood, DIGITS, baseline, "-d", "knn,energy", "-p", "knn.k=10")
    changed = noised(tmp_path / "changed.h5", 0.5)
    require = ["knn.far.auroc >= 0.5", "msp.digit_9.fpr95.hi95 <= 0.9"]
    settings = {"require": require, "baseline": "baseline.json", "max-drop": 0.25,
                "same-rows": True, "detector": ["react"], "param": ["react.percentile=95"],
                "junit": "out.xml", "summary": "out.md", "threads": 1, "device": "cpu"}
    (tmp_path / "folder/gate.json").write_text(json.dumps(settings))
    (tmp_path / "folder/gate.toml").write_text("".join(
        f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    flags = [flag for text in require for flag in ("--require", text)]
    flags += ["--baseline", str(baseline), "--max-drop", "0.25", "--same-rows", "-d", "react",
              "-p", "react.percentile=95"]
    expected = gate_json(ood, changed, *flags)
    assert expected["paired"] and len(expected["drops"]) == 10 and expected["notes"] == [
        "react is not in the baseline: not compared", "msp is not in the baseline: not compared"]
    for ending in ("json", "toml"):
        assert gate_json(ood, changed, "--config", tmp_path / f"folder/gate.{ending}") == expected
        for out in ("out.xml", "out.md"):
            (tmp_path / "folder" / out).unlink()  # relative paths are relative to the file
    # flags win, lists add up
    more = gate_json(ood, changed, "--config", tmp_path / "folder/gate.toml", "--max-drop", "0.5",
                     "-r", "energy.far.auroc > 0")
    assert more["max_drop"] == 0.5
    assert [check["requirement"] for check in more["requirements"]] == [
        "knn.far.auroc", "msp.digit_9.fpr95.hi95", "energy.far.auroc"]


@pytest.mark.parametrize(("name", "text", "message"), [
    ("x.toml", "requires = ['a']", "unknown key 'requires', did you mean require?"),
    ("x.toml", "max_drop = 0.1", "unknown key 'max_drop', did you mean max-drop?"),
    ("x.toml", "update = true", "unknown key 'update', expected one of require, "),
    ("x.toml", "max-drop = 3", "max-drop has 3, expected a number from 0 to 1"),
    ("x.toml", "max-drop = nan", "expected a number from 0 to 1"),
    ("x.toml", "require = [1]", "require has array, expected text or a list of texts"),
    ("x.toml", "same-rows = 'yes'", "same-rows has \"yes\", expected true or false"),
    ("x.toml", "baseline = ''", "baseline has \"\", expected the path of a file"),
    ("x.toml", "threads = 1.5", "threads has 1.5, expected a whole number"),
    ("x.toml", "device = 0", "device has 0, expected cpu, cuda or cuda:<index>"),
    ("x.toml", "device = 'gpu'", "device has gpu, expected cpu, cuda or cuda:<index>"),
    ("x.toml", "\n\nrequire = [", "x.toml: line 3: "),
    ("x.toml", "[require]\nx = 1", "require has object"),
    ("x.toml", "", "there is nothing to check"),
    ("x.json", "", "x.json: "),
    ("x.json", "[]", "x.json: the whole has array, expected an object"),
    ("x.json", '{"require": ["msp.far.auroc >= 2"]}', "bound has '2'"),
    ("x.json", "[" * 100_000, "x.json: "),
])
def test_a_bad_file_is_bad_input(ood: Run, small: Path, tmp_path: Path, name: str, text: str,
                                 message: str) -> None:
    (tmp_path / name).write_text(text)
    result = ood("gate", small, "--config", tmp_path / name)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and message in result.stderr


def test_baseline_is_what_the_detectors_say(ood: Run, tmp_path: Path,
                                            evaluate: Callable[..., Any],
                                            score_rows: Callable[..., np.ndarray]) -> None:
    baseline = update(ood, DIGITS, tmp_path / "b.json", "-d", "knn,energy", "-p", "knn.k=10")
    rows = iter(evaluate(DIGITS, "-d", "knn,energy", "-p", "knn.k=10")["rows"])
    for detector, options in zip(baseline["detectors"], ({"k": 10}, {}), strict=True):
        own = score_rows(DIGITS, ["id_test"], detector["detector"], **options)
        np.testing.assert_array_equal(scores_of(detector["id_test"]), own)
        for node, name in zip(detector["sets"], SETS, strict=True):
            row = next(rows)
            assert (node["dataset"], node["auroc"]) == (name, row["auroc"])
            assert detector["options"] == row["options"]
            scores = scores_of(node)
            np.testing.assert_array_equal(
                scores, score_rows(DIGITS, [f"ood/{name}"], detector["detector"], **options))
            truth = np.r_[np.ones(len(own)), np.zeros(len(scores))]
            assert node["auroc"] == pytest.approx(roc_auc_score(truth, np.r_[own, scores]), abs=1e-12)

    # its options serve again, unless others are given
    same = gate_json(ood, DIGITS, "--baseline", tmp_path / "b.json")
    assert same["paired"] and same["notes"] == [] and all(d["drop"] == 0 for d in same["drops"])
    other = gate_json(ood, DIGITS, "--baseline", tmp_path / "b.json", "-p", "knn.k=20",
                      "--max-drop", "1")
    (note,) = other["notes"]
    assert "k=20" in note.split(";")[0] and "k=10" in note.split(";")[1]


@pytest.mark.parametrize("paired", [True, False])
def test_drops_are_those_of_numpy(ood: Run, tmp_path: Path, paired: bool) -> None:
    changed = noised(tmp_path / "changed.h5", 0.4)
    before = update(ood, DIGITS, tmp_path / "before.json", "-d", "knn,energy,msp")
    now = update(ood, changed, tmp_path / "now.json", "-d", "knn,energy,msp")
    expected = expected_drops(before, now, paired)
    result = gate_json(ood, changed, "--baseline", tmp_path / "before.json",
                       *(["--same-rows"] if paired else []), status=1)
    assert result["paired"] == paired
    assert len(result["drops"]) == len(expected) == 15
    for got, want in zip(result["drops"], expected):
        assert (got["detector"], got["dataset"]) == (want["detector"], want["dataset"])
        for key in ("before", "now", "drop", "interval"):
            assert got[key] == pytest.approx(want[key], abs=1e-12)
        assert got["p_value"] == pytest.approx(want["p_value"], rel=1e-9, abs=1e-300)
        assert got["holds"] == (not (want["drop"] > 0.005 and want["p_value"] <= 0.05))
    assert {drop["holds"] for drop in result["drops"]} == {True, False}


def test_a_drop_of_noise_holds_and_the_line_of_a_real_one_says_it(ood: Run, tmp_path: Path) -> None:
    update(ood, DIGITS, tmp_path / "b.json", "-d", "energy")
    # another network of the same quality: one row in twenty is a bit different
    little = noised(tmp_path / "little.h5", 0.3, slice(0, None, 20))
    result = ood("gate", little, "--baseline", tmp_path / "b.json", "--same-rows", "--max-drop", "0")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    much = noised(tmp_path / "much.h5", 2.0)
    result = ood("gate", much, "--baseline", tmp_path / "b.json", "--same-rows")
    assert result.returncode == 1
    assert "\nfailed: energy.digit_8: AUROC required to drop by 0.005 at most, got 0." in result.stdout
    assert "on the same rows (paired test)" in result.stdout


def test_rows_that_are_not_the_same_are_bad_input(ood: Run, tmp_path: Path) -> None:
    update(ood, DIGITS, tmp_path / "b.json", "-d", "energy")
    fewer = tmp_path / "fewer.h5"
    shutil.copy(DIGITS, fewer)
    with h5py.File(fewer, "r+") as file:
        for name in ("features", "logits"):
            rows = file[f"ood/digit_9/{name}"][:100]
            del file[f"ood/digit_9/{name}"]
            file[f"ood/digit_9/{name}"] = rows
    result = ood("gate", fewer, "--baseline", tmp_path / "b.json", "--same-rows")
    assert result.returncode == 2
    assert result.stderr == ("ood: baseline: energy has 180 rows of digit_9, expected 100 as in the file: "
                             "rows are not the same\n")
    assert ood("gate", fewer, "--baseline", tmp_path / "b.json").returncode == 0
    with h5py.File(fewer, "r+") as file:
        del file["ood/digit_9"]
    result = ood("gate", fewer, "--baseline", tmp_path / "b.json")
    assert result.returncode == 2
    assert "has no set 'digit_9', did you mean digit_8?" in result.stderr
    with h5py.File(fewer, "r+") as file:
        file["ood/new/features"] = file["ood/digit_8/features"][:]
        file["ood/new/logits"] = file["ood/digit_8/logits"][:]
        file.move("ood/inverted", "ood/digit_9")
        file["ood/inverted/features"] = file["ood/digit_9/features"][:]
        file["ood/inverted/logits"] = file["ood/digit_9/logits"][:]
    result = gate_json(ood, fewer, "--baseline", tmp_path / "b.json", "--max-drop", "1")
    assert result["notes"] == ["energy on new is not in the baseline: not compared"]


def test_update_writes_only_what_holds(ood: Run, small: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "b.json"
    failing = ("-r", "msp.far.auroc > 1")
    result = ood("gate", small, "-b", baseline, "--update", *failing)
    assert (result.returncode, result.stderr) == (1, f"{baseline}: not written, as the gate failed\n")
    assert not baseline.exists()
    update(ood, small, baseline, "-d", "msp")
    kept = baseline.read_bytes()
    assert ood("gate", small, "-b", baseline, "--update", *failing).returncode == 1
    assert baseline.read_bytes() == kept
    # no comparison with the old one, whose detectors are taken on
    worse = write_small(tmp_path / "worse.h5", lambda file: file["ood/far/logits"].write_direct(
        file["id_test/logits"][:25]))
    assert ood("gate", worse, "-b", baseline, "--max-drop", "0").returncode == 1
    assert [d["detector"] for d in update(ood, worse, baseline)["detectors"]] == ["msp"]
    assert ood("gate", worse, "-b", baseline).returncode == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []
    baseline.write_text("{}")
    result = ood("gate", small, "-b", baseline)
    assert (result.returncode, result.stderr) == (2, f"ood: {baseline}: format is missing\n")


def test_outputs_are_written_by_a_gate_that_fails(ood: Run, small: Path, tmp_path: Path) -> None:
    junit = tmp_path / "j.xml"
    update(ood, small, tmp_path / "b.json", "-d", "msp")
    assert ood("gate", small, "-r", "msp.far.auroc > 1", "-b", tmp_path / "b.json",
               "--junit", junit).returncode == 1
    suites = {suite.get("name"): suite for suite in ElementTree.parse(junit).getroot()}
    assert {name: (suite.get("tests"), suite.get("failures")) for name, suite in suites.items()} == {
        "requirement": ("1", "1"), "baseline": ("2", "0")}


def test_the_example_holds_and_a_spoiled_file_fails_it(ood: Run, tmp_path: Path) -> None:
    result = ood("gate", DIGITS, "--config", EXAMPLE)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert "(paired test)" in result.stdout
    spoiled = noised(tmp_path / "spoiled.h5", 1.0)
    result = ood("gate", spoiled, "--config", EXAMPLE)
    assert (result.returncode, result.stderr) == (1, "")
    failed = [line for line in result.stdout.splitlines() if line.startswith("failed: ")]
    assert any(" required >= " in line for line in failed)
    assert any("AUROC required to drop" in line for line in failed)
