"""Fits, scores and evaluations of rows that are too many for one machine, on a Dask cluster.

Rows are Dask arrays (of HDF5, Zarr, Parquet, ...) or lists of feature files. Results are those of one machine, to the bit,
however the rows are cut into chunks and files. docs/scale.md says what it costs.

>>> import dask.array, numpy as np, ood, ood.dask
>>> random = np.random.default_rng(0)
>>> labels = np.arange(200) % 4
>>> features = (random.normal(size=(4, 8))[labels] + 0.1 * random.normal(size=(200, 8))).astype(np.float32)
>>> lazy = dask.array.from_array(features, chunks=(50, 8))
>>> detector = ood.Mahalanobis().fit(features=features, labels=labels)
>>> scores = ood.dask.score(detector, lazy)  # nothing is read yet
>>> scores.chunks
((50, 50, 50, 50),)
>>> bool((scores.compute() == detector.score(features)).all())
True
"""

from __future__ import annotations

import functools
import os
import pickle
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from . import _cluster_fit, _ood
from ._arrays import Floats
from ._arrays import as_head
from ._cluster_scores import EXACT_ROWS, ClusterScores
from ._cluster_tasks import briefly, located
from ._dask import array as dask_array
from ._dask import delayed, distributed
from ._partitions import (NODE_ROWS, FeatureFiles, PartitionedRows, Piece, lazy_arrays, rows_each, rows_like,
                          rows_of_arrays, whole_rows, widest)
from .dataset import Dataset
from .detector import Detector, FitWarning
from .report import Detectors, Report, choose, finished

__all__ = ["EXACT_ROWS", "evaluate", "fit", "score"]

PathLike = str | os.PathLike[str]
Files = PathLike | Dataset | Sequence[PathLike | Dataset]
AnyDetector = TypeVar("AnyDetector", bound=Detector)


@contextmanager
def _cluster(client: Any) -> Iterator[Any]:
    """The client that is given, else that of this process, else one of processes on this machine, for the while."""
    if client is None:
        try:
            distributed.get_worker()
        except ValueError:
            pass
        else:  # within a task, which gives its thread back meanwhile
            with distributed.worker_client() as of_worker:
                yield of_worker
            return
        try:
            client = distributed.get_client()
        except ValueError:
            with distributed.Client() as own:
                yield own
            return
    if not isinstance(client, distributed.Client):
        raise TypeError(f"client has a {type(client).__name__}, expected a distributed.Client")
    if client.asynchronous:
        raise TypeError("client is asynchronous, expected one that waits for results: Client(..., asynchronous=False)")
    yield client


def _files(given: Any) -> FeatureFiles | None:
    """Feature files, or None for something else."""
    if isinstance(given, (str, os.PathLike, Dataset)):
        given = [given]
    if not isinstance(given, (list, tuple)) or (given and not isinstance(given[0], (str, os.PathLike, Dataset))):
        return None
    if not given:
        raise ValueError("list of files is empty, expected one or more")
    for i, each in enumerate(given):
        if not isinstance(each, (str, os.PathLike, Dataset)):
            raise TypeError(f"file {i} of {len(given)} is a {type(each).__name__}, expected a path or an open file")
    return FeatureFiles(given)


def _require_detector(method: str, detector: Any) -> None:
    if not isinstance(detector, Detector):
        raise TypeError(f"{method}: detector has {detector!r}, expected a detector, such as ood.Mahalanobis()")


def _require_blocks(method: str, partition_rows: int | None) -> None:
    if partition_rows is None:
        return
    if not isinstance(partition_rows, (int, np.integer)):
        raise TypeError(f"{method}: partition_rows has {partition_rows!r}, expected a whole number")
    if partition_rows < 1 or partition_rows % _ood.BLOCK_ROWS:
        raise ValueError(f"{method}: partition_rows has {partition_rows}, expected a multiple of {_ood.BLOCK_ROWS}")


def _rows_of_splits(files: FeatureFiles, splits: Iterable[str], client: Any,
                    partition_rows: int | None) -> dict[str, PartitionedRows]:
    tasks = max(1, int(sum(client.nthreads().values())))  # that run at a time
    return {split: files.rows(split, partition_rows or rows_each(files.length(split), tasks),
                              client if _is_fitted_on(split) else None) for split in splits}


def _is_fitted_on(split: str) -> bool:
    return split in ("train", "id_val") or split.startswith("ood_val/")


