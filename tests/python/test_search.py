"""Choosing options on the command line (--search), and ood fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest

from conftest import Run, write_small, write_split


def add_validation(file: h5py.File) -> None:
    """Validation outliers: one set of a name that /ood has too, and one of its own."""
    random = np.random.RandomState(5)
    for name, rows, shift in (("far", 20, -5), ("own", 15, 3)):
        features = (random.normal(size=(rows, 6)) + shift).astype(np.float32)
        write_split(file.create_group(f"ood_val/{name}"), features=features,
                    logits=features @ file["head/weight"][:].T)


def add_id_val(file: h5py.File) -> None:
    add_validation(file)
    file.copy("id_test", "id_val")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("search") / "small.h5")


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("search") / "validated.h5", add_validation)


def datasets(report: Any) -> set[str]:
    return {row["dataset"] for row in report["rows"]}


def test_grid_prints_the_curve_and_the_best(ood: Run, small: Path) -> None:
    result = ood("eval", small, "-d", "conjnorm", "--search", "p=1.1:3.0:0.1", "--criterion",
                 "id_likelihood")
    assert (result.returncode, result.stderr) == (0, "")
    head, rest = result.stdout.split("\nSearch: conjnorm, fitted on ")
    assert "\nconjnorm " in head  # what eval prints anyway
    lines = rest.splitlines()
    assert lines[0] == "72 rows of /train, compared on 8 of /train"
    assert lines[2].split() == ["p", "id_likelihood", "best"]
    curve = [line.split() for line in lines[3:lines.index("", 3)]]
    assert [float(line[0]) for line in curve] == [round(1.1 + 0.1 * i, 10) for i in range(20)]
    highest = max(curve, key=lambda line: float(line[1]))
    assert [line for line in curve if line[-1] == "*"] == [highest]
    assert lines[-1] == f"best: id_likelihood = {highest[1]} at p={highest[0]}"


def test_found_options_are_used(evaluate: Callable[..., Any], small: Path) -> None:
    found = evaluate(small, "-d", "conjnorm,knn", "--search", "conjnorm.p=1.3,2.9", "--search",
                     "knn.k=1:21:10")
    assert [search["detector"] for search in found["searches"]] == ["conjnorm", "knn"]
    for search in found["searches"]:
        assert search["criterion"] == "pseudo_ood"
        option, value = next(iter(search["best"]["options"].items()))
        plain = evaluate(small, "-d", search["detector"], "-p", f"{option}={value}")
        assert plain["searches"] == []
        own = [row for row in found["rows"] if row["detector"] == search["detector"]]
        assert plain["rows"] == own
    options = [point["options"] for point in found["searches"][1]["curve"]]
    assert options == [{"k": 1}, {"k": 11}, {"k": 21}]
    assert all(isinstance(point["k"], int) for point in options)


def test_several_axes_are_all_combinations(evaluate: Callable[..., Any], small: Path) -> None:
    report = evaluate(small, "-d", "conjnorm", "--search", "partition=pooled,none", "--search",
                      "p=1.5:2.5:0.5")
    curve = report["searches"][0]["curve"]
    assert [(point["options"]["partition"], point["options"]["p"]) for point in curve] == [
        (partition, p) for partition in ("pooled", "none") for p in (1.5, 2.0, 2.5)]
    assert all(set(point["parts"]) == {"mixed", "classes_left_out"} for point in curve)


def test_golden_section(evaluate: Callable[..., Any], small: Path) -> None:
    report = evaluate(small, "-d", "conjnorm", "--search", "p=1.5:2.5", "--criterion",
                      "id_likelihood")
    search = report["searches"][0]
    p = [point["options"]["p"] for point in search["curve"]]
    assert p == sorted(p) and len(p) == 12
    assert 1.5 < p[0] and p[-1] < 2.5
    best = max(search["curve"], key=lambda point: point["value"])
    assert search["best"] == best
    assert p[-1] - p[-2] < 0.01 and best["options"]["p"] == p[-1]  # the likelihood rises here


def test_ood_val_of_ood_is_left_out_of_the_results(evaluate: Callable[..., Any],
                                                   small: Path) -> None:
    report = evaluate(small, "-d", "knn", "--search", "k=1,5", "--ood-val", "far")
    assert datasets(report) == {"near"}
    search = report["searches"][0]
    assert search["criterion"] == "ood_val_auroc"
    assert search["outliers"] == [{"source": f"{small}: /ood/far", "rows": 25}]
    assert set(search["best"]["parts"]) == {"ood/far"}
    assert search["fit"] == {"source": f"{small}: /train", "rows": 80 - search["id"]["rows"]}


def test_ood_val_of_its_own_group_is_taken_first(evaluate: Callable[..., Any],
                                                 validated: Path) -> None:
    def run(*arguments: str) -> Any:
        return evaluate(validated, "-d", "energy", "--search", "temperature=0.5,2", *arguments)

    report = run("--ood-val", "far,near", "--criterion", "ood_val_fpr95")
    assert datasets(report) == {"far"}  # /ood_val/far was used, and /ood/near
    assert [rows["source"].split(": ")[1] for rows in report["searches"][0]["outliers"]] == [
        "/ood_val/far", "/ood/near"]
    every = run("--criterion", "ood_val_auroc")["searches"][0]  # all of /ood_val
    assert set(every["best"]["parts"]) == {"ood_val/far", "ood_val/own"}
    assert every["best"]["value"] == pytest.approx(np.mean(list(every["best"]["parts"].values())))


def test_id_val_is_compared_on(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    path = write_small(tmp_path / "id_val.h5", add_id_val)
    search = evaluate(path, "-d", "knn", "--search", "k=1,5", "--ood-val", "own", "--search-rows",
                      "17")["searches"][0]
    assert search["fit"] == {"source": f"{path}: /train", "rows": 80}
    assert search["id"] == {"source": f"{path}: /id_val", "rows": 17}
    assert search["outliers"] == [{"source": f"{path}: /ood_val/own", "rows": 15}]


def test_markdown_has_the_search(ood: Run, small: Path) -> None:
    text = ood("eval", small, "-d", "knn", "--search", "k=1,5", "-f", "markdown").stdout
    assert "\nSearch: knn, fitted on 72 rows of /train" in text
    assert "\n| k | pseudo_ood |" in text


@pytest.mark.parametrize(("arguments", "message"), [
    (["--search", "p"], "--search has p, expected <detector>.<option>=<value>"),
    (["--search", "p=1.1:3:x"],
     "--search has 1.1:3:x, expected start:stop:step, start:stop or a,b,c"),
    (["--search", "p=1.1:3:0.1:2"], "--search has 1.1:3:0.1:2, expected start:stop:step"),
    (["--search", "p=1.1:nan"], "--search has 1.1:nan, expected start:stop:step"),
    (["--search", "p=:"], "--search has :, expected start:stop:step"),
    (["--search", "p=1.1:3:-0.1"], "--search has 1.1:3:-0.1, expected start:stop:step"),
    (["--search", "p=3:1.1:-0.1"], "--search has 3:1.1:-0.1, expected start:stop:step"),
    (["--search", "p=1.1:3:0"], "--search has 1.1:3:0, expected start:stop:step"),
    (["--search", "p=2:2:1"], "--search has 2:2:1, expected start:stop:step"),
    (["--search", "p=1.1:3:1e-9"], "steps in 1.1:3:1e-9, expected 10000 or fewer"),
    (["--search", "p="], "conjnorm: option p has , expected a number, above 1"),
    (["--search", "p=2,,3"], "conjnorm: option p has , expected a number, above 1"),
    (["--search", "p=0.5:3:0.5"], "conjnorm: option p has 0.5, expected a number, above 1"),
    (["--search", "p=0.5:3"], "conjnorm: option p has 0.5, expected a number, above 1"),
    (["--search", "gradient=paper,x"], "conjnorm: option gradient has x, expected one of paper"),
    (["--search", "q=2,3"], "conjnorm: unknown option q, expected one of p, temperature"),
    (["--search", "knn.k=2,3"], "--search sets an option of knn, expected one of conjnorm"),
    (["--search", "p=2,3", "--search", "p=2,4"], "search: p is searched twice, expected once"),
    (["--search", "p=1.5:3", "--search", "temperature=0.1:1"],
     "--search has two ranges without a step, expected one"),
    (["--search", "p=1.5:3", "--search", "temperature=0.1,1"],
     "search: both of grid and interval given, expected one"),
    (["--criterion", "pseudo_ood"], "are for a search, expected --search beside them"),
    (["--ood-val", "far"], "are for a search, expected --search beside them"),
    (["--search", "p=2,3", "--criterion", "auroc"], "--criterion: auroc not in {ood_val_auroc,"),
    (["--search", "p=2,3", "--criterion", "id_likelihood", "--ood-val", "far"],
     "--criterion has id_likelihood, which takes no --ood-val, expected ood_val_auroc or"),
    (["--search", "p=2,3", "--criterion", "pseudo_ood", "--ood-val", "far"],
     "--criterion has pseudo_ood, which takes no --ood-val"),
    (["--search", "p=2,3", "--criterion", "ood_val_auroc"],
     "no /ood_val, expected --ood-val NAME with a set to choose on"),
    (["--search", "p=2,3", "--ood-val", "svhn"], "--ood-val has svhn, expected one of far, near"),
    (["--search", "p=2,3", "--ood-val", "far,far"], "--ood-val has far twice, expected each once"),
    (["--search", "p=2,3", "--ood-val", "far,near"],
     "/ood has no set but those that options are chosen on, expected 1 or more"),
    (["--search", "p=2,3", "--search-rows", "0"], "--search-rows: Value 0 not in range"),
])
def test_bad_searches_are_one_line_and_exit_2(ood: Run, small: Path, arguments: list[str],
                                              message: str) -> None:
    result = ood("eval", small, "-d", "conjnorm", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("ood: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_errors_of_other_detectors(ood: Run, small: Path) -> None:
    result = ood("eval", small, "-d", "knn", "--search", "k=1,5", "--criterion", "id_likelihood")
    assert (result.returncode, result.stderr) == (
        2, "ood: knn has no density, expected a detector with a log-likelihood\n")
    result = ood("eval", small, "-d", "knn,conjnorm", "--search", "k=1,5")
    assert result.returncode == 2
    assert "--search has k=1,5, expected <detector>.<option>=<value>" in result.stderr


# --- ood fit -------------------------------------------------------------------------------------


def test_fit_shows_what_it_found(ood: Run, small: Path) -> None:
    result = ood("fit", small, "-d", "conjnorm", "-p", "p=2", "-p", "partition=importance")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{small}: net, in-distribution clusters"
    assert lines[2].startswith("Fit: conjnorm (") and "partition=importance" in lines[2]
    assert "samples = 1024" in lines
    start = lines.index("class  rows   log_phi  standard_error  effective_samples")
    assert [line.split()[:2] for line in lines[start + 1:]] == [
        ["0", "27"], ["1", "27"], ["2", "26"]]
    mahalanobis = ood("fit", small, "-d", "mahalanobis").stdout.splitlines()
    assert "Fit: mahalanobis (normalize=false, precision=float32, ridge=0)" in mahalanobis and "rank = 6" in mahalanobis


def test_fit_json(ood: Run, small: Path) -> None:
    result = ood("fit", small, "-d", "conjnorm", "--search", "p=2,3", "-f", "json")
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["rows"] == []
    assert [timing["fitted_on"] for timing in report["timings"]] == ["train"]
    fit, search = report["fits"][0], report["searches"][0]
    assert fit["detector"] == "conjnorm"
    assert fit["options"]["p"] == search["best"]["options"]["p"]
    assert fit["per_class"]["rows"] == [27, 27, 26]
    assert all(len(column) == 3 for column in fit["per_class"].values())


def test_fit_warns_of_a_partition_function_that_cannot_be_trusted(ood: Run, tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    path = tmp_path / "wide.h5"
    with h5py.File(path, "w") as file:
        write_split(file.create_group("train"), features=random.rand(60, 300).astype(np.float32),
                    labels=np.arange(60) % 3)
    options = ["-p", "partition=importance", "-p", "p=3", "-p", "proposal=gaussian"]
    result = ood("fit", path, "-d", "conjnorm", *options)
    assert result.returncode == 0
    assert result.stderr.startswith("warning: conjnorm: log Phi rests on fewer than ")
    assert result.stderr.count("\n") == 1
    quiet = ood("fit", path, "-d", "conjnorm", *options[:2], "-p", "p=2", *options[4:])
    assert (quiet.returncode, quiet.stderr) == (0, "")  # there the proposal is the density


@pytest.mark.parametrize(("arguments", "message"), [
    (["no.h5", "-d", "msp"], "no.h5"),
    (["FILE"], "--detectors is required"),
    (["FILE", "-d", "all"], "--detector has all, expected one detector"),
    (["FILE", "-d", "knn", "-d", "msp"], "--detectors: At Most 1 required but received 2"),
    (["FILE", "-d", "knnn"], "unknown detector knnn, expected one of msp"),
    (["FILE", "-d", "knn", "-p", "k=81"], "knn.fit: FILE: /train has 80 rows, expected k = 81"),
    (["FILE", "-d", "knn", "-f", "csv"], "csv"),
    ([], "file is required"),
])
def test_bad_fits_are_one_line_and_exit_2(ood: Run, small: Path, arguments: list[str],
                                          message: str) -> None:
    result = ood("fit", *[str(small) if a == "FILE" else a for a in arguments])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("ood: ")
    assert result.stderr.count("\n") == 1
    assert message.replace("FILE", str(small)) in result.stderr
