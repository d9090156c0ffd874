"""evaluate() and its report, against the C++ command and against metrics of the scores."""

from __future__ import annotations

import copy
import csv
import html.parser
import io
import json
import os
import pickle
import re
import subprocess
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood
from conftest import make_rows, same_bits

METRICS = ["auroc", "fpr95", "fpr95_ood", "aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid"]
SOME = ["msp", "energy", "knn", "conjnorm", "vim"]


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run."""
    timings = [{key: value for key, value in entry.items() if not key.endswith("_seconds")}
               for entry in report["timings"]]
    return report | {"timings": timings}


@pytest.fixture(scope="module")
def report(digits: Path) -> ood.Report:
    return ood.evaluate(digits, SOME)


def test_the_command_says_the_same(command: str, digits: Path) -> None:
    """All detectors, each number to its last digit, what was left out, and what the fits found."""
    result = subprocess.run([command, "eval", digits, "-f", "json"], capture_output=True, text=True, check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ood.FitWarning)
        ours = ood.evaluate(ood.open(digits), curves=False)
    expected = json.loads(result.stdout)
    assert len(expected["rows"]) > 200 and len(expected["left_out"]) > 5
    assert timeless(ours.to_dict()) == timeless(expected)
    assert ours.rows == expected["rows"] and ours.means == expected["means"]
    assert ours.left_out == {entry["detector"]: entry["reason"] for entry in expected["left_out"]}


def test_csv_and_markdown_are_the_commands(command: str, digits: Path, report: ood.Report) -> None:
    for form, ours in (("csv", report.to_csv()), ("markdown", report.to_markdown())):
        theirs = subprocess.run([command, "eval", digits, "-d", ",".join(SOME), "-f", form], capture_output=True,
                                text=True, check=True).stdout
        if form == "markdown":  # its last columns are seconds
            theirs, ours = (re.sub(r"[^|]*\|[^|]*\|$", "", text, flags=re.M) for text in (theirs, ours))
        assert ours == theirs


def test_rows_are_metrics_of_the_scores(digits: Path, report: ood.Report) -> None:
    dataset = ood.open(digits)
    for name in SOME:
        detector = ood.DETECTORS[name]()
        if detector.needs["fit"]:
            detector.fit(dataset)
        id_scores = detector.score(dataset.id_test)
        rows = [row for row in report.rows if row["detector"] == name]
        assert [row["dataset"] for row in rows] == list(dataset.ood)
        for row in rows:
            outliers = detector.score(dataset.ood[row["dataset"]])
            assert {metric: row[metric] for metric in METRICS} == ood.metrics.compute(id_scores, outliers)
            assert (row["n_id"], row["n_ood"]) == (len(id_scores), len(outliers))
            assert row["kind"] == dataset.ood[row["dataset"]].kind
            assert row["options"] == detector.get_params() | {
                key: list(value) for key, value in detector.get_params().items() if isinstance(value, tuple)}
    for mean in report.means:
        over = [row["auroc"] for row in report.rows
                if (row["detector"], row["kind"]) == (mean["detector"], mean["kind"])]
        assert mean["datasets"] == len(over)
        assert mean["auroc"] == pytest.approx(np.mean(over), abs=1e-12)


def test_objects_are_fitted(digits: Path) -> None:
    dataset = ood.open(digits)
    detector = ood.Knn(k=9)
    report = ood.evaluate(dataset, [detector, ood.Msp, "energy", ood.Knn(k=3)])
    assert [row["detector"] for row in report.rows][::5] == ["knn", "msp", "energy", "knn"]
    assert same_bits(detector.score(dataset.id_test), ood.Knn(k=9).fit(dataset).score(dataset.id_test))
    assert [row["options"].get("k") for row in report.rows][::5] == [9, None, None, 3]


def test_evaluated_detectors_can_be_pickled(digits: Path) -> None:
    dataset = ood.open(digits)
    detectors = [ood.Energy(), ood.Knn(), ood.Neco(), ood.GradNorm()]
    ood.evaluate(dataset, detectors)
    for detector in detectors:
        for again in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
            assert same_bits(again.score(dataset.id_test), detector.score(dataset.id_test))


def test_one_name(digits: Path) -> None:
    assert {row["detector"] for row in ood.evaluate(digits, "msp").rows} == {"msp"}
    assert ood.evaluate(str(digits), "msp").rows == ood.evaluate(ood.open(digits), [ood.Msp()]).rows


def test_without(digits: Path) -> None:
    rows = ood.evaluate(digits, "msp", without=["digit_8", "inverted"]).rows
    assert [row["dataset"] for row in rows] == ["china_patches", "digit_9", "flower_patches"]
    assert len(ood.evaluate(digits, "msp", without="digit_8").rows) == 4


# --- Its forms.

def test_to_pandas(report: ood.Report) -> None:
    pandas = pytest.importorskip("pandas")
    frame = report.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == len(report.rows)
    assert list(frame.columns) == ["detector", "options", "dataset", "kind", "n_id", "n_ood", *METRICS,
                                   "auroc_low", "auroc_high"]
    for metric in METRICS:
        assert frame[metric].tolist() == [row[metric] for row in report.rows]
    assert frame.groupby("detector")["auroc"].mean().idxmax() in SOME
    assert frame["options"][frame["detector"] == "knn"].str.contains("k=50").all()


def test_to_json(report: ood.Report, tmp_path: Path) -> None:
    text = report.to_json(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == text
    assert json.loads(text) == report.to_dict()
    assert report.to_dict()["version"] == ood.__version__


def test_to_csv(report: ood.Report, tmp_path: Path) -> None:
    text = report.to_csv(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text() == text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["detector"] for line in lines] == [row["detector"] for row in report.rows]
    assert [float(line["auroc"]) for line in lines] == pytest.approx([row["auroc"] for row in report.rows], abs=1e-6)


def test_to_markdown(report: ood.Report, tmp_path: Path) -> None:
    text = report.to_markdown(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) <= 2
    row = next(row for row in report.rows if row["detector"] == "knn" and row["dataset"] == "digit_8")
    line = next(line for line in table if line.startswith("| knn"))
    assert f"{100 * row['auroc']:.2f}" in line.replace("*", "")
    assert len(report.to_markdown(verbose=True)) > len(text)


def test_the_table_is_the_repr(report: ood.Report) -> None:
    assert repr(report) == report.to_table()
    assert all(f"\n{name} " in repr(report) for name in SOME)
    assert all(len(line) < 200 for line in repr(report).splitlines())
    assert "rank" in report.to_table(verbose=True) or len(report.to_table(verbose=True)) > len(repr(report))


def test_reports_that_cannot_be_written(report: ood.Report, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        report.to_json(tmp_path / "none" / "report.json")
    with pytest.raises(OSError):
        report.to_csv(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.bold: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data
        if "b" in self._open:
            self.bold.append(data)


def test_the_table_of_a_notebook(report: ood.Report) -> None:
    page = Page(report._repr_html_())
    header, *lines = page.rows
    assert header == ["AUROC %", "far mean", "near mean", "china_patches", "digit_8", "digit_9", "flower_patches",
                      "inverted"] or sorted(header[1:3]) == ["far mean", "near mean"]
    assert [line[0] for line in lines] == SOME
    for line in lines:
        for title, cell in zip(header[3:], line[3:]):
            row = next(r for r in report.rows if (r["detector"], r["dataset"]) == (line[0], title))
            assert cell == f"{100 * row['auroc']:.2f}"
    best = [max((line[column] for line in lines), key=float) for column in range(1, len(header))]
    assert set(best) <= set(page.bold)


HOSTILE = "<script>alert('&\"x')<!--"


def test_hostile_names_are_text_in_html(tmp_path: Path) -> None:
    rows = make_rows(1)
    name = HOSTILE.replace("/", "")
    ood.write(tmp_path / "bad.h5", id_test={"logits": rows["logits"]},
              ood={name: {"logits": make_rows(5, shift=2.0)["logits"]}}, model="<b>net</b>")
    report = ood.evaluate(tmp_path / "bad.h5", ["msp", ood.Energy(temperature=2), ood.Energy()])
    page = Page(report._repr_html_())
    assert "script" not in page.tags
    assert page.rows[0][-1] == name
    assert set(page.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "b"}
    assert report.rows[0]["dataset"] == name


# --- Progress.

def test_progress_is_told(digits: Path) -> None:
    told: list[tuple[str, float]] = []
    report = ood.evaluate(digits, ["msp", "knn"], progress=lambda step, done: told.append((step, done)))
    shares = [done for _, done in told]
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
    assert len(told) >= 8, "two fits and six sets"
    assert any("knn" in step for step, _ in told)
    assert report.rows == ood.evaluate(digits, ["msp", "knn"]).rows


def test_progress_as_a_bar(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ood.evaluate(digits, ["msp", "knn"], progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "100%" in shown.err and "knn" in shown.err
    ood.evaluate(digits, ["msp"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ZeroDivisionError])
def test_a_callback_may_stop_it(digits: Path, error: type[BaseException]) -> None:
    def stop(step: str, done: float) -> None:
        if "knn" in step:
            raise error("enough")

    dataset = ood.open(digits)
    detectors = [ood.Msp(), ood.Knn(), ood.Ssd()]
    with pytest.raises(error, match="enough"):
        ood.evaluate(dataset, detectors, progress=stop)
    with pytest.raises(ood.NotFittedError):
        detectors[2].score(dataset.id_test)
    again = ood.evaluate(dataset, detectors)
    assert again.rows == ood.evaluate(digits, ["msp", "knn", "ssd"]).rows


INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np, ood
features = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
path = sys.argv[1] + "/some.h5"
ood.write(path, train={"features": features}, id_test={"features": features},
          ood={f"set{i}": {"features": features} for i in range(400)}, gzip_level=0)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.perf_counter()
try:
    ood.evaluate(path, [ood.Knn()])
except KeyboardInterrupt:
    print("interrupted", time.perf_counter() - begin)
print(ood.evaluate(path, "ssd", without=[f"set{i}" for i in range(1, 400)]).rows[0]["auroc"])
"""


