"""Arrays that lie in the memory of a GPU: scored where they are, on the stream that their library works on."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _ood
from ._arrays import has_whole_rows, is_on_gpu

_DEFAULT_STREAM = 1  # CUDA's "legacy" one, by DLPack and by __cuda_array_interface__


class DeviceInfo(NamedTuple):
    """A GPU of this machine."""

    #: As `device=` has it: "cuda:0".
    device: str
    name: str
    #: (9, 0)
    compute_capability: tuple[int, int]
    #: Bytes.
    memory: int
    free: int


def devices() -> list[DeviceInfo]:
    """The GPUs of this machine; none where the package was built without CUDA, or there is no driver.

    >>> import ood
    >>> names = [gpu.name for gpu in ood.devices()]
    """
    return [DeviceInfo(*each) for each in _ood.devices()]


def by_name(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, without those that are None; a layer is "layers/<name>"."""
    arrays = {name: value for name, value in given.items() if value is not None and name != "layers"}
    return arrays | {f"layers/{name}": value for name, value in (given.get("layers") or {}).items()}


def score(model: _ood.Model, arrays: dict[str, Any], device: str | None, out: Any) -> Any:
    """Scores of arrays by_name() in `out`, or in a new array of the same library; work that their stream has
    still to do when this returns."""
    if "head" in arrays:
        raise TypeError("head was given beside arrays on a GPU, where logits are not computed: give logits")
    every = arrays | ({} if out is None else {"out": out})
    for name, value in every.items():
        if not is_on_gpu(value):
            raise TypeError(f"{name} is in the memory of the CPU and others are on a GPU, expected all on one "
                            "device")
    device = _common_device(every, device)
    first = next(iter(arrays.values()))
    stream = _stream(first)
    views = {name: _view(value, name, stream) for name, value in arrays.items()}
    fields = {name: view for name, view in views.items() if not name.startswith("layers/")}
    layers = {name[len("layers/"):]: view for name, view in views.items() if name.startswith("layers/")}
    rows = _ood.Arrays(fields, layers, None, "memory")
    if out is None:
        out = _empty(first, rows.rows)
    scores = _view(out, "out", stream)
    if scores.shape != (rows.rows,):
        raise ValueError(f"out has shape {list(scores.shape)}, expected [{rows.rows}] as there are rows")
    if not scores.flags.writeable:
        raise ValueError("out is read-only")
    model.score_in_place(rows, scores.ctypes.data, device, stream)
    return out


def _common_device(arrays: Mapping[str, Any], device: str | None) -> str:
    """Where all arrays lie. __cuda_array_interface__ does not tell: there it is `device`, and CUDA is asked
    whether that is so."""
    lie_on = sorted({int(value.__dlpack_device__()[1]) for value in arrays.values()
                     if hasattr(value, "__dlpack_device__")})
    if len(lie_on) > 1:
        raise ValueError(f"arrays lie on {' and '.join(f'cuda:{index}' for index in lie_on)}, expected one device")
    own = f"cuda:{lie_on[0]}" if lie_on else None
    asked = None if device is None else _ood.device_name(device)
    if asked == "cpu" or None not in (own, asked) and asked != own:
        raise ValueError(f"device has {asked}, expected {own or 'cuda'}, where the arrays lie")
    return own or asked or "cuda:0"


def _library(value: Any) -> Any:
    """PyTorch or CuPy, if it made the array."""
    for name, kind in (("torch", "Tensor"), ("cupy", "ndarray")):
        library = sys.modules.get(name)
        if library is not None and isinstance(value, getattr(library, kind)):
            return library
    return None


def _on_device_of(value: Any) -> AbstractContextManager[Any]:
    """Makes the array's GPU the current one: what PyTorch and CuPy do with a stream is on that one."""
    library = _library(value)
    if library is None:
        return nullcontext()
    device: AbstractContextManager[Any] = value.device
    return library.cuda.device(device) if library.__name__ == "torch" else device


def _stream(value: Any) -> int:
    """What the array's library works on now."""
    library = _library(value)
    if library is not None and library.__name__ == "torch":
        stream = library.cuda.current_stream(value.device).cuda_stream
    elif library is not None:
        with _on_device_of(value):
            stream = library.cuda.get_current_stream().ptr
    elif hasattr(value, "__dlpack_device__"):
        stream = _DEFAULT_STREAM
    else:
        stream = value.__cuda_array_interface__.get("stream")
    return int(stream or _DEFAULT_STREAM)  # DLPack knows no 0


def _empty(like: Any, rows: int) -> Any:
    library = _library(like)
    if library is None:
        raise TypeError(f"out has nothing, expected an array of {rows} float32 on the same GPU, as rows are a "
                        f"{type(like).__name__}: without it, PyTorch's and CuPy's alone are given")
    if library.__name__ == "torch":
        return library.empty(rows, dtype=library.float32, device=like.device)
    with _on_device_of(like):
        return library.empty(rows, dtype="float32")


def _view(value: Any, name: str, stream: int) -> npt.NDArray[np.float32]:
    """The array as NumPy describes one. Its memory is the GPU's: only the address and the layout may be used."""
    by_dlpack = hasattr(value, "__dlpack_device__")
    dtype, interface, owner = (_by_dlpack if by_dlpack else _by_interface)(value, name, stream)
    if dtype != "float32":
        raise TypeError(f"{name} has dtype {dtype}, expected float32 on a GPU: convert it first, as with .float()")
    view = np.asarray(SimpleNamespace(__array_interface__=interface | {"typestr": "<f4", "version": 3},
                                      owner=owner))
    if not has_whole_rows(view):
        raise ValueError(f"{name} has rows that overlap, or entries of a row apart, expected each row in one piece: "
                         "copy it first, as with .contiguous()")
    return view


class _DLTensor(ctypes.Structure):
    """DLPack's: what the pointer in a capsule points at, or begins with."""

    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


_BOOL = 6
_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", _BOOL: "bool"}
_pointer_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi))

_Described = tuple[str, dict[str, Any], Any]


def _by_dlpack(value: Any, name: str, stream: int) -> _Described:
    """dtype, NumPy's interface, and what keeps the memory: the capsule, which gives it back when it goes."""
    try:
        with _on_device_of(value):
            capsule = value.__dlpack__(stream=stream)
        tensor = ctypes.cast(_pointer_in(capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
    except Exception as error:  # each library has its own
        raise TypeError(f"{name} cannot be read: {error}; pass float32 values without gradient, as with "
                        ".detach().float()") from error
    dtype = _KINDS.get(tensor.code, "unknown") + ("" if tensor.code == _BOOL else str(tensor.bits))
    if tensor.lanes != 1:
        dtype += f"x{tensor.lanes}"
    shape = tuple(tensor.shape[:tensor.ndim])
    strides = tuple(4 * stride for stride in tensor.strides[:tensor.ndim]) if tensor.strides else None
    data = (tensor.data or 0) + tensor.byte_offset
    return dtype, {"shape": shape, "strides": strides, "data": (data, False)}, capsule


def _by_interface(value: Any, name: str, stream: int) -> _Described:
    found = value.__cuda_array_interface__
    if found.get("mask") is not None:
        raise TypeError(f"{name} has a mask, expected an array without one")
    own = found.get("stream")
    if own not in (None, stream):
        raise ValueError(f"{name} is of stream {own} and others of {stream}, expected one: synchronize them first")
    interface = {"shape": tuple(found["shape"]), "strides": found.get("strides"), "data": tuple(found["data"])}
    return str(np.dtype(found["typestr"])), interface, value