def fit(detector: AnyDetector, X: Any = None, y: Any = None, *, features: Any = None, logits: Any = None,
        labels: Any = None, layers: Mapping[str, Any] | None = None, copy_features: Any = None,
        copy_logits: Any = None, head: tuple[Any, Any] | None = None, id_val: Mapping[str, Any] | None = None,
        ood_val: Mapping[str, Mapping[str, Any]] | None = None, partition_rows: int | None = None,
        client: Any = None, progress: bool = False) -> AnyDetector:
    """Fits the detector on rows in Dask arrays or feature files, as `Detector.fit` does, and returns it.

    X: a feature file or a list of them, whose rows are taken one file behind the other and whose splits are taken as the
    detector needs them; or the one Dask array that the detector scores, with y as the labels. Else Dask arrays by name,
    as in `Detector.fit`; NumPy arrays too, where they are small. Lengths of chunks must be known. What `fitted_on` says of
    one file it says here too; of more files, and of arrays, there is no fingerprint, and so no warning of `calibrate`.

    It is the fit of one machine: each of its passes over the rows is a task for each partition, which ends with a summary,
    and a tree of tasks that merge summaries; results travel back to every worker once. Partitions have 4,096, 32,768, 262,144
    or 2,097,152 rows, the most of these that a chunk of the widest array has, or nearly has (four fifths); of files,
    `partition_rows`, a multiple of 4,096.
    Which summaries are merged with which depends on the rows alone: the result has the bits of one machine with the same
    instructions, for any chunks, files and workers, and also where workers were lost on the way.

    Detectors that keep rows (knn, nnguide, relation: option bank_share) keep the same ones as on one machine, and every worker
    has them all: so take a share that fits. fusion and layers keep the scores of the rows they are calibrated on.

    client: a distributed.Client; without one that of this process, else one for the while, on all cores of this machine: its
    processes import the script, which has to call this under `if __name__ == "__main__":`.
    progress: a bar in the terminal; Dask's dashboard has the tasks by the names ood-DETECTOR-accumulate and -merge.
    Errors: those of `Detector.fit`, with the partition that they are about.
    """
    _require_blocks("fit", partition_rows)
    _require_detector("fit", detector)
    model = detector._new_model()
    given = {"features": features, "logits": logits, "labels": labels, "layers": layers,
             "copy_features": copy_features, "copy_logits": copy_logits}
    files = _files(X)
    if not set(model.needs["fit"]) - {"head"} and not model.needs["outliers"]:  # no rows are read
        return detector.fit(head=head if files is None else files.head)
    if files is None and partition_rows is not None:
        raise TypeError("fit: partition_rows was given, which is of files: rechunk the arrays")
    with _cluster(client) as cluster, briefly() as fingerprint:
        width = None
        used: list[str] = []
        if files is not None:
            detector._refuse(given | {"y": y, "head": head, "id_val": id_val, "ood_val": ood_val}, "fit", "files")
            info = _dataset_info(files.name, {
                split: files.rows(split, NODE_ROWS[-1]) for split in filter(_is_fitted_on, files.splits)}, {})
            if missing := info.missing_fit_inputs(model):
                raise ValueError(f"{model.name}.fit: {files.name}: {missing}")
            used = info.fit_split(model).split(", ")
            rows = _rows_of_splits(files, [split for split in files.splits if split in used or (
                model.needs["outliers"] and split.startswith("ood_val/"))], cluster, partition_rows)
            if len(files.files) == 1:  # which the cluster can read, perhaps at another speed than this machine
                fingerprint.append(cluster.submit(_fingerprint, files.files[0].path, pure=False))
        else:
            given = detector._with_positional(model, given, X, y, "fit")
            sets = {f"ood_val/{name}": each for name, each in _sets("fit", "ood_val", ood_val).items()}
            if any(value is not None for value in given.values()):
                sets["train"] = given
            if id_val is not None:
                sets["id_val"] = id_val
            rows = {name: _rows_of_mapping(name, each, head, cluster) for name, each in sets.items()}
            if not rows:
                raise ValueError(f"{model.name}.fit: no rows, expected {', '.join(model.needs['fit'])}")
            for name, what in (("logits", "classes"), ("features", "dim")):
                width = width if given[name] is None else rows["train"].info[what]
        fitted = _cluster_fit.fit(cluster, model.name, detector.get_params(), rows, progress)
        if fingerprint and files is not None:
            fitted.set_fitted_on(files.files[0].name, ", ".join(used), fingerprint[0].result())
    detector._model = fitted
    vars(detector).pop("n_features_in_", None)
    if width is not None:
        detector.n_features_in_ = width
    for warning in fitted.diagnostics["warnings"]:
        warnings.warn(f"{type(detector).__name__}: {warning}", FitWarning, stacklevel=2)
    return detector


