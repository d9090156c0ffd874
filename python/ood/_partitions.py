"""Rows of one kind that are spread over many files or chunks, cut into partitions of whole blocks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _ood
from ._arrays import as_arrays
from ._dask import array as dask_array
from .dataset import Dataset

#: Rows of the nodes of ood/merge_tree.h: a partition of such rows has a summary of one sum.
NODE_ROWS: list[int] = [_ood.BLOCK_ROWS * _ood.MERGE_WAYS**level for level in range(4)]


@dataclass(frozen=True)
class Piece:
    """Rows [begin, end) of a split of a feature file, which each worker can open."""

    path: str
    split: str
    begin: int
    end: int

    def source(self) -> _ood.Source:
        return Dataset(self.path)._file.source(self.split, (self.begin, self.end))

    def __str__(self) -> str:
        return f"rows {self.begin} to {self.end - 1} of /{self.split} in {self.path}"


@dataclass(frozen=True)
class Partition:
    """Consecutive rows, which one task works on."""

    #: Its first row among all.
    first: int
    rows: int
    #: As errors call it.
    place: str
    #: What a task is given: pieces of files; or names of arrays and, as arguments of their own (Dask looks into a
    #: collection for each of them, which takes long), lazy arrays.
    content: list[Piece] | list[str]
    arrays: tuple[Any, ...] = ()


@dataclass(frozen=True)
class PartitionedRows:
    """What `_ood.Source.partitioned` is told of all rows together, and where they are."""

    #: As `_ood.Source.info`.
    info: dict[str, Any]
    #: weight [C, D], bias [C]
    head: tuple[Any, Any] | None
    partitions: list[Partition]


def sources(content: Sequence[Any], arrays: Sequence[Any], head: tuple[Any, Any] | None,
            place: str) -> list[_ood.Source]:
    """The rows of a partition, on the worker that works on it."""
    if not arrays:
        return [piece.source() for piece in content]
    fields = dict(zip(content, arrays))
    layers = {name.removeprefix("layers/"): fields.pop(name) for name in content if name.startswith("layers/")}
    return [_ood.Source(as_arrays({**fields, "layers": layers or None, "head": head}, place))]


def _cuts(rows: int, chunk: int) -> list[int]:
    """Where to cut rows that lie in chunks of up to `chunk`: at whole nodes of the size that is nearest below, a quarter
    more at most; so a partition has a summary of one sum, and eight that are merged are a node again. From 0 to `rows`."""
    node = max((each for each in NODE_ROWS if each <= 1.25 * chunk), default=NODE_ROWS[0])
    return [*range(0, rows, node), rows]


# Arrays of Dask.

#: More than any data set has: a larger label is a mistake, not a class.
_MOST_CLASSES = 2**24
#: The axis of the rows, and the number of axes.
_AXES = {"labels": (0, 1), "copy_features": (1, 3), "copy_logits": (1, 3)}


def lazy_arrays(fields: Mapping[str, Any], where: str, known_lengths: bool = True) -> dict[str, Any]:
    """The arrays that are given, as Dask's, layers under "layers/NAME"; their kinds and shapes are checked."""
    known = {"features", "logits", "labels", "layers", "copy_features", "copy_logits"}
    given = {key: value for key, value in fields.items() if value is not None}
    if unknown := given.keys() - known:
        raise TypeError(f"{where}: unknown array {min(unknown)}, expected some of {', '.join(sorted(known))}")
    given.update({f"layers/{layer}": array for layer, array in given.pop("layers", {}).items()})
    arrays = {}
    for name, value in given.items():
        array = value if isinstance(value, dask_array.Array) else dask_array.from_array(np.asarray(value))
        axis, rank = _AXES.get(name, (0, 2))
        kinds, expected = ("iu", "integers") if name == "labels" else ("f", "floating-point numbers")
        if array.dtype.kind not in kinds:
            raise TypeError(f"{where}: {name} has dtype {array.dtype}, expected {expected}")
        if array.ndim != rank:
            raise ValueError(f"{where}: {name} has {array.ndim} axes, expected {rank}")
        if known_lengths and any(np.isnan(length) for length in array.shape):
            raise ValueError(f"{where}: {name} has chunks of unknown length, expected known ones: take "
                             "compute_chunk_sizes() of an array, or to_dask_array(lengths=True) of a table")
        arrays[name] = array
    lengths = {name: array.shape[_AXES.get(name, (0, 2))[0]] for name, array in arrays.items()}
    for (one, rows), (other, others) in itertools.pairwise(lengths.items()):
        if rows != others and not (np.isnan(rows) and np.isnan(others)):
            raise ValueError(f"{where}: {one} has {rows} rows and {other} has {others}, expected the same number")
    return arrays


def whole_rows(array: Any, name: str, row_chunks: tuple[int, ...]) -> Any:
    """The array in chunks of these numbers of rows, each of all columns."""
    axis, rank = _AXES.get(name, (0, 2))
    columns = {each: -1 for each in range(rank) if each != axis}
    if any(np.isnan(rows) for rows in row_chunks):  # which cannot be changed
        return array.rechunk(columns)
    return array.rechunk(columns | {axis: row_chunks})


def widest(arrays: Mapping[str, Any]) -> tuple[int, ...]:
    """The row chunks of the array that has the largest rows."""
    def row_bytes(name: str) -> int:
        axis = _AXES.get(name, (0, 2))[0]
        shape = arrays[name].shape
        return int(arrays[name].dtype.itemsize * np.prod([n for each, n in enumerate(shape) if each != axis]))

    name = max(arrays, key=row_bytes)
    chunks: tuple[int, ...] = arrays[name].chunks[_AXES.get(name, (0, 2))[0]]
    return chunks


