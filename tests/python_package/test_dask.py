"""ood.dask on two worker processes: what one machine gives, to the bit, also where workers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (DIM, fit_arguments, make, make_head, make_rows, make_strange_rows, same_bits,
                      score_arguments)

import ood

distributed = pytest.importorskip("distributed", reason="needs dask: pip install 'libood[dask]'")
da = pytest.importorskip("dask.array", reason="needs dask: pip install 'libood[dask]'")

import dask  # noqa: E402

import ood.dask  # noqa: E402
from ood import _cluster_fit, _ood  # noqa: E402
from ood._arrays import as_arrays  # noqa: E402

#: Three blocks and a rest.
ROWS = 3 * 4096 + 700


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                                  memory_limit="2GiB") as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def mortal() -> Iterator[Any]:
    """One whose workers are killed, and perhaps not replaced."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                                  memory_limit="2GiB") as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A cluster that is lost would wait for ever."""
    def ring(*_: Any) -> None:
        raise TimeoutError("the test takes longer than 5 minutes")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(300)
    yield
    signal.alarm(0)


def lazy(array: np.ndarray, name: str = "", rows: tuple[int, ...] | int = 2500) -> Any:
    """In chunks whose ends are none of blocks."""
    axis = 1 if name.startswith("copy") else 0
    return da.from_array(array, chunks={each: rows if each == axis else -1 for each in range(array.ndim)})


def lazy_rows(rows: dict[str, Any], chunks: Any = 2500) -> dict[str, Any]:
    return {name: ({layer: lazy(each, rows=chunks) for layer, each in array.items()} if name == "layers" else
                   array if name == "kind" else lazy(array, name, chunks)) for name, array in rows.items()}


def state(detector: ood.Detector) -> bytes:
    assert detector._model is not None
    return bytes(detector._model.to_bytes()[0])


def quietly(call: Any, *arguments: Any, **keywords: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ood.FitWarning)
        return call(*arguments, **keywords)


# Fits.


@pytest.mark.parametrize("name", list(ood.DETECTORS))
def test_fit_is_that_of_one_machine(client: Any, name: str) -> None:
    detector = make(name)
    train, id_val = make_rows(1, ROWS), make_rows(2, 5000)
    arguments = fit_arguments(detector, train, id_val)
    here = quietly(make(name).fit, **arguments)
    lazily = lazy_rows({key: value for key, value in arguments.items() if key not in ("id_val", "ood_val", "head")})
    if arguments["id_val"]:
        lazily["id_val"] = lazy_rows(arguments["id_val"], 1300)
    if "ood_val" in arguments:
        lazily["ood_val"] = {key: lazy_rows(rows, 50) for key, rows in arguments["ood_val"].items()}
    if "head" in arguments:
        lazily["head"] = arguments["head"]
    assert quietly(ood.dask.fit, detector, client=client, **lazily) is detector
    assert state(detector) == state(here)
    if set(here.needs["fit"]) - {"head"}:  # else no rows were read
        assert detector.fitted_on.rows == here.fitted_on.rows
        assert detector.fitted_on.split == here.fitted_on.split


@pytest.mark.parametrize("rows", [20, 4096, 4097, 8 * 4096, 9 * 4096 + 1])
@pytest.mark.parametrize("chunks", [700, 4096, 40_000])
def test_any_chunks_give_the_same_bits(client: Any, rows: int, chunks: int) -> None:
    random = np.random.default_rng(rows)
    features = random.normal(size=(rows, 5)).astype(np.float32)
    labels = np.zeros(rows, np.int64)
    here = ood.Mahalanobis().fit(features=features, labels=labels)
    # the columns in chunks too
    array = da.from_array(features, chunks=(chunks, 3))
    there = ood.dask.fit(ood.Mahalanobis(), array, da.from_array(labels, chunks=977), client=client)
    assert state(there) == state(here)
    assert there.n_features_in_ == 5


def test_float64_and_numpy_arrays_are_taken(client: Any) -> None:
    rows = make_rows(1, 5000)
    here = ood.Mahalanobis().fit(features=rows["features"], labels=rows["labels"])
    there = ood.dask.fit(ood.Mahalanobis(), features=lazy(rows["features"].astype(np.float64)), labels=rows["labels"],
                         client=client)
    assert state(there) == state(here)


@pytest.mark.parametrize("dtype", ["u1", "u8", "i1", ">i4"])
def test_labels_of_any_integers(client: Any, dtype: str) -> None:
    rows = make_rows(1, 5000)
    here = ood.Mahalanobis().fit(features=rows["features"], labels=rows["labels"])
    there = ood.dask.fit(ood.Mahalanobis(), lazy(rows["features"]), lazy(rows["labels"].astype(dtype)), client=client)
    assert state(there) == state(here)


def noted(array: np.ndarray, name: str, folder: Path) -> Any:
    """Its chunks; each that is read leaves a file."""
    def load(block: np.ndarray, folder: str, name: str) -> np.ndarray:
        import tempfile

        tempfile.mkstemp(dir=folder, prefix=f"{name}-")
        return block

    return lazy(array, name).map_blocks(load, str(folder), name, dtype=array.dtype, meta=np.empty((0,) * array.ndim, array.dtype))


def test_arrays_that_a_detector_does_not_need_are_not_read(client: Any, tmp_path: Path) -> None:
    rows = {name: make_rows(1, 5000)[name] for name in ("features", "logits", "labels", "copy_features")}
    rows["labels"] = rows["labels"] + 0
    here = ood.Ssd().fit(features=rows["features"])
    lazily = {name: noted(array, name, tmp_path) for name, array in rows.items()}
    assert state(ood.dask.fit(ood.Ssd(), **lazily, client=client)) == state(here)
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"features"}
    report = ood.dask.evaluate({"train": lazily, "id_test": lazily, "ood": {"far": lazily}}, "ssd", client=client)
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"features", "logits", "labels"}  # for the accuracy
    assert report.to_dict()["id_accuracy"] == np.mean(rows["logits"].argmax(axis=1) == rows["labels"])


