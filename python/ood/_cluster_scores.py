"""Scores that stay on the workers of a cluster, and what metrics need of them."""

from __future__ import annotations

import itertools
import pickle
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _ood
from ._arrays import Floats
from ._cluster_tasks import briefly, compute, finished, located, same
from ._dask import delayed
from ._partitions import Partition, PartitionedRows

#: Scores of a detector that one machine makes exact metrics of: up to 2 GB there.
EXACT_ROWS = 2**26
#: Scores that one task counts, when they are counted.
_COUNTED = 2**24
#: Order statistics of each of these, and edges of bins: docs/scale.md says what bounds follow.
_SAMPLE, _EDGES = 2**16, 2**17


@dataclass(frozen=True)
class _Scored:
    """One partition, scored by all detectors."""

    #: Of each: float32 [rows], or why there are none.
    scores: list[Floats | str]
    right: int | None
    seconds: list[float]

    def __sizeof__(self) -> int:  # so that Dask knows what it keeps
        return sum(len(each) * 4 for each in self.scores)


class _Model:
    """A fitted model that Dask can send from worker to worker."""

    def __init__(self, model: _ood.Model) -> None:
        self.model = model

    def __reduce__(self) -> Any:
        return _Model.loaded, self.model.to_bytes()

    @staticmethod
    def loaded(*state: Any) -> _Model:
        return _Model(_ood.Model.from_bytes(*state))


def _loaded(states: bytes) -> list[_Model]:
    models: list[_Model] = pickle.loads(states)
    return models


def _score(models: Sequence[_Model], head: tuple[Any, Any] | None, count_right: bool, partition: Partition) -> _Scored:
    with located(partition.place):
        pieces = partition.sources(head)
        if (found := sum(piece.rows for piece in pieces)) != partition.rows:
            raise ValueError(f"{found} rows were read, expected {partition.rows}")
        return _Scored(*_ood.score_sources([each.model for each in models], pieces, count_right, 1))


def _summary(scored: _Scored) -> tuple[list[str], int | None, list[float]]:
    """All but the scores."""
    return [each if isinstance(each, str) else "" for each in scored.scores], scored.right, scored.seconds


def _scores(scored: _Scored, detector: int) -> Any:
    return scored.scores[detector]


def _sample(parts: Sequence[Floats], split: str) -> Floats:
    with located(f"on {split}"):
        return _ood.score_sample(np.concatenate(parts), _SAMPLE)


def _counts(parts: Sequence[Floats], edges: Floats) -> npt.NDArray[np.int64]:
    return _ood.bin_counts(np.concatenate(parts), edges)


class ClusterScores:
    """The scores of the rows of several splits by several detectors: made in one pass, kept on the workers until release()."""

    def __init__(self, client: Any, models: Sequence[_ood.Model], rows: Mapping[str, PartitionedRows],
                 progress: bool) -> None:
        self._client = client
        self.rows = sum(each.info["rows"] for each in rows.values())
        self._lengths = {split: [partition.rows for partition in each.partitions] for split, each in rows.items()}
        # Tasks each: what a lost worker had of them can be had again
        states = delayed(_loaded, pure=False)(pickle.dumps([_Model(model) for model in models]))
        heads = {id(each.head): delayed(same, pure=False)(each.head) for each in rows.values()}
        wanted = {name for model in models for name in model.needs["score"]}
        name = uuid.uuid4().hex
        tasks: list[Any] = []
        for i, (split, each) in enumerate(rows.items()):
            count_right = split == "id_test" and "labels" in each.info["has"]
            tasks += each.tasks(f"ood-score-{name}-{i}", wanted | ({"labels", "logits"} if count_right else set()), _score,
                                states, heads[id(each.head)], count_right)
        self._held = compute(client, tasks, progress)
        finished(self._held, [partition.place for each in rows.values() for partition in each.partitions])
        left = iter(self._held)
        self._futures = {split: list(itertools.islice(left, len(each.partitions))) for split, each in rows.items()}

        #: Why a detector has no scores, or "".
        self.failures = [""] * len(models)
        #: Of each detector, on all workers together.
        self.seconds = [0.0] * len(models)
        #: Of the network on id_test; None without labels.
        self.id_accuracy: float | None = None
        try:
            self._summarise()
        except BaseException:
            self.release()
            raise

    def _summarise(self) -> None:
        for split, parts in self._futures.items():
            right: list[int | None] = []
            with briefly() as summaries:
                summaries += self._client.map(_summary, parts, pure=False)
                for failures, right_here, seconds in self._client.gather(summaries):
                    for d, why in enumerate(failures):
                        self.failures[d] = self.failures[d] or (why and f"on {split}: {why}")
                        self.seconds[d] += seconds[d]
                    right.append(right_here)
            if split == "id_test" and None not in right:
                self.id_accuracy = sum(each or 0 for each in right) / sum(self._lengths[split])

    def release(self) -> None:
        """See briefly()."""
        for future in self._held:
            future.release()

    def gathered(self, detector: int, split: str) -> Floats:
        """All scores of a split, in the order of its rows."""
        with briefly() as parts:
            parts += self._client.map(_scores, self._futures[split], detector=detector, pure=False)
            return np.concatenate(self._client.gather(parts))

    def binned(self, detector: int) -> tuple[Floats, list[npt.NDArray[np.int64]]]:
        """Edges of bins and the counts of scores in them, [2 K + 1] of each split (ood/score_bins.h). ValueError for NaN."""
        client = self._client
        groups = [(split, group) for split in self._futures for group in self._groups(split)]
        with briefly() as scores, briefly() as samples, briefly() as counts, briefly() as sent:
            parts = [client.map(_scores, group, detector=detector, pure=False) for _, group in groups]
            scores += itertools.chain.from_iterable(parts)
            samples += [client.submit(_sample, each, split, pure=False) for (split, _), each in zip(groups, parts)]
            edges = _ood.bin_edges(np.concatenate(client.gather(samples)), _EDGES)
            sent.append(client.submit(same, edges, pure=False))
            counts += [client.submit(_counts, each, sent[0], pure=False) for each in parts]
            found = client.gather(counts)
        return edges, [sum(each for (of, _), each in zip(groups, found) if of == split) for split in self._futures]

    @property
    def splits(self) -> list[str]:
        return list(self._futures)

    def _groups(self, split: str) -> list[list[Any]]:
        """Partitions that are counted by one task."""
        groups: list[list[Any]] = []
        room = 0
        for future, rows in zip(self._futures[split], self._lengths[split]):
            if rows > room:
                groups.append([])
                room = _COUNTED
            groups[-1].append(future)
            room -= rows
        return groups

