"""Rows of one kind that are spread over many files or chunks, cut into partitions of whole blocks."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from . import _ood
from ._arrays import Floats, as_array, as_arrays, as_head, as_labels
from ._cluster_tasks import compute, finished, located
from ._dask import array as dask_array
from ._dask import delayed
from .dataset import Dataset, Split

#: Rows of the nodes of ood/merge_tree.h: a partition of such rows has a summary of one sum.
NODE_ROWS: list[int] = [_ood.BLOCK_ROWS * _ood.MERGE_WAYS**level for level in range(4)]


@dataclass(frozen=True)
class Piece:
    """Rows [begin, end) of a split of a feature file, which each worker can open."""

    path: str
    split: str
    begin: int
    end: int
    #: Of all rows, where labels alone tell them: they need not be read to count them.
    classes: int = 0

    def source(self) -> _ood.Source:
        return Dataset(self.path)._file.source(self.split, (self.begin, self.end), self.classes)

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
    #: Where the rows are: in files, or else in arrays by name, which the task is given.
    pieces: Sequence[Piece] = ()
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def sources(self, head: tuple[Any, Any] | None = None) -> list[_ood.Source]:
        """On the worker that works on it. head: of the arrays, that of pieces is in their files."""
        if self.pieces:
            return [piece.source() for piece in self.pieces]
        arrays = dict(self.arrays)
        layers = {name.removeprefix("layers/"): arrays.pop(name) for name in self.arrays if name.startswith("layers/")}
        return [_ood.Source(as_arrays({**arrays, "layers": layers or None, "head": head}, self.place))]


@dataclass(frozen=True)
class PartitionedRows:
    """What `_ood.Source.partitioned` is told of all rows together, and where they are."""

    #: As `_ood.Source.info`.
    info: dict[str, Any]
    #: weight [C, D], bias [C]
    head: tuple[Floats, Floats] | None
    #: Those of arrays are without them, as these are Dask's.
    partitions: list[Partition]
    #: By name, of a _Chunk for each partition; {} of files.
    arrays: Mapping[str, Any] = field(default_factory=dict)

    def tasks(self, name: str, wanted: Collection[str], function: Callable[..., Any], *shared: Any) -> list[Any]:
        """`function(*shared, partition)` for each partition. wanted: the arrays that it reads, by the names of `info`; of files,
        it reads what it wants. Keys of the tasks begin with `name`."""
        if not self.arrays:
            task = delayed(function, pure=False)
            return [task(*shared, partition, dask_key_name=f"{name}-{i}") for i, partition in enumerate(self.partitions)]
        # Not tasks that are given chunks, but a further layer on the arrays: Dask makes one task of it and of what reads
        # a chunk of each, as long as the result has all of their axes.
        arrays = self._of(wanted)
        chunks: list[Any] = []
        axes = ["rows"]
        for array_name, array in arrays.items():
            rows_axis, rank = _AXES.get(array_name, (0, 2))
            of_array = ["rows" if axis == rows_axis else f"{array_name} {axis}" for axis in range(rank)]
            axes += [axis for axis in of_array if axis != "rows"]
            chunks += [array, tuple(of_array)]
        # What is bound cannot be taken for a key of the graph
        bound = functools.partial(_on_chunks, function, self.info["name"], tuple(arrays))
        literals = itertools.chain.from_iterable((each, None) for each in shared)
        results = dask_array.blockwise(bound, tuple(axes), *literals, *chunks, name=name, dtype=object,
                                       meta=np.empty([0] * len(axes), object), concatenate=True, align_arrays=False)
        return list(results.to_delayed().ravel())

    def _of(self, wanted: Collection[str]) -> Mapping[str, Any]:
        """Those of the arrays."""
        names = {*wanted}
        if "logits" in names and "logits" not in self.arrays:
            names.add("features")  # of which a head makes them
        chosen = {name: array for name, array in self.arrays.items()
                  if name.split("/")[0].replace("copy_", "copies/") in names}
        return chosen or self.arrays


class _Chunk(NamedTuple):
    """Rows of an array from `first` on."""

    first: int
    array: Any


def _chunk(rows_axis: int, rows_each: int, array: Any, block_id: Any = None) -> Any:
    return _Chunk(block_id[rows_axis] * rows_each, array)


def _on_chunks(function: Callable[..., Any], where: str, names: tuple[str, ...], *given: Any) -> Any:
    """`function` on a partition of arrays, which are the last of what is given."""
    shared, chunks = given[:-len(names)], given[-len(names):]
    first, rows = chunks[0].first, chunks[0].array.shape[_AXES.get(names[0], (0, 2))[0]]
    return function(*shared, Partition(first, rows, rows_of(where, first, rows),
                                       arrays={name: chunk.array for name, chunk in zip(names, chunks)}))


def rows_of(where: str, first: int, rows: int) -> str:
    return f"{where}, rows {first} to {first + rows - 1}"


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


def _lazy(value: Any, name: str) -> Any:
    """The array as Dask's. What is in memory is taken as one; what would have to be read for that is an error."""
    if isinstance(value, dask_array.Array):
        return value
    expected = None
    if hasattr(value, "to_dask_array"):
        expected = "an array: take to_dask_array(lengths=True) of the table"
    elif hasattr(value, "chunks"):  # of h5py, of Zarr
        expected = "an array of Dask: take dask.array.from_array, or from_zarr"
    elif isinstance(value, (str, bytes, os.PathLike, Dataset, Split)) or value is None:
        expected = "an array"
    if expected is not None:
        raise TypeError(f"{name} has a {type(value).__module__}.{type(value).__name__}, expected {expected}")
    return dask_array.from_array(as_array(value, name))


