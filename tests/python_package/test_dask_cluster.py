"""How ood.dask uses clusters: which one, what it shows, what it leaves there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import fit_arguments, make, make_rows, score_arguments
from dask_cluster import alarm, client, da, distributed, lazy, shards, state  # noqa: F401

import ood
import ood.dask
from ood import _cluster_fit, _ood
from ood._arrays import as_arrays


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