def test_tasks_of_any_name(client: Any) -> None:
    """Names of ours are no keys of the user's graph."""
    rows = make_rows(1, 5000)
    features = da.from_delayed(dask.delayed(rows["features"].copy)(dask_key_name="features"), rows["features"].shape, np.float32)
    labels = da.from_delayed(dask.delayed(rows["labels"].copy)(dask_key_name="train"), rows["labels"].shape, np.int64)
    here = ood.Mahalanobis().fit(features=rows["features"], labels=rows["labels"])
    assert state(ood.dask.fit(ood.Mahalanobis(), features, labels, client=client)) == state(here)
    assert same_bits(ood.dask.score(here, features=features).compute(scheduler="threads"), here.score(rows["features"]))


def test_logits_are_made_of_features_and_head(client: Any) -> None:
    rows = make_rows(1, 9000)
    here = ood.Vim().fit(features=rows["features"], head=make_head())
    there = ood.dask.fit(ood.Vim(), features=lazy(rows["features"]), head=make_head(), client=client)
    assert state(there) == state(here)


def test_banks_keep_the_rows_of_one_machine(client: Any) -> None:
    features = make_rows(1, 20_000)["features"]
    here = ood.Knn(k=5, bank_share=0.05, seed=3).fit(features)
    there = ood.dask.fit(ood.Knn(k=5, bank_share=0.05, seed=3), lazy(features), client=client)
    assert state(there) == state(here)


def write_shards(folder: Path, sizes: list[int]) -> list[Path]:
    """Feature files with every array, and one row more in each split from file to file."""
    paths = []
    for i, size in enumerate(sizes):
        outliers = {"near": make_rows(30 + i, 900 + i, 1.0) | {"kind": "near"},
                    "far": make_strange_rows(40 + i, 2000 + i) | {"kind": "far"}}
        if i == 1:  # a set that is in one file alone
            outliers["once"] = make_rows(50, 333, 3.0) | {"kind": "far"}
        paths.append(folder / f"shard{i}.h5")
        ood.write(paths[-1], train=make_rows(i, size), id_val=make_rows(10 + i, 600 + i),
                  id_test=make_rows(20 + i, 1500 + i), ood=outliers,
                  ood_val={"noise": make_rows(60 + i, 200, 4.0)}, head=make_head(), model="net", gzip_level=0)
    return paths


def join_shards(paths: list[Path], path: Path) -> Path:
    """The same rows in one file."""
    files = [ood.open(each) for each in paths]
    with ood.Writer(path, model="net", gzip_level=0) as writer:
        writer.write_head(*make_head())
        for split in dict.fromkeys(name for file in files for name in file.splits):
            for file in files:
                if split not in file.splits:
                    continue
                rows = file.splits[split]
                writer.append(split, features=rows.features, logits=rows.logits, kind=rows.kind,
                              labels=rows.labels if "labels" in rows.shapes else None, layers=rows.layers,
                              copy_features=rows.copy_features, copy_logits=rows.copy_logits)
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    folder = tmp_path_factory.mktemp("shards")
    paths = write_shards(folder, [5000, 4100, 7001])
    return paths, join_shards(paths, folder / "all.h5")


@pytest.mark.parametrize("name", ["mahalanobis", "vim", "knn", "temperature_scaling", "fusion"])
@pytest.mark.parametrize("partition_rows", [None, 4096, 8192])
def test_files_are_one_behind_the_other(client: Any, shards: Any, name: str, partition_rows: int | None) -> None:
    paths, joined = shards
    here = quietly(make(name).fit, ood.open(joined))
    there = quietly(ood.dask.fit, make(name), paths, partition_rows=partition_rows, client=client)
    rows = ood.open(joined).id_test
    assert same_bits(there.score(rows), here.score(rows))
    if name != "fusion":  # says which file it was calibrated on
        assert state(there) == state(here)


def test_classes_that_labels_alone_tell(client: Any, tmp_path: Path) -> None:
    """Neither logits nor a head: a file's labels are read once for the fit, by tasks, and not for scores."""
    paths = [tmp_path / f"part{i}.h5" for i in range(3)]
    rows = [make_rows(i, size) for i, size in enumerate((5000, 4100, 7001))]
    for path, each in zip(paths, rows):
        few = np.minimum(each["labels"], 1) if path == paths[0] else each["labels"]  # a class that is not in the first
        ood.write(path, train={"features": each["features"], "labels": few}, gzip_level=0)
        each["labels"] = few
    joined = {name: np.concatenate([each[name] for each in rows]) for name in ("features", "labels")}
    here = ood.Mahalanobis().fit(**joined)
    there = ood.dask.fit(ood.Mahalanobis(), paths, client=client)
    assert state(there) == state(here)
    h5py = pytest.importorskip("h5py")
    with h5py.File(paths[1], "r+") as file:  # labels that are none: who reads them fails
        file["train/labels"][5] = -7
    scores = ood.dask.score(there, paths, split="train")
    assert same_bits(scores.compute(scheduler="threads"), here.score(joined["features"]))
    with pytest.raises(ValueError, match="labels"):
        ood.dask.fit(ood.Mahalanobis(), paths, client=client)


def test_a_fit_on_one_file_is_known_again(client: Any, shards: Any) -> None:
    paths, joined = shards
    for detector in (ood.Mahalanobis, ood.TemperatureScaling, ood.Knn):
        here, there = quietly(detector().fit, ood.open(joined)), quietly(ood.dask.fit, detector(), joined, client=client)
        assert there.fitted_on == here.fitted_on
        assert there.fitted_on.fingerprint
        with pytest.warns(UserWarning, match="rows that it was fitted on"):
            there.calibrate(ood.open(joined).splits[there.fitted_on.split])
    relative = ood.dask.fit(ood.Mahalanobis(), os.path.relpath(joined), client=client)
    assert relative.fitted_on == ood.Mahalanobis().fit(ood.open(os.path.relpath(joined))).fitted_on
    several = ood.dask.fit(ood.Mahalanobis(), paths, client=client)
    assert several.fitted_on.split == "train" and not several.fitted_on.fingerprint


