"""The HDF5 feature file: open, look at, read, write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _ood

PathLike = str | os.PathLike[str]


class Array:
    """One array of a split, as it lies in the file. Nothing is read before a value is asked for.

    `array[begin:end]` reads these rows (of copies: `array[:, begin:end]`), `numpy.asarray(array)` all of
    them; float16 and float64 come as float32, labels as int64.
    """

    def __init__(self, split: Split, name: str, shape: tuple[int, ...], stored: str) -> None:
        self._split, self._name = split, name
        self.shape = shape
        self.stored_dtype = stored
        self.dtype: np.dtype[Any] = np.dtype(np.int64 if name == "labels" else np.float32)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def _read(self, rows: tuple[int, int] | None = None) -> npt.NDArray[Any]:
        return self._split._source(rows).read(self._name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError(f"{self!r} lies in a file: it cannot be had without a copy")
        array = self._read()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        axis = 1 if self._name.startswith("copies/") else 0  # that of the rows
        keys = key if isinstance(key, tuple) else (key,)
        rows = keys[axis] if len(keys) > axis else slice(None)
        if any(each is None or each is Ellipsis for each in keys):
            return self._read()[key].copy()
        if isinstance(rows, (int, np.integer)):
            row = range(self.shape[axis])[int(rows)]  # IndexError where there is none
            begin, end = row, row + 1
            within: int | slice = 0
        elif isinstance(rows, slice) and rows.indices(1)[2] > 0:
            begin, end, step = rows.indices(self.shape[axis])
            within = slice(None, None, step)
        else:
            return self._read()[key].copy()
        if end <= begin:
            shape = (*self.shape[:axis], 0, *self.shape[axis + 1:])
            part = np.empty(shape, self.dtype)
        else:
            part = self._read((begin, end))
        inner = (*keys[:axis], within, *keys[axis + 1:])
        return part[inner] if len(keys) > axis else part[keys]

    def __repr__(self) -> str:
        return f"<Array /{self._split.name}/{self._name} {list(self.shape)} {self.stored_dtype}>"


class Split:
    """Rows of one kind in a feature file: /train, /id_test, /ood/svhn.

    Detectors read it block by block: `detector.score(dataset.id_test)`.
    """

    def __init__(self, dataset: Dataset, name: str, kind: str, rows: int,
                 arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        self._dataset = dataset
        #: As in the file: "train", "ood/svhn".
        self.name = name
        #: "near", "far", or "" where the file does not say.
        self.kind = kind
        self._rows = rows
        self._arrays = {key: Array(self, key, shape, stored) for key, (shape, stored) in arrays.items()}

    def __len__(self) -> int:
        return self._rows

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{"features": (n, D), "layers/block1": (n, D_1), ...}; nothing is read."""
        return {name: array.shape for name, array in self._arrays.items()}

    def _array(self, name: str) -> Array:
        if name not in self._arrays:
            raise AttributeError(f"/{self.name} has no {name}, it has {', '.join(self._arrays)}")
        return self._arrays[name]

    @property
    def features(self) -> Array:
        """Penultimate features [n, D]."""
        return self._array("features")

    @property
    def logits(self) -> Array:
        """[n, C]"""
        return self._array("logits")

    @property
    def labels(self) -> Array:
        """[n], in [0, C)"""
        return self._array("labels")

    @property
    def copy_features(self) -> Array:
        """Features of several copies [K, n, D]."""
        return self._array("copies/features")

    @property
    def copy_logits(self) -> Array:
        """Logits of several copies [K, n, C]."""
        return self._array("copies/logits")

    @property
    def layers(self) -> dict[str, Array]:
        """Features of other layers by name, [n, D_l] each."""
        return {name.removeprefix("layers/"): array for name, array in self._arrays.items()
                if name.startswith("layers/")}

    def _source(self, rows: tuple[int, int] | None = None) -> _ood.Source:
        return self._dataset._file.source(self.name, rows)

    def __repr__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        return f"<Split /{self.name}{kind}: {shapes}>"


class Dataset:
    """A feature file opened for reading; see `open`. Rows are read when they are needed."""

    def __init__(self, path: PathLike) -> None:
        try:
            self._file = _ood.Dataset(os.fspath(path))
        except OSError as error:
            if not os.path.lexists(path):
                raise FileNotFoundError(str(error)) from None
            raise
        self._splits = {name: Split(self, name, kind, rows, arrays)
                        for name, kind, rows, arrays in self._file.splits}

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def model(self) -> str:
        """What the file calls the network; "" where it does not say."""
        return self._file.model

    @property
    def id_dataset(self) -> str:
        """What the file calls the in-distribution data; "" where it does not say."""
        return self._file.id_dataset

    @property
    def dim(self) -> int:
        """D; 0 without features and head."""
        return self._file.dim

    @property
    def classes(self) -> int:
        """C; 0 without logits and head."""
        return self._file.classes

    @property
    def head(self) -> tuple[_arrays.Floats, _arrays.Floats] | None:
        """The last layer, (weight [C, D], bias [C]), or None."""
        return self._file.head

    @property
    def splits(self) -> dict[str, Split]:
        """All of them by their name in the file: "train", "ood/svhn"."""
        return dict(self._splits)

    def _split(self, name: str) -> Split:
        if name not in self._splits:
            raise AttributeError(f"{self.path} has no /{name}, it has {', '.join(self._splits)}")
        return self._splits[name]

    def _sets(self, group: str) -> dict[str, Split]:
        return {name.removeprefix(group): split for name, split in self._splits.items()
                if name.startswith(group)}

    @property
    def train(self) -> Split:
        return self._split("train")

    @property
    def id_val(self) -> Split:
        return self._split("id_val")

    @property
    def id_test(self) -> Split:
        return self._split("id_test")

    @property
    def ood(self) -> dict[str, Split]:
        """Sets of outliers by name."""
        return self._sets("ood/")

    @property
    def ood_val(self) -> dict[str, Split]:
        """Sets of validation outliers by name."""
        return self._sets("ood_val/")

    @property
    def csid(self) -> dict[str, Split]:
        """Sets of covariate-shifted in-distribution rows by name."""
        return self._sets("csid/")

    def __reduce__(self) -> Any:
        return Dataset, (self.path,)

    def __repr__(self) -> str:
        lines = [f"<Dataset {self.path}: {self.model or 'unnamed model'}, "
                 f"D = {self.dim}, C = {self.classes}"]
        return "\n  ".join([*lines, *map(repr, self._splits.values())]) + ">"


