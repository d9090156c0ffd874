"""ood.dask on two worker processes: what one machine gives, to the bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (DIM, fit_arguments, make, make_head, make_rows, same_bits,
                      score_arguments)
from dask_cluster import (ROWS, alarm, client, da, lazy, lazy_rows, quietly, shards, state,  # noqa: F401
                          without_seconds)

import dask

import ood
import ood.dask


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
    with h5py.File(paths[1], "r+") as file:  # too large to be counted: who reads them fails
        file["train/labels"][5] = 2**40
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