def _fingerprint(path: str) -> str:
    return Dataset(path)._file.fingerprint


def _sets(method: str, group: str, sets: Any) -> dict[str, Any]:
    """Those of outliers, by name."""
    if sets is not None and not isinstance(sets, Mapping):
        raise TypeError(f"{method}: {group} has a {type(sets).__name__}, expected sets by name")
    return dict(sets or {})


def _rows_of_mapping(where: str, rows: Mapping[str, Any], head: tuple[Any, Any] | None,
                     client: Any) -> PartitionedRows:
    if not isinstance(rows, Mapping):
        raise TypeError(f"{where} has a {type(rows).__name__}, expected a mapping of arrays by name")
    rows = dict(rows)
    rows.pop("kind", None)
    own = rows.pop("head", None)
    return rows_of_arrays(where, rows, head if own is None else own, client)


def _dataset_info(path: str, rows: Mapping[str, PartitionedRows], kinds: Mapping[str, str]) -> _ood.DatasetInfo:
    """What the library asks about a feature file, of rows that may lie in many."""
    return _ood.DatasetInfo(path, [(name, kinds.get(name, ""), each.info) for name, each in rows.items()])


# Scores.


def score(detector: Detector, X: Any = None, *, split: str | None = None, features: Any = None, logits: Any = None,
          layers: Mapping[str, Any] | None = None, copy_features: Any = None, copy_logits: Any = None,
          head: tuple[Any, Any] | None = None) -> Any:
    """The score of each row as a lazy Dask array, float32 [n]; higher = more in-distribution.

    X: the one Dask array that the detector scores, or a feature file or a list of them, with the `split`, whose rows are
    scored one file behind the other; else Dask arrays by name, as in `Detector.score`. A chunk of scores belongs to a chunk of
    the widest array, or to up to 32,768 rows of files. Nothing is read before the scores are computed, by any of Dask's
    schedulers; the fitted state goes to each worker once. Rows of arrays that have NaN score NaN; of files, and with a head,
    they raise. An array that cannot be read is an error of the task that reads it, which is Dask's, and not located here.
    """
    _require_detector("score", detector)
    model = detector._scoring_model()
    given = {"features": features, "logits": logits, "layers": layers, "copy_features": copy_features,
             "copy_logits": copy_logits}
    files = _files(X)
    state = delayed(_loaded)(pickle.dumps(detector))
    if files is not None:
        detector._refuse(given | {"head": head}, "score", "files")
        if split is None:
            raise TypeError(f"{type(detector).__name__}: score has files but no split, expected split='id_test' or another")
        return _score_files(files, split, model, state)
    if split is not None:
        raise TypeError(f"{type(detector).__name__}: score has a split but no files, expected both or none")
    given = detector._with_positional(model, given, X, None, "score")
    arrays = lazy_arrays(given, "score", known_lengths=False)
    if not arrays:
        raise TypeError(f"{model.name}.score: no arrays, expected {', '.join(model.needs['score'])}")
    if head is not None:
        head = as_head(head)
    one = rows_like(arrays, 1)
    score_arrays = functools.partial(_score_arrays, tuple(one))  # what is bound cannot be taken for a key of the graph
    score_arrays(detector, head, *one.values())  # what is missing, what does not fit
    chunks = widest(arrays)
    operands: list[Any] = []
    for i, (name, array) in enumerate(arrays.items()):
        axes = tuple(axis if axis == "n" else f"{axis}{i}" for axis in
                     (("K", "n", "D") if name.startswith("copy") else ("n", "D")))
        operands += [whole_rows(array, "score", name, chunks), axes]
    sent = None if head is None else delayed(tuple)(head)  # in one task
    return dask_array.blockwise(
        score_arrays, ("n",), state, None, sent, None, *operands, dtype=np.float32,
        meta=np.empty(0, np.float32), concatenate=True, align_arrays=False, adjust_chunks={"n": chunks})


