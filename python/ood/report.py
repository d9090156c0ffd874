"""Detectors x sets of outliers x metrics."""

from __future__ import annotations

import html
import json
import os
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import _ood
from .dataset import Dataset, PathLike, open
from .detector import Detector, FitWarning
from .detectors import DETECTORS

if TYPE_CHECKING:
    import pandas


class Report:
    """The result of `evaluate`. Shows itself as a table, in a terminal and in a notebook."""

    def __init__(self, report: _ood.Report) -> None:
        self._report = report
        self._content: dict[str, Any] = json.loads(report.json())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict for each detector and set: detector, options, dataset, kind, n_id, n_ood, and the
        metrics as shares; `bounds`, by metric, where these are of counts of scores in bins."""
        return list(self._content["rows"])

    @property
    def means(self) -> list[dict[str, Any]]:
        """The same for the unweighted means over the near and the far sets."""
        return list(self._content["means"])

    @property
    def left_out(self) -> dict[str, str]:
        """Detectors that could not be run, and why."""
        return {entry["detector"]: entry["reason"] for entry in self._content["left_out"]}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as docs/report.md describes it."""
        return json.loads(self.to_json())  # type: ignore[no-any-return]

    def to_pandas(self) -> pandas.DataFrame:
        """A line for each detector and set; `options` as text. Where rows have `bounds`, columns as
        in to_csv()."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("Report.to_pandas needs pandas: pip install 'libood[pandas]'") from error
        lines = []
        for row in self.rows:
            line = row | {"options": ", ".join(f"{k}={v}" for k, v in row["options"].items())}
            for name, (low, high) in line.pop("bounds", {}).items():
                line |= {f"{name}_bound_low": low, f"{name}_bound_high": high}
            lines.append(line)
        return pandas.DataFrame(lines)

    def to_json(self, path: PathLike | None = None) -> str:
        """Everything; the form is stable and described in docs/report.md."""
        return self._written(self._report.json(), path)

    def to_csv(self, path: PathLike | None = None) -> str:
        """A line for each detector and set; shares, not percent."""
        return self._written(self._report.csv(), path)

    def to_markdown(self, path: PathLike | None = None, *, verbose: bool = False) -> str:
        """AUROC and FPR95 in percent; verbose: what the fits found out about themselves, too."""
        return self._written(self._report.markdown(verbose), path)

    def to_table(self, *, verbose: bool = False) -> str:
        """The same as plain text."""
        return self._report.table(verbose)

    def to_html(self, path: PathLike | None = None) -> str:
        """One page that needs nothing else: table, curves, agreement, diagnostics."""
        return self._written(self._report.html(), path)

    def _written(self, text: str, path: PathLike | None) -> str:
        """`text`, and in a file, whole or not at all."""
        if path is not None:
            file = self._content["file"]  # what a report of arrays names need not be there
            if os.path.exists(path) and os.path.exists(file) and os.path.samefile(path, file):
                raise ValueError(f"{os.fspath(path)} is the feature file itself, expected another file")
            _ood.write_file(os.fspath(path), text)
        return text

    def __repr__(self) -> str:
        return self.to_table()

    def _repr_html_(self) -> str:
        """AUROC in percent, best in bold."""
        sets = list(dict.fromkeys(row["dataset"] for row in self.rows))
        kinds = list(dict.fromkeys(mean["kind"] for mean in self.means))
        lines: dict[tuple[str, str], dict[str, float]] = {}
        for column, entries in (("dataset", self.rows), ("kind", self.means)):
            for entry in entries:
                line = lines.setdefault((entry["detector"], json.dumps(entry["options"])), {})
                line[f"{column} {entry[column]}"] = entry["auroc"]
        columns = [f"kind {kind}" for kind in kinds] + [f"dataset {name}" for name in sets]
        best = {column: max(line.get(column, 0.0) for line in lines.values()) for column in columns}
        names = [name for name, _ in lines]

        def cell(line: dict[str, float], column: str) -> str:
            if column not in line:
                return "<td></td>"
            text = f"{100 * line[column]:.2f}"
            return f"<td><b>{text}</b></td>" if line[column] == best[column] else f"<td>{text}</td>"

        def label(name: str, options: str) -> str:
            shown = name if names.count(name) < 2 else f"{name} {options}"
            return f"<th style='text-align:left'>{html.escape(shown)}</th>"

        head = [f"{kind} mean" for kind in kinds] + sets
        header = "".join(f"<th>{html.escape(title)}</th>" for title in head)
        body = "".join(f"<tr>{label(*key)}{''.join(cell(line, column) for column in columns)}</tr>"
                       for key, line in lines.items())
        return f"<table><thead><tr><th>AUROC %</th>{header}</tr></thead><tbody>{body}</tbody></table>"


def _as_detector(given: Detector | type[Detector] | str) -> Detector:
    if isinstance(given, Detector):
        return given
    if isinstance(given, str):
        if given not in DETECTORS:
            raise ValueError(f"unknown detector {given}, expected one of {', '.join(DETECTORS)}")
        return DETECTORS[given]()
    if isinstance(given, type) and issubclass(given, Detector):
        return given()
    raise TypeError(f"detectors has a {type(given).__name__}, expected detectors or their names")


Detectors = Detector | type[Detector] | str | Iterable[Detector | type[Detector] | str] | None


def choose(detectors: Detectors) -> list[Detector]:
    """What evaluate() is given; all detectors for None."""
    if isinstance(detectors, (str, Detector, type)):
        detectors = [detectors]
    chosen = [_as_detector(each) for each in (DETECTORS if detectors is None else detectors)]
    if not chosen:
        raise ValueError("evaluate: detectors has none, expected 1 or more")
    return chosen


def finished(report: Report, fitted: Iterable[tuple[Detector, _ood.Model]], asked: bool) -> Report:
    """Leaves the detectors fitted, and warns of what went wrong: with those that were left out only where they were asked
    for."""
    for detector, model in fitted:
        if model.fitted:
            detector._model = model
            vars(detector).pop("n_features_in_", None)  # of a fit on arrays
    if asked:
        for name, reason in report.left_out.items():
            warnings.warn(f"left out: {name}: {reason}", FitWarning, stacklevel=3)
    for fit in report.to_dict()["fits"]:
        for warning in fit["warnings"]:
            warnings.warn(f"{fit['detector']}: {warning}", FitWarning, stacklevel=3)
    return report


def evaluate(dataset: Dataset | PathLike, detectors: Detectors = None, *,
             without: Iterable[str] = (), curves: bool = True, threads: int = 0, device: str = "cpu",
             progress: bool | Callable[[str, float], None] = False) -> Report:
    """Fits detectors on a feature file, scores its /id_test and each set of /ood, and compares.

    detectors: objects, classes or names, one or several; all that the file allows if not given.
    Objects are fitted by it. One that was asked for and that the file does not allow is a ValueError
    before the first fit; one that its data do not allow is left out with a warning, and listed in
    Report.left_out.
    without: sets of /ood that are not scored. curves: keeps what Report.to_html draws, for which the
    scores of all rows are in memory. device: what scores, "cpu", "cuda" or "cuda:1"; fits run on
    the processor, and a detector without code for GPUs is left out. progress: True for a bar, or a function that is told the
    step and the share of the steps that is done.

    >>> import numpy as np, ood, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "small.h5"
    >>> rows = np.eye(4, 3, dtype=np.float32)
    >>> ood.write(path, id_test={"logits": 9 * rows}, ood={"noise": {"logits": 0 * rows, "kind": "far"}})
    >>> report = ood.evaluate(path, ["energy", ood.Gen(gamma=0.2)])
    >>> [(row["detector"], row["dataset"], row["auroc"]) for row in report.rows]
    [('energy', 'noise', 0.875), ('gen', 'noise', 0.875)]
    """
    file = dataset if isinstance(dataset, Dataset) else open(dataset)
    chosen = choose(detectors)
    models = [detector._new_model() for detector in chosen]
    if detectors is not None:
        for model in models:
            if missing := _ood.missing_inputs(file._file, model, device):
                raise ValueError(f"{model.name}: {file.path}: {missing}")
    without = [without] if isinstance(without, str) else list(without)

    if progress is True:
        from tqdm.auto import tqdm

        with tqdm(total=1.0, bar_format="{l_bar}{bar}| {elapsed}") as bar:
            def show(step: str, done: float) -> None:
                bar.set_description(step)
                bar.update(done - bar.n)

            report, fitted = _ood.evaluate(file._file, models, threads, device, without, curves, show)
    else:
        report, fitted = _ood.evaluate(file._file, models, threads, device, without, curves,
                                       progress or None)

    return finished(Report(report), zip(chosen, fitted), detectors is not None)
