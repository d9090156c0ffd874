"""ood.dask on wrong input: one error that says what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DIM, make_head, make_rows
from dask_cluster import alarm, client, distributed, lazy, shards  # noqa: F401

import ood
import ood.dask


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