def lazy_arrays(fields: Mapping[str, Any], where: str, known_lengths: bool = True) -> dict[str, Any]:
    """The arrays that are given, as Dask's, layers under "layers/NAME"; their kinds and shapes are checked."""
    known = {"features", "logits", "labels", "layers", "copy_features", "copy_logits"}
    if not isinstance(fields, Mapping):
        raise TypeError(f"{where} has a {type(fields).__name__}, expected a mapping of arrays by name")
    given = {key: value for key, value in fields.items() if value is not None}
    if unknown := given.keys() - known:
        raise TypeError(f"{where}: unknown array {min(unknown)}, expected some of {', '.join(sorted(known))}")
    layers = given.pop("layers", {})
    if not isinstance(layers, Mapping):
        raise TypeError(f"{where}: layers has a {type(layers).__name__}, expected a mapping of arrays by name")
    given.update({f"layers/{layer}": array for layer, array in layers.items()})
    arrays = {}
    for name, value in given.items():
        array = _lazy(value, f"{where}: {name}")
        axis, rank = _AXES.get(name, (0, 2))
        kinds, expected = ("iu", "integers") if name == "labels" else ("f", "floating-point numbers")
        if array.dtype.kind not in kinds:
            raise TypeError(f"{where}: {name} has dtype {array.dtype}, expected {expected}")
        if array.ndim != rank:
            raise ValueError(f"{where}: {name} has {array.ndim} axes, expected {rank}")
        if any(np.isnan(length) for each, length in enumerate(array.shape) if known_lengths or each != axis):
            raise ValueError(f"{where}: {name} has chunks of unknown length, expected known ones: take "
                             "compute_chunk_sizes() of an array, or to_dask_array(lengths=True) of a table")
        arrays[name] = array
    lengths = {name: array.shape[_AXES.get(name, (0, 2))[0]] for name, array in arrays.items()}
    for (one, rows), (other, others) in itertools.pairwise(lengths.items()):
        if rows != others and not (np.isnan(rows) and np.isnan(others)):
            raise ValueError(f"{where}: {one} has {rows} rows and {other} has {others}, expected the same number")
        if np.isnan(rows) and (chunks := arrays[one].numblocks[_AXES.get(one, (0, 2))[0]]) != (
                others := arrays[other].numblocks[_AXES.get(other, (0, 2))[0]]):
            raise ValueError(f"{where}: {one} has {chunks} chunks of rows and {other} has {others}, expected the same number "
                             "where their lengths are not known")
    return arrays


