"""Arrays of any library as the compiled module reads them: float32 rows, not copied where they need not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _ood

Floats = npt.NDArray[np.float32]

_CPU, _CUDA, _CUDA_MANAGED = 1, 2, 13  # DLPack's numbers of them
_SHAPES = {1: "[n]", 2: "[n, D]", 3: "[K, n, D]"}


def is_on_gpu(value: Any) -> bool:
    if hasattr(value, "__dlpack_device__"):
        return value.__dlpack_device__()[0] in (_CUDA, _CUDA_MANAGED)
    return hasattr(value, "__cuda_array_interface__")


def as_array(value: Any, name: str) -> npt.NDArray[Any]:
    """`value` as a NumPy array; a view wherever NumPy or DLPack can make one."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, expected one without a mask: fill it first, as with .filled()")
    if isinstance(value, np.ndarray):
        return value
    if is_on_gpu(value):
        raise TypeError(f"{name} is on a GPU, where Detector.score alone reads it; all else, fit too, works on the "
                        f"processor: give {name}.cpu()")
    if hasattr(value, "__dlpack__"):
        if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] != _CPU:
            raise TypeError(f"{name} is not in the memory of the CPU: copy it there first, as with .cpu()")
        try:
            return np.from_dlpack(value)
        except Exception as error:  # each library has its own: gradients, bfloat16, conjugates
            if isinstance(error, BufferError) and "readonly" in str(error):  # which NumPy itself can view
                return np.asarray(value)
            raise TypeError(f"{name} cannot be read: {error}; pass float32 values without gradient, as "
                            "with .detach().float()") from error
    if hasattr(value, "toarray"):  # SciPy's, which NumPy takes for an object
        raise TypeError(f"{name} is sparse, expected a dense array: make it one first, as with .toarray()")
    return np.asarray(value)


def as_floats(value: Any, name: str, rank: int = 2) -> Floats:
    """float32 with the entries of a row side by side: `value` itself if it is so, else one copy."""
    array = as_array(value, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating-point numbers: convert it "
                        "yourself if that is meant, with .astype(numpy.float32)")
    if array.ndim != rank:
        raise ValueError(f"{name} has shape {list(array.shape)}, expected {_SHAPES[rank]}")
    if array.dtype == np.float32 and array.dtype.isnative and has_whole_rows(array):
        return array
    return np.array(array, dtype=np.float32, order="C")  # ascontiguousarray may leave it misaligned


def has_whole_rows(array: npt.NDArray[Any]) -> bool:
    """Rows are contiguous, aligned, and follow each other upwards without overlap."""
    if not array.flags.aligned:
        return False
    if array.size == 0:
        return True
    if array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        return False
    needed = array.itemsize * array.shape[-1]
    for length, stride in zip(reversed(array.shape[:-1]), reversed(array.strides[:-1])):
        if length > 1 and (stride < needed or stride % array.itemsize):
            return False
        needed *= length
    return True


def as_labels(value: Any) -> npt.NDArray[np.int64]:
    array = as_array(value, "labels")
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels has dtype {array.dtype}, expected integers: the number of the class of each "
                        "row, from 0")
    if array.ndim != 1:
        raise ValueError(f"labels has shape {list(array.shape)}, expected [n]")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"labels has {array.max()}, expected less than 2^63")
    return np.require(array, np.int64, ["C_CONTIGUOUS", "ALIGNED"])  # views of what came over a network may lie anywhere


def as_scores(value: Any, name: str) -> npt.NDArray[np.float64]:
    """Scores in float64, where float32 and integers lose nothing."""
    array = as_array(value, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers")
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {list(array.shape)}, expected [n]")
    return np.ascontiguousarray(array, dtype=np.float64)


_RANKS = {"features": 2, "logits": 2, "copy_features": 3, "copy_logits": 3}


def as_arrays(fields: Mapping[str, Any], name: str = "memory") -> _ood.Arrays:
    """The arrays of one set of rows, by name; those that are None are left out.

    features [n, D], logits [n, C], labels [n], layers {name: [n, D_l]}, copy_features [K, n, D],
    copy_logits [K, n, C], head ([C, D], [C]).
    """
    given = {key: value for key, value in fields.items() if value is not None}
    unknown = given.keys() - {*_RANKS, "labels", "layers", "head"}
    if unknown:
        known = ", ".join([*_RANKS, "labels", "layers", "head"])
        raise TypeError(f"unknown array {min(unknown)}, expected some of {known}")
    arrays: dict[str, npt.NDArray[Any]] = {
        key: as_floats(given[key], key, rank) for key, rank in _RANKS.items() if key in given}
    if "labels" in given:
        arrays["labels"] = as_labels(given["labels"])
    layers = {key: as_floats(value, f"layers/{key}") for key, value in given.get("layers", {}).items()}
    return _ood.Arrays(arrays, layers, as_head(given["head"]) if "head" in given else None, name)


def as_head(head: Any) -> tuple[Floats, Floats]:
    try:
        weight, bias = head
    except (TypeError, ValueError):
        raise TypeError("head has another form than expected: (weight [C, D], bias [C])") from None
    return as_floats(weight, "head weight"), as_floats(bias, "head bias", 1)