def test_zarr_and_hdf5_arrays(client: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    h5py = pytest.importorskip("h5py")
    rows = make_rows(1, 9000)
    here = ood.ConjNorm().fit(features=rows["features"], labels=rows["labels"])
    stored = zarr.open(str(tmp_path / "features.zarr"), mode="w", shape=(9000, DIM), chunks=(1000, DIM), dtype="f4")
    stored[:] = rows["features"]
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.create_dataset("features", data=rows["features"], chunks=(500, DIM))

    def read(path: str, begin: int, end: int) -> np.ndarray:
        with h5py.File(path) as file:
            return np.asarray(file["features"][begin:end])

    from dask import delayed
    blocks = [da.from_delayed(delayed(read)(str(tmp_path / "features.h5"), begin, begin + 3000), (3000, DIM), np.float32)
              for begin in range(0, 9000, 3000)]
    for array in (da.from_zarr(str(tmp_path / "features.zarr")), da.concatenate(blocks)):
        there = ood.dask.fit(ood.ConjNorm(), features=array, labels=lazy(rows["labels"]), client=client)
        assert state(there) == state(here)


def test_parquet_tables(client: Any, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    import dask.dataframe as dd

    features = make_rows(1, 9000)["features"]
    for i in range(3):
        part = pandas.DataFrame(features[3000 * i:3000 * (i + 1)], columns=[f"f{j}" for j in range(DIM)])
        part.to_parquet(tmp_path / f"part{i}.parquet")
    table = dd.read_parquet(str(tmp_path))
    with pytest.raises(ValueError, match=r"features has chunks of unknown length, expected known ones"):
        ood.dask.fit(ood.Ssd(), table.values, client=client)
    there = ood.dask.fit(ood.Ssd(), table.to_dask_array(lengths=True), client=client)
    assert state(there) == state(ood.Ssd().fit(features))


# Scores.


def test_scores_are_those_of_one_machine(fitted: ood.Detector) -> None:
    rows = score_arguments(fitted, make_rows(4, 700))
    scores = ood.dask.score(fitted, **lazy_rows(rows, (300, 250, 150)))
    assert scores.shape == (700,) and scores.dtype == np.float32 and scores.chunks == ((300, 250, 150),)
    assert same_bits(scores.compute(scheduler="threads"), fitted.score(**rows))


def test_scores_on_workers(client: Any, shards: Any) -> None:
    paths, joined = shards
    detector = quietly(ood.Knn(k=5).fit, ood.open(joined))
    scores = ood.dask.score(detector, paths, split="id_test")
    assert scores.shape == (4503,)
    assert same_bits(client.compute(scores).result(), detector.score(ood.open(joined).id_test))
    features = ood.open(joined).id_test.features[:]
    lazily = ood.dask.score(detector, da.from_array(features, chunks=(1000, 5)))
    assert same_bits(client.compute(lazily).result(), detector.score(features))
    unknown = da.from_array(features, chunks=(1000, 5))
    unknown = unknown[unknown[:, 0] > -1]  # all of them, as is not known
    assert same_bits(client.compute(ood.dask.score(detector, unknown)).result(), detector.score(features))


def test_scores_of_logits_that_a_head_makes() -> None:
    features = make_rows(4, 700)["features"]
    scores = ood.dask.score(ood.Energy(), features=lazy(features, rows=300), head=make_head())
    assert same_bits(scores.compute(scheduler="threads"), ood.Energy().score(features=features, head=make_head()))


# Evaluation.


def without_seconds(report: ood.Report) -> dict[str, Any]:
    content = report.to_dict()
    for timing in content["timings"]:
        timing["fit_seconds"] = timing["score_seconds"] = 0
    return {key: value for key, value in content.items() if key not in ("file", "fingerprint")}


def test_evaluation_is_that_of_one_machine(client: Any, shards: Any) -> None:
    paths, joined = shards
    names = ["energy", "mahalanobis", "knn", "mutual_information", "vra"]
    here = quietly(ood.evaluate, joined, names)
    there = quietly(ood.dask.evaluate, paths, names, curves=True, client=client)
    assert without_seconds(there) == without_seconds(here)
    assert there.to_html().count("svg") == here.to_html().count("svg")
    assert all("bounds" not in row for row in there.rows)
    assert [row["dataset"] for row in there.rows[:3]] == [row["dataset"] for row in here.rows[:3]]


def test_evaluation_of_arrays(client: Any, shards: Any) -> None:
    file = ood.open(shards[1])

    def arrays(split: ood.Split) -> dict[str, Any]:
        return {"features": lazy(split.features[:]), "logits": lazy(split.logits[:])} | (
            {"labels": lazy(split.labels[:])} if "labels" in split.shapes else {})

    data = {"train": arrays(file.train), "id_test": arrays(file.id_test), "head": make_head(), "model": "net",
            "ood": {name: arrays(split) | {"kind": split.kind} for name, split in file.ood.items()}}
    names = ["msp", "react", "she"]
    here = quietly(ood.evaluate, file, names, curves=False)
    energy = ood.Energy()
    there = quietly(ood.dask.evaluate, data, [*names, energy], without="once", client=client)
    rows = {(row["detector"], row["dataset"]): row for row in here.rows}
    assert {row["dataset"] for row in there.rows} == {"near", "far"}
    for row in there.rows:
        if row["detector"] != "energy":
            assert row == rows[row["detector"], row["dataset"]]
    assert there.to_dict()["id_accuracy"] == here.to_dict()["id_accuracy"]
    assert len(there.to_dict()["timings"]) == 4
    assert energy.fit() is energy
    # logits that the head makes
    for split in (data["id_test"], *data["ood"].values()):
        del split["logits"]
    made = quietly(ood.dask.evaluate, data, ["energy", "msp"], without="once", client=client)
    for row in made.rows:
        exact = [each for each in there.rows if (each["detector"], each["dataset"]) == (row["detector"], row["dataset"])]
        assert row["auroc"] == pytest.approx(exact[0]["auroc"], abs=1e-3)
    # without id_val, copies and layers
    left = quietly(ood.dask.evaluate, data, client=client).left_out
    assert "mutual_information" in left and left["layers"] and "energy" not in left


def test_exact_metrics_of_many_partitions(client: Any, tmp_path: Path) -> None:
    far = {"features": make_rows(3, 30_000)["features"] + 0.3}
    splits = {"train": make_rows(1), "id_test": make_rows(2, 20_000)}
    for features in (far["features"], splits["id_test"]["features"]):
        features[::7] = features[0]  # ties, in all partitions
    splits = {name: {key: rows[key] for key in ("features", "labels")} for name, rows in splits.items()}

    def reports() -> list[dict[str, Any]]:
        ood.write(tmp_path / "rows.h5", **splits, ood={"far": far | {"kind": "far"}})
        here = quietly(ood.evaluate, tmp_path / "rows.h5", ["mahalanobis", "ssd"], curves=False)
        lazily = {name: lazy_rows(rows, 4096) for name, rows in splits.items()}
        there = quietly(ood.dask.evaluate, lazily | {"ood": {"far": lazy_rows(far, 4096) | {"kind": "far"}}},
                        ["mahalanobis", "ssd"], client=client)
        return [without_seconds(report) for report in (here, there)]

    here, there = reports()
    assert [row["detector"] for row in there["rows"]] == ["mahalanobis", "ssd"]
    assert there["rows"] == here["rows"] and there["means"] == here["means"]
    far["features"][20_001] = 3e38  # a finite row whose score is not
    here, there = reports()
    assert "on far: compute_metrics: ood score 20001 is NaN, expected a number" in [
        left["reason"] for left in there["left_out"]]
    assert there["left_out"] == here["left_out"] and there["rows"] == here["rows"]


def test_counted_metrics_have_bounds_that_hold(client: Any, shards: Any, monkeypatch: Any) -> None:
    paths, joined = shards
    names = ["energy", "mahalanobis", "variation_ratio"]
    here = quietly(ood.evaluate, joined, names, curves=False)
    there = quietly(ood.dask.evaluate, paths, names, exact_rows=0, client=client)
    for exact, row in zip(here.rows + here.means, there.rows + there.means):
        assert row["detector"] == exact["detector"]
        for metric, (low, high) in row["bounds"].items():
            assert low - 1e-12 <= exact[metric] <= high + 1e-12
            assert high - low <= 1e-9  # every score of so few is an edge
    from ood import _cluster_scores

    def few(_: Any = None) -> None:
        from ood import _cluster_scores
        _cluster_scores._SAMPLE = _cluster_scores._EDGES = 40
        _cluster_scores._COUNTED = 2000

    monkeypatch.setattr(_cluster_scores, "_EDGES", 40)
    monkeypatch.setattr(_cluster_scores, "_COUNTED", 2000)
    client.run(few)
    coarse = quietly(ood.dask.evaluate, paths, names, exact_rows=0, client=client)
    client.restart()
    widths = []
    for exact, row in zip(here.rows + here.means, coarse.rows + coarse.means):
        for metric, (low, high) in row["bounds"].items():
            assert low <= exact[metric] <= high
            assert low <= row[metric] <= high
            widths.append((row["detector"], high - low))
    assert max(width for name, width in widths if name == "energy") > 1e-6  # bounds that say something
    assert max(width for name, width in widths if name == "variation_ratio") < 1e-12  # K + 1 values: ties
    assert "counts of scores in bins" in coarse.to_table()


def test_shifted_rows_are_scored_and_left_out_of_reports(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "csid.h5"
    with ood.Writer(path) as writer:
        for i, split in enumerate(["train", "id_test", "csid/fog", "ood/noise"]):
            writer.append(split, features=make_rows(i, 5000)["features"])
    report = ood.dask.evaluate(path, "ssd", curves=True, client=client)
    assert without_seconds(report) == without_seconds(ood.evaluate(path, "ssd"))
    arrays = {split.split("/")[0]: {"features": lazy(make_rows(i, 5000)["features"])} for i, split in
              enumerate(["train", "id_test", "csid/fog", "ood/noise"])}
    of_arrays = ood.dask.evaluate({**arrays, "csid": {"fog": arrays["csid"]}, "ood": {"noise": arrays["ood"]}}, "ssd",
                                  client=client)
    assert of_arrays.rows == report.rows
    detector = ood.dask.fit(ood.Ssd(), path, client=client)
    assert same_bits(ood.dask.score(detector, path, split="csid/fog").compute(scheduler="threads"),
                     detector.score(make_rows(2, 5000)["features"]))


def test_evaluation_errors(client: Any, shards: Any) -> None:
    paths, _ = shards
    with pytest.raises(ValueError, match="evaluate: energy is there twice"):
        ood.dask.evaluate(paths, ["energy", "energy"], client=client)
    with pytest.raises(ValueError, match="has no set svhn"):
        ood.dask.evaluate(paths, ["energy"], without="svhn", client=client)
    with pytest.raises(ValueError, match="id_test is missing"):
        ood.dask.evaluate({"train": {"logits": lazy(make_rows(1)["logits"])}}, client=client)
    with pytest.raises(ValueError, match="curves need the scores themselves"):
        ood.dask.evaluate(paths, ["energy"], exact_rows=100, curves=True, client=client)
    with pytest.raises(TypeError, match="unknown entry idtest"):
        ood.dask.evaluate({"idtest": {}}, client=client)
    logits = {"logits": lazy(make_rows(1)["logits"])}
    with pytest.raises(ValueError, match="ood/noise has kind middling, expected near or far"):
        ood.dask.evaluate({"id_test": logits, "ood": {"noise": {**logits, "kind": "middling"}}}, client=client)
    with pytest.raises(ValueError, match="id_test has kind near, expected none"):
        ood.dask.evaluate({"id_test": {**logits, "kind": "near"}, "ood": {"noise": logits}}, client=client)
    with pytest.raises(TypeError, match="ood has a list, expected sets by name"):
        ood.dask.evaluate({"id_test": logits, "ood": [logits]}, client=client)
    with pytest.raises(TypeError, match="ood/noise has a Array, expected a mapping of arrays by name"):
        ood.dask.evaluate({"id_test": logits, "ood": {"noise": logits["logits"]}}, client=client)
    with pytest.raises(TypeError, match="partition_rows was given, which is of files"):
        ood.dask.evaluate({"id_test": logits, "ood": {"noise": logits}}, partition_rows=4096, client=client)
    with pytest.raises(ValueError, match="no set of outliers"):
        ood.dask.evaluate({"id_test": logits}, client=client)


# Faults.


def killed_at(array: np.ndarray, folder: Path, read: int, chunk: int = 4096) -> Any:
    """Its chunks; the worker process that reads one as number `read` of all is killed."""

    def load(block: np.ndarray, folder: str, read: int) -> np.ndarray:
        import itertools
        import os
        import signal

        for number in itertools.count(1):
            try:
                open(f"{folder}/{number}", "x").close()
            except FileExistsError:
                continue
            if number == read:
                os.kill(os.getpid(), signal.SIGKILL)
            return block
        raise AssertionError

    folder.mkdir()
    return da.from_array(array, chunks=(chunk, -1)).map_blocks(load, str(folder), read, dtype=array.dtype,
                                                                meta=np.empty((0, 0), array.dtype))


def worker_pids(client: Any) -> set[int]:
    return set(client.run(os.getpid).values())


def are_gone(pids: set[int]) -> list[int]:
    return [pid for pid in pids if not Path(f"/proc/{pid}").exists()]


# ConjNorm reads 10 chunks in each of two passes, Mahalanobis in one.
@pytest.mark.parametrize("name, read", [("mahalanobis", 3), ("conjnorm", 4), ("conjnorm", 14), ("conjnorm", 20)])
def test_a_worker_is_killed_in_a_fit(mortal: Any, tmp_path: Path, name: str, read: int) -> None:
    rows = make_rows(1, 10 * 4096)
    pids = worker_pids(mortal)
    here = make(name).fit(features=rows["features"], labels=rows["labels"])
    folder = tmp_path / "reads"
    there = ood.dask.fit(make(name), features=killed_at(rows["features"], folder, read), labels=lazy(rows["labels"]),
                         client=mortal)
    assert len(os.listdir(folder)) > 10 * (2 if name == "conjnorm" else 1), "something was read again"
    assert len(are_gone(pids)) == 1, "a process was killed"
    assert state(there) == state(here)


def test_a_worker_is_killed_in_a_score(mortal: Any, tmp_path: Path) -> None:
    features = make_rows(1, 10 * 4096)["features"]
    detector = ood.Knn(k=3, bank_share=0.01).fit(features)
    pids = worker_pids(mortal)
    scores = mortal.compute(ood.dask.score(detector, killed_at(features, tmp_path / "reads", 5))).result()
    assert len(are_gone(pids)) == 1
    assert same_bits(scores, detector.score(features))


def test_a_worker_is_killed_in_an_evaluation(mortal: Any, tmp_path: Path) -> None:
    rows, outliers = make_rows(1, 6 * 4096), make_strange_rows(2, 6 * 4096)
    pids = worker_pids(mortal)
    report = ood.dask.evaluate({"id_test": {"logits": lazy(rows["logits"])},
                                "ood": {"far": {"logits": killed_at(outliers["logits"], tmp_path / "reads", 3)}}},
                               "energy", client=mortal)
    assert len(are_gone(pids)) == 1
    energy = ood.Energy()
    want = ood.metrics.compute(energy.score(rows["logits"]), energy.score(outliers["logits"]))
    assert {metric: report.rows[0][metric] for metric in want} == want


def test_a_partition_that_kills_its_worker_is_named(mortal: Any, tmp_path: Path) -> None:
    mortal.cluster.scheduler.allowed_failures = 0
    deadly = killed_at(make_rows(1, 4096)["features"], tmp_path / "reads", 1)
    with pytest.raises(RuntimeError, match=r"train, rows 0 to 4095: .*died"):
        ood.dask.fit(ood.Ssd(), deadly, client=mortal)


def test_a_corrupt_file_is_named_with_its_rows(client: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    paths = []
    for i in range(2):
        rows = make_rows(i, 9000)
        paths.append(tmp_path / f"part{i}.h5")
        ood.write(paths[-1], train={"features": rows["features"], "labels": rows["labels"]}, gzip_level=4)
    with h5py.File(paths[1]) as file:
        chunk = file["train/features"].id.get_chunk_info(file["train/features"].id.get_num_chunks() - 1)
    with open(paths[1], "r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(b"\xff" * 64)
    with pytest.raises(OSError) as caught:
        ood.dask.fit(ood.Mahalanobis(), paths, client=client)
    assert f"rows 7384 to 8999 of /train in {paths[1]}" in str(caught.value)
    with pytest.raises(OSError, match="part1.h5"):
        ood.dask.score(ood.Mahalanobis().fit(ood.open(paths[0])), paths, split="train").compute(scheduler="threads")


def test_a_chunk_that_cannot_be_read_is_named(client: Any) -> None:
    features = make_rows(1, 3 * 4096)["features"]

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[0]["chunk-location"][0] == 1:
            raise OSError("disk on fire")
        return block

    broken = da.from_array(features, chunks=(4096, -1)).map_blocks(load, dtype=np.float32, meta=np.empty((0, 0), "f4"))
    with pytest.raises(OSError, match=r"train, rows 4096 to 8191: disk on fire"):
        ood.dask.fit(ood.Ssd(), broken, client=client)
    with pytest.raises(OSError, match=r"ood/noise, rows 4096 to 8191: disk on fire"):
        ood.dask.evaluate({"id_test": {"logits": lazy(features)}, "ood": {"noise": {"logits": broken}}}, "energy",
                          client=client)


def test_what_is_on_the_cluster_outlives_a_fit_that_fails(client: Any) -> None:
    features = make_rows(1, 20 * 4096)["features"]

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[0]["chunk-location"][0] == 11:
            raise OSError("disk on fire")
        return block

    kept = client.persist(da.from_array(features, chunks=(4096, -1)))
    other = client.submit(lambda: 42, pure=False)
    before = set(client.futures)
    broken = kept.map_blocks(load, dtype=np.float32, meta=np.empty((0, 0), "f4"))
    for _ in range(3):
        with pytest.raises(OSError, match="train, rows 45056 to 49151: disk on fire"):
            ood.dask.fit(ood.Ssd(), broken, client=client)
        with pytest.raises(OSError, match="ood/noise, rows 45056 to 49151: disk on fire"):
            ood.dask.evaluate({"id_test": {"logits": kept}, "ood": {"noise": {"logits": broken}}}, "energy", client=client)
    assert other.result() == 42
    assert client.compute(kept.sum()).result() == pytest.approx(features.sum(dtype=np.float64), rel=1e-4)
    assert not futures_since(client, before)


def futures_since(client: Any, before: set[Any]) -> set[Any]:
    for _ in range(30):  # what is released goes when the client comes to it
        if set(client.futures) <= before:
            break
        time.sleep(0.1)
    return set(client.futures) - before


def test_failures_leave_nothing_on_the_cluster(client: Any, shards: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("out of order")

    before = set(client.futures)
    with pytest.raises(OSError, match="out of order") as kept, monkeypatch.context() as patch:
        patch.setattr(_ood.ReportBuilder, "finish", broken)
        ood.dask.evaluate(shards[0], "energy", client=client)
    assert not futures_since(client, before)
    with pytest.raises(OSError, match="out of order") as also_kept, monkeypatch.context() as patch:
        patch.setattr(ood.dask.ClusterScores, "_summarise", broken)
        ood.dask.evaluate(shards[0], "energy", client=client)
    assert not futures_since(client, before)
    features = make_rows(1, 5000)["features"].copy()
    features[100] = np.inf
    ood.write(tmp_path / "bad.h5", train={"features": features})
    with pytest.raises(ValueError, match="rows 0 to 4095 of /train .*infinity at row 100") as third_kept:
        ood.dask.fit(ood.Ssd(), tmp_path / "bad.h5", client=client)
    assert not futures_since(client, before)
    assert kept and also_kept and third_kept  # with what their tracebacks hold


def as_chunks(array: np.ndarray, said: tuple[int, ...], found: tuple[int, ...]) -> Any:
    """Chunks that have other numbers of rows than they say."""
    ends = np.cumsum(found)
    chunks = [array[end - rows:end] for rows, end in zip(found, ends)]
    return da.concatenate([da.from_delayed(dask.delayed(chunk), (rows, *array.shape[1:]), array.dtype)
                           for chunk, rows in zip(chunks, said)])


@pytest.mark.parametrize("said, found", [
    ((4096, 900), (4096, 800)), ((4096, 900), (4096, 904)), ((5000,), (4900,)), ((5000,), (5100,)), ((8192,), (4096,)),
    ((3000, 3000), (2990, 3010)), ((3000, 3000), (3010, 2990)), ((3000, 3000, 2192), (3000, 3096, 2096))])
def test_chunks_of_other_lengths_are_refused(client: Any, said: tuple[int, ...], found: tuple[int, ...]) -> None:
    rows = make_rows(1, sum(found))
    features, logits = (as_chunks(rows[name], said, found) for name in ("features", "logits"))
    pattern = r"train, rows \d+ to \d+: .*features has a chunk of shape .* at .*, expected"
    with pytest.raises(ValueError, match=pattern):
        ood.dask.fit(ood.Ssd(), features, client=client)
    good = {"logits": lazy(make_rows(2, 3000)["logits"])}
    with pytest.raises(ValueError, match=r"id_test, rows \d+ to \d+: .*logits has a chunk of shape"):
        ood.dask.evaluate({"id_test": {"logits": logits}, "ood": {"noise": good}}, "energy", client=client)
    with pytest.raises(ValueError, match=r"score: logits has a chunk of shape"):
        ood.dask.score(ood.Energy(), logits).compute(scheduler="threads")
    # where another array sets the chunks
    with pytest.raises(ValueError, match="train, rows .*: labels has a chunk of shape"):
        ood.dask.fit(ood.Mahalanobis(), lazy(make_rows(1, sum(said))["features"]), as_chunks(rows["labels"], said, found),
                     client=client)


def test_labels_that_cannot_be_read_are_named(client: Any, tmp_path: Path) -> None:
    rows = make_rows(1, 3 * 4096)

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[0]["chunk-location"][0] == 2:
            raise OSError("disk on fire")
        return block

    broken = da.from_array(rows["labels"], chunks=3000).map_blocks(load, dtype=np.int64, meta=np.empty(0, np.int64))
    with pytest.raises(OSError, match="train, rows 6000 to 8999: disk on fire"):  # when they are counted
        ood.dask.fit(ood.Mahalanobis(), lazy(rows["features"]), broken, client=client)
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "labels.h5"
    ood.write(path, train={"features": rows["features"], "labels": rows["labels"]}, gzip_level=4)
    with h5py.File(path) as file:
        chunk = file["train/labels"].id.get_chunk_info(0)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(b"\xff" * 16)
    with pytest.raises(OSError, match=rf"rows \d+ to \d+ of /train in {path}"):
        ood.dask.fit(ood.Mahalanobis(), path, client=client)


def test_rows_that_are_no_numbers_are_named(client: Any, shards: Any, tmp_path: Path) -> None:
    features = make_rows(1, 9000)["features"].copy()
    features[8500, 2] = np.nan
    with pytest.raises(ValueError, match=r"^ssd.fit: train, rows 8192 to 8999/features has NaN at row 308, column 2|"
                       r"^train, rows 8192 to 8999/features has NaN at row 308, column 2"):
        ood.dask.fit(ood.Ssd(), da.from_array(features, chunks=(4096, -1)), client=client)
    ood.write(tmp_path / "bad.h5", train={"features": features})
    with pytest.raises(ValueError, match=r"bad.h5.*NaN at row .*, column 2"):
        ood.dask.fit(ood.Ssd(), [tmp_path / "bad.h5"], client=client)


def test_what_a_method_is_not_defined_for(client: Any) -> None:
    rows = make_rows(1, 5000)
    with pytest.raises(ValueError, match="class 2 has 0 rows"):
        ood.dask.fit(ood.Mahalanobis(), features=lazy(rows["features"]), labels=lazy(rows["labels"] + (rows["labels"] == 2) * 2),
                     client=client)
    report = quietly(ood.dask.evaluate, {
        "train": {"features": lazy(rows["features"]), "labels": lazy(rows["labels"] + (rows["labels"] == 2) * 2)},
        "id_test": {"features": lazy(rows["features"])}, "ood": {"far": {"features": lazy(rows["features"] + 1)}}},
        ["mahalanobis", "ssd"], client=client)
    assert "class 2 has 0 rows" in report.left_out["mahalanobis"]
    assert {row["detector"] for row in report.rows} == {"ssd"}


def test_a_bank_that_does_not_fit(client: Any) -> None:
    features = da.random.default_rng(0).normal(size=(16 * 32768, 300), chunks=(32768, -1)).astype(np.float32)
    with pytest.raises(MemoryError, match=r"knn.fit: summaries of . parts .* bytes, expected up to an eighth of a worker's .*bank_share"):
        ood.dask.fit(ood.Knn(), features, client=client)


def test_wrong_input(client: Any, shards: Any, tmp_path: Path) -> None:
    rows = make_rows(1, 5000)
    with pytest.raises(TypeError, match="train: features has dtype int64, expected floating-point numbers"):
        ood.dask.fit(ood.Ssd(), lazy(rows["labels"][:, None]), client=client)
    with pytest.raises(ValueError, match="features has 1 axes, expected 2"):
        ood.dask.fit(ood.Ssd(), lazy(rows["features"][:, 0]), client=client)
    with pytest.raises(ValueError, match="features has 5000 rows and labels has 4999"):
        ood.dask.fit(ood.Mahalanobis(), lazy(rows["features"]), lazy(rows["labels"][1:]), client=client)
    with pytest.raises(ValueError, match="mahalanobis.fit: train has no labels"):
        ood.dask.fit(ood.Mahalanobis(), lazy(rows["features"]), client=client)
    with pytest.raises(ValueError, match="train has 0 rows, expected 1 or more"):
        ood.dask.fit(ood.Ssd(), lazy(rows["features"])[:0], client=client)
    with pytest.raises(ValueError, match="partition_rows has -4096"):
        ood.dask.evaluate(shards[0], "energy", partition_rows=-4096, client=client)
    with pytest.raises(ValueError, match="partition_rows has 5000, expected a multiple of 4096"):
        ood.dask.fit(ood.Ssd(), shards[0], partition_rows=5000, client=client)
    with pytest.raises(TypeError, match="split was given|expected split="):
        ood.dask.score(ood.Energy(), shards[0])
    with pytest.raises(ValueError, match="/nothing is missing"):
        ood.dask.score(ood.Energy(), shards[0], split="nothing")
    plain, narrow = tmp_path / "plain.h5", tmp_path / "narrow.h5"
    ood.write(plain, train={"features": rows["features"], "labels": rows["labels"]})
    ood.write(narrow, train={"features": rows["features"][:, 1:], "labels": rows["labels"]})
    with pytest.raises(ValueError, match=rf"{narrow}: /train has D = {DIM - 1}, expected {DIM}"):
        ood.dask.fit(ood.Ssd(), [plain, narrow], client=client)
    weight, bias = make_head()
    features = lazy(rows["features"])
    with pytest.raises(ValueError, match="train: head bias has 2 entries, expected 3"):
        ood.dask.fit(ood.Vim(), features=features, head=(weight, bias[:2]), client=client)
    with pytest.raises(ValueError, match="train: logits has 3 columns, expected 2"):
        ood.dask.fit(ood.Vim(), features=features, logits=lazy(rows["logits"]), head=(weight[:2], bias[:2]), client=client)
    with pytest.raises(ValueError, match=f"train: features has {DIM} columns, expected {DIM - 1}"):
        ood.dask.fit(ood.Vim(), features=features, head=(weight[:, 1:], bias), client=client)
    with pytest.raises(ValueError, match="labels has 99999999 as its largest"):
        ood.dask.fit(ood.Mahalanobis(), features, lazy(rows["labels"] + 99999997), client=client)
    headless = tmp_path / "headless.h5"
    ood.write(headless, train=make_rows(3))
    with pytest.raises(ValueError, match="/train has arrays = .* expected .*, head as in"):
        ood.dask.fit(ood.Ssd(), [shards[0][0], headless], client=client)
    other = tmp_path / "other.h5"
    ood.write(other, train=make_rows(3), head=(weight + 1, bias))
    with pytest.raises(ValueError, match="/head is another one"):
        ood.dask.fit(ood.Ssd(), [shards[0][0], other], client=client)
    with pytest.raises(FileNotFoundError):
        ood.dask.fit(ood.Ssd(), [tmp_path / "none.h5"], client=client)
    with pytest.raises(ValueError, match="plain.h5 is there twice"):
        ood.dask.fit(ood.Ssd(), [plain, tmp_path / "." / "plain.h5"], client=client)
    for i, (kind, model) in enumerate([("near", "net"), ("far", ""), ("", "other")]):
        ood.write(tmp_path / f"set{i}.h5", id_test=make_rows(1), ood={"a": make_rows(2) | ({"kind": kind} if kind else {})},
                  **({"model": model} if model else {}))
    with pytest.raises(ValueError, match="set1.h5: kind of /ood/a is far, expected near as in .*set0.h5"):
        ood.dask.evaluate([tmp_path / "set0.h5", tmp_path / "set1.h5"], "energy", client=client)
    with pytest.raises(ValueError, match="set2.h5: model is other, expected net as in .*set0.h5"):
        ood.dask.evaluate([tmp_path / "set0.h5", tmp_path / "set2.h5"], "energy", client=client)
    with pytest.raises(TypeError, match="partition_rows has 4096.0, expected a whole number"):
        ood.dask.fit(ood.Ssd(), shards[0], partition_rows=4096.0, client=client)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fit: ood_val has a list, expected sets by name"):
        ood.dask.fit(ood.Ssd(), features, ood_val=[rows], client=client)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="list of files is empty"):
        ood.dask.fit(ood.Ssd(), [], client=client)
    with pytest.raises(TypeError, match="file 1 of 2 is a ndarray, expected a path or an open file"):
        ood.dask.fit(ood.Ssd(), [shards[0][0], rows["features"]], client=client)
    with pytest.raises(TypeError, match="fit: detector has 'ssd', expected a detector"):
        ood.dask.fit("ssd", features, client=client)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="partition_rows was given, which is of files"):
        ood.dask.fit(ood.Ssd(), features, partition_rows=4096, client=client)
    with pytest.raises(TypeError, match="layers has a Array, expected a mapping of arrays by name"):
        ood.dask.fit(ood.Ssd(), layers=features, client=client)  # type: ignore[arg-type]


def test_scores_of_wrong_input(shards: Any) -> None:
    """Said when they are asked for, not when they are computed."""
    rows = make_rows(1, 5000)
    detector = ood.Mahalanobis().fit(features=rows["features"], labels=rows["labels"])
    with pytest.raises(TypeError, match="detector has 'energy', expected a detector"):
        ood.dask.score("energy", lazy(rows["logits"]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"features has {DIM - 1} columns, expected {DIM}"):
        ood.dask.score(detector, lazy(rows["features"][:, 1:]))
    with pytest.raises(TypeError, match="no arrays, expected features"):
        ood.dask.score(detector)
    with pytest.raises(ValueError, match="mahalanobis.*features"):
        ood.dask.score(detector, logits=lazy(rows["logits"]))
    with pytest.raises(TypeError, match="split but no files"):
        ood.dask.score(detector, lazy(rows["features"]), split="train")
    with pytest.raises(TypeError, match="head has another form"):
        ood.dask.score(ood.Energy(), features=lazy(rows["features"]), head=3)
    one, other = lazy(rows["features"], rows=1000), lazy(rows["logits"], rows=2500)
    with pytest.raises(ValueError, match="features has 5 chunks of rows and logits has 2"):  # of unknown lengths
        ood.dask.score(ood.Gen(), features=one[one[:, 0] > -9], logits=other[other[:, 0] > -99])


def test_what_is_no_array_is_refused(client: Any, tmp_path: Path) -> None:
    """Tables, and what would be read here as a whole."""
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    dataframe = pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")
    rows = make_rows(1, 5000)["features"]
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("features", data=rows)
        stored = zarr.open(tmp_path / "rows.zarr", mode="w", shape=rows.shape, dtype=np.float32)
        table = dataframe.from_pandas(pandas.DataFrame(rows), npartitions=2)
        for call in (lambda given: ood.dask.fit(ood.Ssd(), features=given, client=client),
                     lambda given: ood.dask.score(ood.Ssd().fit(rows), features=given)):
            with pytest.raises(TypeError, match="features has a h5py.*Dataset, expected an array of Dask: take dask.array.from"):
                call(file["features"])
            with pytest.raises(TypeError, match="features has a zarr.*Array, expected an array of Dask: .*from_zarr"):
                call(stored)
            with pytest.raises(TypeError, match=r"DataFrame, expected an array: take to_dask_array\(lengths=True\)"):
                call(table)
            with pytest.raises(TypeError, match="features has a builtins.str, expected an array"):
                call("rows.h5")


# The cluster.


def test_nothing_is_left_on_workers(client: Any) -> None:
    def threads() -> list[str]:
        import threading

        return [thread.name for thread in threading.enumerate() if thread.name.startswith("ood-fit")]

    ood.dask.fit(ood.Ssd(), lazy(make_rows(1, 5000)["features"]), client=client)
    assert set(client.run(lambda: len(_cluster_fit._sessions)).values()) == {0}
    for _ in range(50):  # they are on their way
        if not any(client.run(threads).values()):
            break
        time.sleep(0.1)
    assert not any(client.run(threads).values())


def test_a_session_that_is_dropped_ends() -> None:
    rows = make_rows(1, 5000)
    partitioned = _partitions_of(rows)
    recipe = _cluster_fit.Recipe("dropped", "ssd", {}, {"train": partitioned}, {"train": None})
    session = _cluster_fit._Session(recipe, 1)
    session.drop()  # before it is at its first pass, or there
    session.thread.join(timeout=10)
    assert not session.thread.is_alive()


def _partitions_of(rows: dict[str, Any]) -> dict[str, Any]:
    return _ood.Source(as_arrays({"features": rows["features"]})).info


def test_other_clients_are_refused() -> None:
    class Asynchronous(distributed.Client):  # type: ignore[misc]
        asynchronous = True

        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

    features = lazy(make_rows(1, 5000)["features"])
    with pytest.raises(TypeError, match="client is asynchronous"):
        ood.dask.fit(ood.Ssd(), features, client=Asynchronous())
    with pytest.raises(TypeError, match="client has a str, expected a distributed.Client"):
        ood.dask.fit(ood.Ssd(), features, client="tcp://127.0.0.1:8786")


def test_progress_is_shown(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ood.dask.fit(ood.Ssd(), lazy(make_rows(1, 9000)["features"]), client=client, progress=True)
    assert "100% Completed" in capsys.readouterr().out


def test_a_fit_within_a_task(client: Any) -> None:
    def task(features: np.ndarray) -> bytes:
        import dask.array

        return bytes(ood.dask.fit(ood.Ssd(), dask.array.from_array(features, chunks=(4096, -1)))._model.to_bytes()[0])

    features = make_rows(1, 9000)["features"]
    assert client.submit(task, features).result(timeout=60) == state(ood.Ssd().fit(features))


def test_a_client_of_this_process_is_used(client: Any) -> None:
    assert ood.dask.fit(ood.Ssd(), lazy(make_rows(1, 5000)["features"])).fitted_on.rows == 5000


def test_without_a_client_a_cluster_is_started_for_the_while(python: Any, shards: Any) -> None:
    python('''
import sys, distributed, ood, ood.dask
if __name__ == "__main__":
    detector = ood.dask.fit(ood.Ssd(), sys.argv[1])
    assert (detector.score(ood.open(sys.argv[1]).train) == ood.Ssd().fit(ood.open(sys.argv[1])).score(ood.open(sys.argv[1]).train)).all()
    try:
        distributed.get_client()
    except ValueError:
        pass
    else:
        raise AssertionError("a client is left")
''', shards[0][0])


def test_the_example_runs(digits: Path) -> None:
    pytest.importorskip("zarr")
    script = Path(__file__).resolve().parents[2] / "examples/cluster.py"
    result = subprocess.run([sys.executable, str(script), str(digits)], cwd="/", capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 0, result.stderr
    report = ood.evaluate(digits, [ood.Mahalanobis(), "energy"])
    assert f"{100 * report.rows[0]['auroc']:.2f}" in result.stdout


def test_workers_with_other_instructions_agree_closely() -> None:
    """Kernels of other instruction sets sum in another order: what docs/scale.md states."""
    rows = make_rows(1, 3 * 4096)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None,
                                  env={"OOD_SIMD": "SCALAR"}) as cluster, distributed.Client(cluster) as other:
        assert set(other.run(_ood.simd_target).values()) == {"SCALAR"} != {_ood.simd_target()}
        for name in ("mahalanobis", "conjnorm", "vim"):
            arguments = fit_arguments(make(name), rows)
            here = make(name).fit(**arguments)
            there = ood.dask.fit(make(name), client=other, **arguments)
            scores = here.score(**score_arguments(here, rows))
            np.testing.assert_allclose(there.score(**score_arguments(here, rows)), scores, rtol=1e-4,
                                       atol=1e-4 * np.abs(scores).max())


def test_workers_keep_a_few_blocks(client: Any) -> None:
    """1 GB of rows, a part of which is in memory at a time."""
    def peak() -> int:
        for line in open("/proc/self/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        raise AssertionError

    client.restart()
    before = client.run(peak)
    features = da.random.default_rng(0).normal(size=(64 * 8192, 512), chunks=(8192, -1)).astype(np.float32)
    detector = ood.dask.fit(ood.Ssd(), features, client=client)
    after = client.run(peak)
    # float64 and float32 of two or three chunks of 8,192 rows, and what Dask keeps: 17 + 34 MB each
    assert max(after[worker] - before[worker] for worker in before.keys() & after.keys()) < 400e6
    del detector
