"""What tests of ood.dask share: clusters of two worker processes, rows in chunks and in files."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_head, make_rows, make_strange_rows

import ood

distributed = pytest.importorskip("distributed", reason="needs dask: pip install 'libood[dask]'")
da = pytest.importorskip("dask.array", reason="needs dask: pip install 'libood[dask]'")


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


def without_seconds(report: ood.Report) -> dict[str, Any]:
    content = report.to_dict()
    for timing in content["timings"]:
        timing["fit_seconds"] = timing["score_seconds"] = 0
    return {key: value for key, value in content.items() if key not in ("file", "fingerprint")}
