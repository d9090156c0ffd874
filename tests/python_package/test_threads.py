"""The interpreter is free while the library computes, and threads do not disturb each other."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood
from conftest import make_rows, same_bits, score_arguments


class Clock:
    """A thread that notes the time whenever it gets the interpreter."""

    def __init__(self) -> None:
        self._ticks: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._ticks.append(time.perf_counter())
            time.sleep(0.001)  # gives the interpreter back

    def __enter__(self) -> Clock:
        self._thread.start()
        time.sleep(0.01)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()

    def ticks_during(self, work: Callable[[], Any]) -> tuple[int, float]:
        """How often the thread ran, and the seconds that `work` took."""
        begin = time.perf_counter()
        work()
        end = time.perf_counter()
        return sum(begin < tick < end for tick in self._ticks), end - begin


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Nobody is made to give the interpreter away: another thread runs only where work() itself lets go of it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        with Clock() as running:
            yield running
    finally:
        sys.setswitchinterval(before)


FEATURES = np.random.default_rng(0).normal(size=(6000, 128)).astype(np.float32)
LABELS = np.arange(6000) % 10
KNN = ood.Knn(k=5).fit(FEATURES)
SCORES = np.random.default_rng(1).normal(size=(2, 20_000))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> ood.Dataset:
    path = tmp_path_factory.mktemp("threads") / "stored.h5"
    features = np.tile(FEATURES, (4, 1))
    ood.write(path, train={"features": features, "labels": np.tile(LABELS, 4)},
              id_test={"features": FEATURES}, ood={"noise": {"features": 2 * FEATURES}})
    return ood.open(path)


HELD = {
    # One call into C that never lets go: the measure sees a lock that is held.
    "control": lambda file, folder: sum(range(20_000_000)),
}
FREE = {
    "score": lambda file, folder: KNN.score(FEATURES[:3000], threads=1),
    "fit": lambda file, folder: ood.Mahalanobis().fit(np.tile(FEATURES, (1, 4)), LABELS, threads=1),
    "fit a dataset": lambda file, folder: ood.RelativeMahalanobis().fit(file, threads=1),
    "score a split": lambda file, folder: KNN.score(file.id_test, threads=1),
    "evaluate": lambda file, folder: ood.evaluate(file, [ood.Knn(bank_share=0.1)], threads=1),
    "read": lambda file, folder: np.asarray(file.train.features),
    "write": lambda file, folder: ood.write(folder / "out.h5", train={"features": FEATURES}, gzip_level=6),
    "bootstrap": lambda file, folder: ood.metrics.bootstrap(*SCORES, resamples=100, threads=1),
    "command": lambda file, folder: ood._ood.run_command(
        [b"fit", file.path.encode(), b"-d", b"ssd", b"--threads", b"1"]),
}


@pytest.mark.parametrize("name", [*FREE, *HELD])
def test_other_threads_run_meanwhile(clock: Clock, stored: ood.Dataset, tmp_path: Path, name: str) -> None:
    ticks, seconds = clock.ticks_during(lambda: (FREE | HELD)[name](stored, tmp_path))
    if seconds < 0.02:
        pytest.skip("too quick to tell here")
    if name in HELD:
        assert ticks == 0
    else:
        assert ticks >= 5, f"{ticks} ticks in {seconds:.3f} s"


def test_a_lock_is_taken_for_the_callback_alone(clock: Clock, stored: ood.Dataset) -> None:
    steps: list[tuple[str, float]] = []
    work = lambda: ood.evaluate(stored, ["knn"], progress=lambda step, done: steps.append((step, done)))
    ticks, _ = clock.ticks_during(work)
    assert steps and ticks >= 5


def in_threads(works: list[Callable[[], Any]]) -> list[Any]:
    """All of them at once, begun together."""
    barrier = threading.Barrier(len(works))

    def begun(work: Callable[[], Any]) -> Any:
        barrier.wait(timeout=60)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [done.result(timeout=120) for done in [pool.submit(begun, work) for work in works]]


def test_two_threads_that_score_with_one_detector(fitted: ood.Detector) -> None:
    halves = [score_arguments(fitted, make_rows(seed)) for seed in (7, 8)]
    alone = [fitted.score(**arguments) for arguments in halves]
    works = [lambda arguments=arguments: [fitted.score(**arguments) for _ in range(5)] for arguments in halves]
    for expected, found in zip(alone, in_threads(works)):
        assert all(same_bits(expected, each) for each in found)


def test_threads_share_a_file(stored: ood.Dataset, tmp_path: Path) -> None:
    """Reading, fitting, writing another file and opening it, all at once."""
    expected = ood.Ssd().fit(FEATURES).score(FEATURES[:100])

    def write_and_read() -> np.ndarray:
        path = tmp_path / "other.h5"
        ood.write(path, train={"features": FEATURES})
        return ood.Ssd().fit(ood.open(path)).score(ood.open(path).train)[:100]

    def read() -> np.ndarray:
        assert np.array_equal(stored.id_test.features[10:20], FEATURES[10:20])
        return ood.Ssd().fit(np.asarray(stored.id_test.features)).score(FEATURES[:100])

    def fit() -> np.ndarray:
        return ood.Ssd().fit(stored.id_test).score(stored.id_test)[:100]

    for found in in_threads([write_and_read, read, fit, fit]):
        assert same_bits(found, expected)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_the_number_of_threads_does_not_show(threads: int) -> None:
    one = ood.Mahalanobis().fit(FEATURES, LABELS, threads=1)
    some = ood.Mahalanobis().fit(FEATURES, LABELS, threads=threads)
    assert same_bits(some.score(features=FEATURES, threads=threads), one.score(features=FEATURES, threads=1))


@pytest.mark.parametrize("threads", [-1, 1025])
def test_wrong_numbers_of_threads(threads: int) -> None:
    for call in (lambda: KNN.score(features=FEATURES, threads=threads),
                 lambda: ood.Ssd().fit(FEATURES, threads=threads),
                 lambda: ood.metrics.bootstrap([1, 2], [0, 1], threads=threads)):
        with pytest.raises(ValueError, match=f"threads has {threads}, expected 0"):
            call()


def test_a_forked_child_scores() -> None:
    """multiprocessing forks on Linux up to Python 3.13; OpenMP's threads do not live on in the child."""
    logits = np.random.default_rng(0).normal(size=(5000, 10)).astype(np.float32)
    detector = ood.Energy()
    expected = detector.score(logits)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # ends a child that hangs
        os._exit(0 if detector.score(logits).tobytes() == expected.tobytes() else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_threads_may_share_a_writer(tmp_path: Path) -> None:
    """Each block arrives whole, in whatever order."""
    blocks = [np.full((50, 8), number, np.float32) for number in range(400)]
    with ood.Writer(tmp_path / "shared.h5", gzip_level=0) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda block: writer.append("train", features=block), blocks))
    rows = np.asarray(ood.open(tmp_path / "shared.h5").train.features).reshape(400, 50, 8)
    assert (rows == rows[:, :1, :1]).all()
    assert sorted(rows[:, 0, 0]) == list(range(400))