def _score_files(files: FeatureFiles, split: str, model: _ood.Model, state: Any) -> Any:
    rows = files.rows(split, NODE_ROWS[1])
    missing = set(model.needs["score"]) - set(rows.info["has"])
    if {"features", "head"} <= set(rows.info["has"]):
        missing.discard("logits")
    if missing:
        raise ValueError(f"{model.name}.score: {rows.info['name']} has no {', no '.join(sorted(missing))}")
    score_pieces, none = delayed(_score_pieces), np.empty(0, np.float32)
    return dask_array.concatenate([
        dask_array.from_delayed(score_pieces(state, list(partition.pieces)), (partition.rows,), np.float32, meta=none)
        for partition in rows.partitions])


def _loaded(state: bytes) -> Detector:
    """On a worker: once for all of its tasks, for what Dask sends on to others is the detector."""
    detector: Detector = pickle.loads(state)
    return detector


def _score_arrays(names: tuple[str, ...], detector: Detector, head: tuple[Any, Any] | None, *arrays: Any) -> Floats:
    fields: dict[str, Any] = dict(zip(names, arrays))
    layers = {name.removeprefix("layers/"): fields.pop(name) for name in names if name.startswith("layers/")}
    return detector.score(**fields, layers=layers or None, head=head, threads=1)


def _score_pieces(detector: Detector, pieces: list[Piece]) -> Floats:
    model = detector._scoring_model()
    scores = []
    for piece in pieces:
        with located(str(piece)):
            scores.append(model.score_source(piece.source(), 1, "cpu"))
    return np.concatenate(scores)


# Evaluation.


def evaluate(data: Files | Mapping[str, Any], detectors: Detectors = None, *, without: Iterable[str] = (),
             exact_rows: int = EXACT_ROWS, curves: bool = False, partition_rows: int | None = None,
             client: Any = None, progress: bool = False) -> Report:
    """Fits detectors, scores ID test rows and sets of outliers, and compares, as `ood.evaluate` does.

    data: a feature file or a list of them, whose splits are taken one file behind the other; or a mapping as the
    arguments of `ood.write`: {"train": {"features": array, ...}, "id_val": ..., "id_test": ..., "ood": {"svhn": {..., "kind":
    "far"}}, "ood_val": {...}, "head": (weight, bias), "model": text, "id_dataset": text} of Dask arrays. Sets of csid are left out.
    detectors, without: as in `ood.evaluate`.

    Fits are those of `fit`; one pass over the rows scores them for all detectors, and scores stay on the workers. Metrics of a
    detector with up to `exact_rows` scores (ID and all sets together) are exact, computed here of the gathered scores, and
    the report is that of one machine. Of more scores, workers count them in bins between up to 131,072 of their order
    statistics: rows of the report then have "bounds" for each metric, which the exact one is proven to lie within, and
    tables say so. curves: what Report.to_html draws; of exact metrics alone.

    client, partition_rows, progress: as in `fit`.
    """
    _require_blocks("evaluate", partition_rows)
    without = [without] if isinstance(without, str) else list(without)
    with _cluster(client) as cluster:
        name, texts, rows, kinds = _evaluated(data, cluster, partition_rows)
        rows = {split: each for split, each in rows.items() if not split.startswith("csid/")}
        sets = [split for split in rows if split.startswith("ood/")]
        for left in without:
            if f"ood/{left}" not in sets:
                raise ValueError(f"evaluate: {name} has no set {left}")
            sets.remove(f"ood/{left}")
        if "id_test" not in rows:
            raise ValueError(f"evaluate: {name}: id_test is missing")
        if not sets:
            raise ValueError(f"evaluate: {name}: no set of outliers, expected 1 or more")
        if curves and exact_rows < sum(rows[split].info["rows"] for split in ["id_test", *sets]):
            raise ValueError("evaluate: curves need the scores themselves, of which there are more than exact_rows = "
                             f"{exact_rows}")
        chosen = choose(detectors)
        for i, detector in enumerate(chosen):
            if any(type(other) is type(detector) and other.get_params() == detector.get_params()
                   for other in chosen[:i]):
                raise ValueError(f"evaluate: {detector._name} is there twice with the same options, expected each once")
        info = _dataset_info(name, rows, kinds)
        if detectors is not None:
            for detector in chosen:
                if missing := info.missing_inputs(detector._new_model()):
                    raise ValueError(f"{detector._name}: {name}: {missing}")

        left_out: list[tuple[str, str]] = []
        fitted: list[tuple[Detector, _ood.Model, float]] = []
        for detector in chosen:
            model = detector._new_model()
            if missing := info.missing_inputs(model):
                left_out.append((model.name, missing))
                continue
            begin = time.perf_counter()
            try:
                fitted.append((detector, _fit_as_evaluated(cluster, detector, rows, progress),
                               time.perf_counter() - begin))
            except _ood.DomainError as error:
                left_out.append((model.name, str(error)))

        scores = ClusterScores(cluster, [model for _, model, _ in fitted],
                               {split: rows[split] for split in ["id_test", *sets]}, progress)
        try:
            builder = _ood.ReportBuilder(name, texts.get("model", ""), texts.get("id_dataset", ""), scores.id_accuracy, curves)
            for detector_name, why in left_out:
                builder.leave_out(detector_name, why)
            labels = [(split.removeprefix("ood/"), kinds.get(split, "")) for split in sets]
            for d, (_, model, seconds) in enumerate(fitted):
                _add(builder, model, (*info.plan_fit(model), seconds, scores.seconds[d]), scores, d, labels, exact_rows)
        finally:
            scores.release()
        report = Report(builder.finish())
    return finished(report, [(detector, model) for detector, model, _ in fitted], detectors is not None)


