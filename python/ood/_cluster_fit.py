"""A fit on many machines: each runs it, and all stop at each of its passes until the rows are summarised.

A detector's fit reads rows by reductions alone (ood/reduce.h), one after the other, and what it does between them
depends on their results. So the machine that asks for a fit runs it, and at each reduction deals out the partitions
to workers; a worker runs the same fit in a thread that stops there too, and uses what it needs there: the empty
summary. Results of passes are what travels: a worker that comes late, or was lost, runs the fit anew with those that
are known. (PartitionedSource of ood/partitions.h is this, for one machine.)
"""

from __future__ import annotations

import atexit
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import _ood
from ._arrays import as_arrays
from ._cluster_tasks import compute, failed, located, same, with_place
from ._dask import delayed, distributed
from ._partitions import Partition, PartitionedRows

#: Summaries that are merged by one task.
_MERGED = _ood.MERGE_WAYS
#: Of a worker's memory: what the summaries of one merge may take, which needs four times that.
_SHARE_OF_MEMORY = 1 / 8


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to run the fit, but for the rows."""

    id: str
    detector: str
    options: dict[str, Any]
    #: The infos of the splits by name: "train", "id_val", "ood_val/NAME".
    infos: dict[str, dict[str, Any]]
    heads: dict[str, tuple[Any, Any] | None]

    def run(self, reduce: Callable[[str, _ood.Source, _ood.Reduction], bytes], threads: int) -> _ood.Model:
        """The fit. `reduce` is called at each pass with the name of the split, and returns the summary of all rows."""
        model = _ood.Model(self.detector, self.options)
        rows: dict[str, _ood.Source] = {}
        for split, info in self.infos.items():
            def reduce_split(reduction: _ood.Reduction, split: str = split) -> bytes:
                return reduce(split, rows[split], reduction)

            head = self.heads[split]
            rows[split] = _ood.Source.partitioned(info, None if head is None else as_arrays({"head": head}), reduce_split)
        outliers = {split.removeprefix("ood_val/"): source for split, source in rows.items()
                    if split.startswith("ood_val/")}
        try:
            model.fit(rows.get("train"), rows.get("id_val"), outliers, threads)
        finally:
            rows.clear()  # sources have the functions, and these have `rows`
        return model


# On workers.


class _Stopped(BaseException):
    """Ends the fit of a session that is not needed any more."""


class _Session:
    """A fit in a thread of its own, stopped at one of its passes."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        self.recipe = recipe
        #: The pass at which it stops.
        self.number = -1
        #: Not for further tasks; the last one stops it.
        self.dropped = False
        #: Of the tasks that use it: one at a time, on all threads.
        self.in_use = threading.Lock()
        self._turn = threading.Condition()
        self._at: tuple[_ood.Source, _ood.Reduction] | None = None
        self._total = b""
        self._end: BaseException | None = None
        self._stopped = False
        self.thread = threading.Thread(target=self._run, args=[threads], daemon=True, name=f"ood-fit-{recipe.detector}")
        self.thread.start()

    def _run(self, threads: int) -> None:
        try:
            self.recipe.run(self._reduce, threads)
            end: BaseException = RuntimeError(f"{self.recipe.detector}: the fit has fewer passes here than elsewhere")
        except BaseException as error:
            end = error
        with self._turn:
            self._end = end
            self._turn.notify_all()

    def _reduce(self, split: str, source: _ood.Source, reduction: _ood.Reduction) -> bytes:
        with self._turn:
            self.number += 1
            self._at = source, reduction
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._at is None or self._stopped)
            if self._stopped:
                raise _Stopped
            return self._total

    def at(self, number: int, totals: Sequence[bytes]) -> tuple[_ood.Source, _ood.Reduction]:
        """Goes on to this pass, by the results of those before it."""
        with self._turn:
            while True:
                self._turn.wait_for(lambda: self._at is not None or self._end is not None)
                if self._end is not None:
                    raise self._end
                if self.number == number and self._at is not None:
                    return self._at
                self._total, self._at = totals[self.number], None
                self._turn.notify_all()

    @property
    def ended(self) -> bool:
        return self._end is not None

    def drop(self) -> None:
        """Ends the fit, or leaves that to the task that uses it."""
        self.dropped = True
        if self.in_use.acquire(blocking=False):
            with self._turn:
                self._stopped = True
                self._turn.notify_all()
            self.in_use.release()


_sessions: list[_Session] = []
_registry = threading.Lock()
_MOST_SESSIONS = 4  # of fits whose end this worker was not told
_ended: deque[str] = deque(maxlen=1000)
#: Threads of sessions that were dropped, which may be on their way out.
_ending: deque[threading.Thread] = deque(maxlen=100)