def open(path: PathLike) -> Dataset:
    """Opens a feature file: its structure and the head are read, no rows.

    Raises FileNotFoundError and OSError for a file that cannot be read, ValueError for one whose
    content is not a feature file; the message says what was found where, and what was expected.

    >>> import numpy as np, ood, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "small.h5"
    >>> rows = np.eye(4, 3, dtype=np.float32)
    >>> ood.write(path, id_test={"logits": rows}, ood={"noise": {"logits": 0 * rows, "kind": "far"}})
    >>> dataset = ood.open(path)
    >>> dataset.id_test.shapes
    {'logits': (4, 3)}
    >>> dataset.ood["noise"].logits[1:3].tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return Dataset(path)


class Writer:
    """Writes a feature file block by block, for splits that do not fit into memory.

    The file appears under its name when it is closed, as a whole; leaving the `with` block by an
    exception leaves nothing behind.

    >>> import numpy as np, ood, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "blocks.h5"
    >>> with ood.Writer(path, model="net") as writer:
    ...     for block in range(3):
    ...         writer.append("train", features=np.full((2, 5), block, np.float32))
    >>> ood.open(path).train.features.shape
    (6, 5)
    """

    def __init__(self, path: PathLike, *, model: str = "", id_dataset: str = "",
                 dtype: str = "float32", gzip_level: int = 4) -> None:
        """dtype: "float16", "float32" or "float64"; gzip_level: 0 (none) to 9."""
        self._writer: _ood.Writer | None = _ood.Writer(os.fspath(path), model, id_dataset, dtype,
                                                       gzip_level)

    @property
    def _open(self) -> _ood.Writer:
        if self._writer is None:
            raise ValueError("Writer: closed, expected an open one")
        return self._writer

    def write_head(self, weight: Any, bias: Any) -> None:
        """The last layer: weight [C, D], bias [C]."""
        self._open.write_head(_arrays.as_arrays({"head": (weight, bias)}))

    def append(self, split: str, *, features: Any = None, logits: Any = None, labels: Any = None,
               layers: Mapping[str, Any] | None = None, copy_features: Any = None,
               copy_logits: Any = None, kind: str = "") -> None:
        """Adds rows to "train", "id_val", "id_test", "ood/NAME", "ood_val/NAME" or "csid/NAME".

        kind ("near" or "far") is for outliers, and need not be repeated.
        """
        arrays = {"features": features, "logits": logits, "labels": labels, "layers": layers,
                  "copy_features": copy_features, "copy_logits": copy_logits}
        self._open.append(split, _arrays.as_arrays(arrays, split), kind)

    def set_attribute(self, name: str, value: str) -> None:
        """A further text about the file: source, note, ..."""
        self._open.set_attribute(name, value)

    def close(self) -> None:
        """Makes the file appear. Nothing can be added after that."""
        self._open.close()
        self._writer = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, error: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if error is None and self._writer is not None:
            self.close()
        self._writer = None  # gives up what is not closed


def write(path: PathLike, *, train: Mapping[str, Any] | None = None,
          id_val: Mapping[str, Any] | None = None, id_test: Mapping[str, Any] | None = None,
          ood: Mapping[str, Mapping[str, Any]] | None = None,
          ood_val: Mapping[str, Mapping[str, Any]] | None = None,
          csid: Mapping[str, Mapping[str, Any]] | None = None,
          head: tuple[Any, Any] | None = None, model: str = "", id_dataset: str = "",
          dtype: str = "float32", gzip_level: int = 4,
          attributes: Mapping[str, str] | None = None) -> None:
    """Writes a feature file from arrays in memory; `Writer` takes them block by block.

    A split is a mapping: features [n, D], logits [n, C], labels [n], layers {name: [n, D_l]},
    copy_features [K, n, D], copy_logits [K, n, C]; sets of outliers may have kind="near" or "far".
    head is (weight [C, D], bias [C]).

    >>> import numpy as np, ood, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "small.h5"
    >>> rows = np.zeros((4, 3), np.float32)
    >>> ood.write(path, id_test={"logits": rows, "labels": [0, 1, 2, 0]}, model="net")
    >>> ood.open(path).model
    'net'
    """
    splits: dict[str, Mapping[str, Any]] = {
        name: rows for name, rows in (("train", train), ("id_val", id_val), ("id_test", id_test))
        if rows is not None}
    for group, sets in (("ood_val", ood_val), ("ood", ood), ("csid", csid)):
        splits.update({f"{group}/{name}": rows for name, rows in (sets or {}).items()})
    with Writer(path, model=model, id_dataset=id_dataset, dtype=dtype, gzip_level=gzip_level) as writer:
        if head is not None:
            writer.write_head(*head)
        for name, text in (attributes or {}).items():
            writer.set_attribute(name, text)
        for name, rows in splits.items():
            writer.append(name, **rows)