def _add(builder: _ood.ReportBuilder, model: _ood.Model, plan: tuple[str, bool, float, float], scores: ClusterScores, detector: int,
         sets: Sequence[tuple[str, str]], exact_rows: int) -> None:
    """The scores of a detector to the report. sets: names and kinds."""
    if failure := scores.failures[detector]:
        builder.leave_out(model.name, failure)
    elif scores.rows <= exact_rows:
        id_scores, *of_sets = (scores.gathered(detector, split) for split in scores.splits)
        builder.add(model, *plan, id_scores, [(*each, found) for each, found in zip(sets, of_sets)])
    else:
        try:
            edges, (id_counts, *counts) = scores.binned(detector)
        except ValueError as error:  # NaN: finite rows, but scores beyond float32
            builder.leave_out(model.name, str(error))
            return
        builder.add_counts(model, *plan, edges, id_counts, [(*each, found) for each, found in zip(sets, counts)])


def _evaluated(data: Any, client: Any, partition_rows: int | None) -> tuple[
        str, Mapping[str, str], dict[str, PartitionedRows], dict[str, str]]:
    """What the data are called, further texts about them, their rows by split, and the kinds of outliers."""
    files = _files(data)
    if files is not None:
        rows = _rows_of_splits(files, files.splits, client, partition_rows)
        texts = {"model": files.text("model"), "id_dataset": files.text("id_dataset")}
        return files.name, texts, rows, {split: files.kind(split) for split in rows}
    if not isinstance(data, Mapping):
        raise TypeError(f"evaluate: data has a {type(data).__name__}, expected feature files or a mapping of arrays")
    known = {"train", "id_val", "id_test", "csid", "ood", "ood_val", "head", "model", "id_dataset"}
    if unknown := data.keys() - known:
        raise TypeError(f"evaluate: unknown entry {min(unknown)}, expected some of {', '.join(sorted(known))}")
    if partition_rows is not None:
        raise TypeError("evaluate: partition_rows was given, which is of files: rechunk the arrays")
    splits = {name: data[name] for name in ("train", "id_val", "id_test") if data.get(name) is not None}
    for group in ("ood_val", "ood"):
        splits.update({f"{group}/{name}": each for name, each in _sets("evaluate", group, data.get(group)).items()})
    for name, each in splits.items():
        kinds_of_set = ("", "near", "far") if "/" in name else ("",)
        if isinstance(each, Mapping) and (kind := each.get("kind") or "") not in kinds_of_set:
            raise ValueError(f"evaluate: {name} has kind {kind}, expected "
                             f"{'near or far' if '/' in name else 'none, which sets of outliers alone have'}")
    rows = {name: _rows_of_mapping(name, each, data.get("head"), client if _is_fitted_on(name) else None)
            for name, each in splits.items()}
    kinds = {name: each["kind"] for name, each in splits.items() if each.get("kind")}
    return "Dask arrays", {key: data[key] for key in ("model", "id_dataset") if key in data}, rows, kinds


def _fit_as_evaluated(client: Any, detector: Detector, rows: Mapping[str, PartitionedRows],
                      progress: bool) -> _ood.Model:
    """On the splits that a fit may read; the head is in every split."""
    model = detector._new_model()
    if not model.needs["fit"] and not model.needs["outliers"]:
        return model
    used = {split: each for split, each in rows.items() if _is_fitted_on(split)}
    if not used.keys() & {"train", "id_val"}:
        used["train"] = next(iter(rows.values()))
    return _cluster_fit.fit(client, model.name, detector.get_params(), used, progress)