def rows_like(arrays: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Arrays of these widths, of ones: what the library says of them it says of all."""
    return {name: np.ones([rows if axis == _AXES.get(name, (0, 2))[0] else length
                           for axis, length in enumerate(array.shape)], array.dtype)
            for name, array in arrays.items()}


def whole_rows(array: Any, where: str, name: str, row_chunks: tuple[int, ...]) -> Any:
    """The array in chunks of these numbers of rows, each of all columns. Chunks that have another shape than they should
    are errors: cut to others, they would lose rows without a word."""
    axis, rank = _AXES.get(name, (0, 2))
    array = array.map_blocks(functools.partial(_checked, f"{where}: {name}"), dtype=array.dtype, meta=array._meta)
    columns = {each: -1 for each in range(rank) if each != axis}
    if any(np.isnan(rows) for rows in row_chunks):  # which cannot be changed
        return array.rechunk(columns)
    return array.rechunk(columns | {axis: row_chunks})


def _checked(name: str, chunk: Any, block_info: Any = None) -> Any:
    got, expected = np.shape(chunk), block_info[None]["chunk-shape"]
    if len(got) != len(expected) or any(one != other and not np.isnan(other) for one, other in zip(got, expected)):
        begins = [begin for begin, _ in block_info[None]["array-location"]]
        raise ValueError(f"{name} has a chunk of shape {list(got)} at {begins}, expected {list(expected)}")
    return chunk


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
                   client: Any = None) -> PartitionedRows:
    """In partitions of about the chunks of the widest array; some rows move to the chunk beside theirs. client: to count the
    classes with, where labels alone tell them."""
    arrays = lazy_arrays(fields, where)
    if not arrays:
        raise ValueError(f"{where} has no arrays, expected features, logits or others")
    if head is not None:
        head = as_head(head)
    none = rows_like(arrays, 0)
    info = Partition(0, 0, where, arrays=none).sources(head)[0].info
    chunks = widest(arrays)
    info["rows"] = sum(chunks)
    if not info["rows"]:
        raise ValueError(f"{where} has 0 rows, expected 1 or more")
    if client is not None and not info["classes"] and "labels" in arrays:
        labels = arrays["labels"]
        ends = list(itertools.accumulate(labels.chunks[0]))
        largest = labels.map_blocks(_largest, dtype=np.int64, meta=np.empty(0, np.int64), chunks=((1,) * len(ends),))
        places = [rows_of(where, end - rows, rows) for rows, end in zip(labels.chunks[0], ends)]
        info["classes"] = _count_classes(where, largest.to_delayed().ravel(), places, client)

    cuts = _cuts(info["rows"], max(chunks))
    row_chunks = tuple(end - begin for begin, end in itertools.pairwise(cuts))
    partitions = [Partition(first, rows, rows_of(where, first, rows)) for first, rows in zip(cuts, row_chunks)]
    chunked = {}
    for name, array in arrays.items():
        axis, rank = _AXES.get(name, (0, 2))
        chunked[name] = whole_rows(array, where, name, row_chunks).map_blocks(
            functools.partial(_chunk, axis, row_chunks[0]), dtype=object, meta=np.empty([0] * rank, object))
    return PartitionedRows(info, head, partitions, chunked)


def _largest(labels: Any) -> Any:
    """[1], -1 without labels."""
    return np.array([as_labels(labels).max(initial=-1)], np.int64)


def _largest_of_pieces(pieces: Sequence[Piece], place: str) -> Any:
    with located(place):
        return _largest(np.concatenate([piece.source().read("labels") for piece in pieces]))


def _count_classes(where: str, tasks: Sequence[Any], places: Sequence[str], client: Any) -> int:
    """As many as labels tell, whose largest these tasks find."""
    futures = compute(client, list(tasks), False)
    finished(futures, places)
    largest = int(np.max(client.gather(futures)))
    if largest >= _MOST_CLASSES:
        raise ValueError(f"{where}/labels has {largest} as its largest, expected [0, {_MOST_CLASSES})")
    return largest + 1


# Feature files.


@dataclass(frozen=True)
class FeatureFile:
    """What is in a file, which is not kept open: there may be many."""

    path: str
    #: As it was given.
    name: str
    model: str
    id_dataset: str
    #: (kind, info of the source) by name; without the classes that labels alone tell.
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
            self.files.append(FeatureFile(path, str(file.path), file.model, file.id_dataset, {
                name: (split.kind, file._file.info(name)) for name, split in file.splits.items()}))
        self._require_one_set()

    def _require_one_set(self) -> None:
        paths: set[str] = set()
        texts: dict[str, tuple[str, str]] = {}
        for file in self.files:
            if file.path in paths:
                raise ValueError(f"{file.path} is there twice, expected each file once")
            paths.add(file.path)
            for what, text in [("model", file.model), ("id_dataset", file.id_dataset),
                               *((f"kind of /{split}", kind) for split, (kind, _) in file.splits.items())]:
                first, path = texts.setdefault(what, (text, file.path)) if text else ("", "")
                if first != text:
                    raise ValueError(f"{file.path}: {what} is {text}, expected {first} as in {path}")

    @property
    def name(self) -> str:
        return self.files[0].path + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")

    def text(self, what: str) -> str:
        """The model or id_dataset of those that say it."""
        return next(filter(None, (getattr(file, what) for file in self.files)), "")

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(name for file in self.files for name in file.splits))

    def kind(self, split: str) -> str:
        return next((file.splits[split][0] for file in self.files if split in file.splits), "")

    def length(self, split: str) -> int:
        return sum(file.splits[split][1]["rows"] for file in self.files if split in file.splits)

    def rows(self, split: str, rows_each: int, client: Any = None) -> PartitionedRows:
        """The rows of the split in all files that have it, in partitions of `rows_each`. client: to count the classes with,
        where labels alone tell them."""
        having = [(file.path, file.splits[split][1]) for file in self.files if split in file.splits]
        if not having:
            raise ValueError(f"{self.name}: /{split} is missing")
        first_path, info = having[0]
        for path, other in having[1:]:
            _require_same(path, other, first_path, info, split)
        name = info["name"] if len(having) == 1 else f"/{split} of {len(having)} files"
        info = info | {"name": name, "rows": self.length(split), "classes": max(each["classes"] for _, each in having)}
        cut: list[list[Piece]] = []
        room = 0
        for path, each in having:
            begin = 0
            while begin < each["rows"]:
                if not room:
                    cut.append([])
                    room = rows_each
                end = min(each["rows"], begin + room)
                cut[-1].append(Piece(path, split, begin, end))
                room, begin = room - (end - begin), end
        places = [_place(pieces) for pieces in cut]
        if client is not None and not info["classes"] and "labels" in info["has"]:
            tasks = [delayed(_largest_of_pieces, pure=False)(pieces, place) for pieces, place in zip(cut, places)]
            info["classes"] = _count_classes(name, tasks, places, client)
            cut = [[replace(piece, classes=info["classes"]) for piece in pieces] for pieces in cut]
        partitions = [Partition(first, sum(piece.end - piece.begin for piece in pieces), place, pieces)
                      for first, pieces, place in zip(itertools.count(0, rows_each), cut, places)]
        return PartitionedRows(info, self.head if "head" in info["has"] else None, partitions)


def _place(pieces: Sequence[Piece]) -> str:
    """Of many, the first and the last."""
    few = [str(piece) for piece in (pieces if len(pieces) <= 3 else [pieces[0], pieces[-1]])]
    return " and ".join(few) if len(few) == len(pieces) else f"{few[0]}, and so on of {len(pieces)} files, to {few[1]}"


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