def rows_of_arrays(where: str, fields: Mapping[str, Any], head: tuple[Any, Any] | None,
                   client: Any) -> PartitionedRows:
    """In partitions of about the chunks of the widest array; some rows move to the chunk beside theirs. Labels
    without logits and head are read once to count the classes."""
    arrays = lazy_arrays(fields, where)
    if not arrays:
        raise ValueError(f"{where} has no arrays, expected features, logits or others")
    if head is not None:
        head = np.ascontiguousarray(head[0], np.float32), np.ascontiguousarray(head[1], np.float32)
    # What the library makes of arrays of these widths without rows
    none = {name: np.empty([0 if axis == _AXES.get(name, (0, 2))[0] else length
                            for axis, length in enumerate(array.shape)], array.dtype)
            for name, array in arrays.items()}
    info = sources(list(none), list(none.values()), head, where)[0].info
    chunks = widest(arrays)
    info["rows"] = sum(chunks)
    if not info["rows"]:
        raise ValueError(f"{where} has 0 rows, expected 1 or more")
    if not info["classes"] and "labels" in arrays:
        largest = int(client.compute(arrays["labels"].max()).result())
        if largest >= _MOST_CLASSES:
            raise ValueError(f"{where}/labels has {largest} as its largest, expected [0, {_MOST_CLASSES})")
        info["classes"] = largest + 1

    cuts = _cuts(info["rows"], max(chunks))
    row_chunks = tuple(end - begin for begin, end in itertools.pairwise(cuts))
    delayed = [whole_rows(array, name, row_chunks).to_delayed().ravel() for name, array in arrays.items()]
    partitions = [Partition(first, count, f"{where}, rows {first} to {first + count - 1}", list(arrays),
                            tuple(chunks_of[i] for chunks_of in delayed))
                  for i, (first, count) in enumerate(zip(cuts, row_chunks))]
    return PartitionedRows(info, head, partitions)


# Feature files.


@dataclass(frozen=True)
class FeatureFile:
    """What is in a file, which is not kept open: there may be many."""

    path: str
    model: str
    id_dataset: str
    #: (kind, info of the source) by name.
    splits: dict[str, tuple[str, dict[str, Any]]]


class FeatureFiles:
    """Several files of one network, whose rows are taken one file behind the other."""

    def __init__(self, given: Sequence[str | os.PathLike[str] | Dataset]) -> None:
        self.files: list[FeatureFile] = []
        #: The last layer, of the first file that has it.
        self.head: tuple[Any, Any] | None = None
        of_head = ""
        for each in given:
            file = each if isinstance(each, Dataset) else Dataset(each)
            path = os.path.abspath(file.path)
            if file.head is not None and self.head is None:
                self.head, of_head = file.head, path
            elif file.head is not None and self.head is not None and not all(map(np.array_equal, file.head, self.head)):
                raise ValueError(f"{path}: /head is another one than that of {of_head}, expected the same network")
            self.files.append(FeatureFile(path, file.model, file.id_dataset, {
                name: (split.kind, split._source().info) for name, split in file.splits.items()
                if not name.startswith("csid/")}))

    @property
    def name(self) -> str:
        return self.files[0].path + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(name for file in self.files for name in file.splits))

    def kind(self, split: str) -> str:
        return next((file.splits[split][0] for file in self.files if split in file.splits), "")

    def length(self, split: str) -> int:
        return sum(file.splits[split][1]["rows"] for file in self.files if split in file.splits)

    def rows(self, split: str, rows_each: int) -> PartitionedRows:
        """The rows of the split in all files that have it, in partitions of `rows_each`."""
        having = [(file.path, file.splits[split][1]) for file in self.files if split in file.splits]
        if not having:
            raise ValueError(f"{self.name}: /{split} is missing")
        first_path, info = having[0]
        for path, other in having[1:]:
            _require_same(path, other, first_path, info, split)
        name = info["name"] if len(having) == 1 else f"/{split} of {len(having)} files"
        info = info | {"name": name, "rows": self.length(split), "classes": max(each["classes"] for _, each in having)}
        partitions: list[Partition] = []
        pieces: list[Piece] = []
        first = rows = 0
        for path, each in having:
            begin = 0
            while begin < each["rows"]:
                end = min(each["rows"], begin + rows_each - rows)
                pieces.append(Piece(path, split, begin, end))
                rows, begin = rows + end - begin, end
                if rows == rows_each or first + rows == info["rows"]:
                    partitions.append(Partition(first, rows, " and ".join(map(str, pieces)), pieces))
                    first, rows, pieces = first + rows, 0, []
        return PartitionedRows(info, self.head if "head" in info["has"] else None, partitions)


def _require_same(path: str, info: dict[str, Any], first_path: str, first: dict[str, Any], split: str) -> None:
    """Of the rows of a split in two files."""
    pairs = [("arrays", ", ".join(info["has"]), ", ".join(first["has"])), ("D", info["dim"], first["dim"]),
             ("K", info["copies"], first["copies"]), ("layers", info["layers"], first["layers"])]
    if {"logits", "head", "copies/logits"} & set(first["has"]):  # labels alone say the least number of classes only
        pairs.append(("C", info["classes"], first["classes"]))
    for what, got, expected in pairs:
        if got != expected:
            raise ValueError(f"{path}: /{split} has {what} = {got}, expected {expected} as in {first_path}")


def rows_each(rows: int, tasks: int) -> int:
    """Rows of a partition of files, which are read block by block: as many as leave two for each of `tasks` that run at a
    time, as each opens its file and sends a summary."""
    few = [each for each in NODE_ROWS[:3] if each * 2 * tasks <= rows]
    return max(few, default=_ood.BLOCK_ROWS)