@contextmanager
def _session(recipe: Recipe, number: int, totals: Sequence[bytes]) -> Iterator[tuple[_ood.Source, _ood.Reduction]]:
    """This worker's fit, stopped at the pass of this number. What was lost may be asked for again when that fit has
    gone on: another one begins then."""
    while True:
        with _registry:
            if recipe.id in _ended:  # a task of a fit that has failed elsewhere
                raise RuntimeError(f"{recipe.detector}.fit has ended")
            mine = [each for each in _sessions if each.recipe.id == recipe.id and each.number <= number]
            session = max(mine, key=lambda each: each.number, default=None)
            if session is None:
                session = _Session(recipe, _threads())
                _sessions.append(session)
                for old in _sessions[:-_MOST_SESSIONS]:
                    _drop(old)
        try:
            with session.in_use:
                usable = not session.dropped and session.number <= number
                if usable:
                    yield session.at(number, totals)
        finally:
            with _registry:
                if session.dropped or session.ended:
                    _drop(session)
        if usable:
            return


def _drop(session: _Session) -> None:
    """With _registry."""
    session.drop()
    if session in _sessions:
        _sessions.remove(session)
        _ending.append(session.thread)


@atexit.register
def _end_all() -> None:
    """A thread must not come back from C++ to an interpreter that is gone."""
    with _registry:
        for session in list(_sessions):
            _drop(session)
    for thread in _ending:
        thread.join(timeout=5)


def forget(fit: str) -> None:
    """Ends the sessions of a fit."""
    with _registry:
        _ended.append(fit)
        for session in [each for each in _sessions if each.recipe.id == fit]:
            _drop(session)


def _threads() -> int:
    """Those of this worker: one task at a time uses them all."""
    return int(distributed.get_worker().state.nthreads)


def _accumulate(recipe: Recipe, number: int, totals: Sequence[bytes], partition: Partition) -> bytes:
    """The summary of a partition."""
    with located(partition.place), _session(recipe, number, totals) as (source, reduction):
        return source.accumulate(reduction, partition.first, partition.sources())


def _merge(recipe: Recipe, number: int, totals: Sequence[bytes], parts: Sequence[bytes]) -> bytes:
    """The summary of consecutive partitions."""
    limit = distributed.get_worker().memory_manager.memory_limit
    size = sum(map(len, parts))
    if limit and size > _SHARE_OF_MEMORY * limit:
        raise MemoryError(f"{recipe.detector}.fit: summaries of {len(parts)} parts of the rows have {size:,} bytes, "
                          f"expected up to an eighth of a worker's {limit:,}: where they keep rows, keep a smaller "
                          "share of them (bank_share), else take workers with more memory")
    with _session(recipe, number, totals) as (_, reduction):
        return reduction.merge(list(parts))


# On the machine that asks for the fit.


class _Passes:
    """The passes of one fit, one after the other, on the workers of `client`."""

    def __init__(self, client: Any, recipe: Recipe, rows: Mapping[str, PartitionedRows], progress: bool) -> None:
        self._client, self._recipe, self._rows, self._progress = client, recipe, rows, progress
        needs = _ood.Model(recipe.detector, recipe.options).needs
        self._wanted = {*needs["fit"], *needs["score"]}
        # By way of a task: what a lost worker had of it can be had again
        self._sent = compute(client, delayed(same, pure=False)(recipe, dask_key_name=f"ood-recipe-{recipe.id}"), False)
        #: The summaries of all rows, which stay on the workers too: later tasks need them.
        self._totals: list[Any] = []

    def reduce(self, split: str, _source: _ood.Source, _reduction: _ood.Reduction) -> bytes:
        number, totals = len(self._totals), list(self._totals)
        detector = self._recipe.detector.replace("_", "-")  # Dask's names of groups end at other characters
        name = f"ood-{detector}-{{}}-{self._recipe.id}-{number}"
        rows, merge = self._rows[split], delayed(_merge, pure=False)
        leaves = rows.tasks(name.format("accumulate"), self._wanted, _accumulate, self._sent, number, totals)
        parts, merged = leaves, 0
        while len(parts) > 1:
            groups = [parts[i:i + _MERGED] for i in range(0, len(parts), _MERGED)]
            parts = [merge(self._sent, number, totals, group, dask_key_name=name.format("merge") + f"-{merged + i}")
                     for i, group in enumerate(groups)]
            merged += len(groups)
        self._totals.append(compute(self._client, parts[0], self._progress))
        try:
            return bytes(self._totals[-1].result())
        except Exception as error:
            places = [partition.place for partition in rows.partitions]
            if any(place in str(error) for place in places) or (place := failed(self._client, leaves, places)) is None:
                raise
            raise with_place(error, place) from error

    def release(self) -> None:
        """What is on the workers, and what runs there. Not left to the end of this object: an error holds it by its traceback,
        and Dask's client the error."""
        for future in [self._sent, *self._totals]:
            future.release()


def fit(client: Any, detector: str, options: dict[str, Any], rows: Mapping[str, PartitionedRows],
        progress: bool) -> _ood.Model:
    """The fitted model, the same as on one machine."""
    recipe = Recipe(uuid.uuid4().hex, detector, options, {split: each.info for split, each in rows.items()},
                    {split: each.head for split, each in rows.items()})
    passes = _Passes(client, recipe, rows, progress)
    try:
        return recipe.run(passes.reduce, 0)
    finally:
        passes.release()
        client.run(forget, recipe.id, on_error="ignore")