def test_control_c_stops_it(tmp_path: Path, python: Any) -> None:
    first, second = python(INTERRUPT, tmp_path).stdout.splitlines()
    assert first.startswith("interrupted")
    assert second == "0.5"


# --- What cannot be done.

def test_what_the_file_does_not_allow(digits: Path) -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match=r"^layers: .*digits\.h5: no layers"):
        ood.evaluate(digits, ["msp", "layers"], progress=lambda step, done: told.append(step))
    assert told == [], "before the first fit"


def test_what_the_data_do_not_allow(digits: Path) -> None:
    with pytest.warns(ood.FitWarning, match="left out: gaussian_density: .*rank 63") as caught:
        report = ood.evaluate(digits, ["msp", "gaussian_density"])
    assert [Path(each.filename) for each in caught] == [Path(__file__)]
    assert list(report.left_out) == ["gaussian_density"]
    assert {row["detector"] for row in report.rows} == {"msp"}


@pytest.mark.parametrize(("detectors", "error", "message"), [
    (["nonsense"], ValueError, "unknown detector nonsense, expected one of msp, "),
    ([3], TypeError, "detectors has a int, expected detectors or their names"),
    ([int], TypeError, "detectors has a type"),
    (3, TypeError, "not iterable"),
])
def test_wrong_detectors(digits: Path, detectors: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ood.evaluate(digits, detectors)


def test_one_detector_without_a_list(digits: Path) -> None:
    assert ood.evaluate(digits, ood.Msp()).rows == ood.evaluate(digits, [ood.Msp()]).rows
    assert ood.evaluate(digits, ood.Msp).rows == ood.evaluate(digits, [ood.Msp()]).rows


def test_wrong_files(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.h5"):
        ood.evaluate(tmp_path / "none.h5")
    ood.write(tmp_path / "half.h5", id_test={"logits": np.eye(3, dtype=np.float32)})
    with pytest.raises(ValueError, match="/ood"):
        ood.evaluate(tmp_path / "half.h5", "msp")
    with pytest.raises(ValueError, match="nonsense"):
        ood.evaluate(digits, "msp", without="nonsense")
    with pytest.raises(ValueError, match="threads"):
        ood.evaluate(digits, "msp", threads=-1)


def test_the_same_detector_twice(digits: Path) -> None:
    with pytest.raises(ValueError, match="energy is there twice with the same options, expected each once"):
        ood.evaluate(digits, ["energy", ood.Msp, ood.Energy()])
    assert len({row["options"]["temperature"] for row in
                ood.evaluate(digits, [ood.Energy(), ood.Energy(temperature=2.0)]).rows}) == 2


def test_reports_go_into_pipes_and_never_over_the_file(digits: Path, tmp_path: Path, report: ood.Report) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    report.to_csv(tmp_path / "pipe")
    reader.join(30)
    assert read == [report.to_csv()]
    with pytest.raises(ValueError, match="is the feature file itself"):
        report.to_json(digits)
    with pytest.raises(OSError, match="cannot be written"):
        report.to_json(tmp_path / "none" / "report.json")


def test_no_detector_at_all(digits: Path) -> None:
    with pytest.raises(ValueError, match="detectors has none, expected 1 or more"):
        ood.evaluate(digits, [])
