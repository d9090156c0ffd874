"""ood.dask where workers are killed and rows cannot be read: the same bits, or one error that names the rows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make, make_rows, make_strange_rows, same_bits
from dask_cluster import alarm, client, da, lazy, mortal, quietly, shards, state  # noqa: F401

import dask

import ood
import ood.dask
from ood import _ood


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
