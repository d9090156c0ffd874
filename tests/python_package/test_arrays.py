"""Arrays of any kind: which are used where they lie, which are copied once, which are refused."""

from __future__ import annotations

import array
import ctypes
from typing import Any

import numpy as np
import pytest

import ood
from conftest import COPIES, fit_arguments, fit_on_rows, make, make_head, make_rows, same_bits, score_arguments
from ood import _arrays

RANDOM = np.random.default_rng(0)
WIDE = RANDOM.normal(size=(40, 20)).astype(np.float32)
READ_ONLY = WIDE.copy()
READ_ONLY.flags.writeable = False


class OnlyDlpack:
    """An array of which nothing is known but the protocol."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __dlpack__(self, **keywords: Any) -> Any:
        return self._values.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._values.__dlpack_device__()


class OnAnotherDevice(OnlyDlpack):
    def __dlpack_device__(self) -> tuple[int, int]:
        return 8, 0  # kDLMetal of dlpack.h; for those of CUDA see test_gpu.py


class OnlyArray:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return WIDE


def address(values: Any, name: str = "features") -> int:
    return _arrays.as_arrays({name: values}).addresses[name]


def scores(values: Any) -> np.ndarray:
    """Of the largest entry of each row: what is read shows in it."""
    return ood.MaxLogit().score(values)


IN_PLACE = {
    "contiguous": WIDE,
    "every other row": WIDE[::2],
    "rows from the middle": WIDE[7:31:3],
    "some columns": WIDE[:, 3:9],
    "some columns of some rows": WIDE[1::5, 2:4],
    "one column": WIDE[:, 4:5],
    "one row of a transposed array": np.asfortranarray(WIDE)[:, :1].T,
    "read-only": READ_ONLY,
    "Fortran order of one column": np.asfortranarray(WIDE[:, :1]),
    "no rows": np.zeros((0, 20), np.float32),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_rows_of_float32_are_used_where_they_lie(name: str) -> None:
    values = IN_PLACE[name]
    assert address(values) == values.ctypes.data
    assert np.array_equal(scores(values), values.max(axis=1))


def strided(values: np.ndarray, strides: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(values, shape, strides)


def misaligned() -> np.ndarray:
    memory = np.zeros(WIDE.nbytes + 1, np.uint8)[1:]
    values = memory.view(np.dtype(np.float32).newbyteorder("=")).reshape(WIDE.shape)
    assert not values.flags.aligned
    values[...] = WIDE
    return values


def odd_rows() -> np.ndarray:
    """Rows that are whole floats in themselves, and one and a half floats apart from each other."""
    table = np.zeros(5, np.dtype([("row", np.float32, 3), ("byte", np.uint8, 2)]))
    table["row"] = WIDE[:5, :3]
    return table["row"]


COPIED = {
    "Fortran order": np.asfortranarray(WIDE),
    "transposed": np.ascontiguousarray(WIDE.T).T,
    "every other column": WIDE[:, ::2],
    "rows upside down": WIDE[::-1],
    "columns from right to left": WIDE[:, ::-1],
    "one row many times": np.broadcast_to(WIDE[3], (9, 20)),
    "one number many times": np.broadcast_to(np.float32(2.5), (4, 3)),
    "overlapping rows": strided(WIDE, (4, 4), (30, 8)),
    "misaligned": misaligned(),
    "rows of odd length": odd_rows(),
    "other byte order": WIDE.astype(np.dtype(np.float32).newbyteorder()),
    "float16": WIDE.astype(np.float16),
    "float64": WIDE.astype(np.float64),
    "float64, strided": WIDE.astype(np.float64)[::3, ::-2],
    "longdouble": WIDE.astype(np.longdouble),
}


@pytest.mark.parametrize("name", COPIED)
def test_other_floats_are_copied_as_numpy_converts_them(name: str) -> None:
    values = COPIED[name]
    assert same_bits(scores(values), values.astype(np.float32).max(axis=1))


@pytest.mark.parametrize("name", COPIED)
def test_the_given_array_stays_as_it_was(name: str) -> None:
    values = COPIED[name]
    before = values.copy()
    scores(values)
    assert np.array_equal(values, before)


def floats(rows: int, columns: int) -> Any:
    return (ctypes.c_float * columns * rows)(*[(ctypes.c_float * columns)(*row[:columns]) for row in WIDE[:rows]])


BUFFERS = {
    "memoryview": lambda: memoryview(WIDE[:6, :4].copy()),
    "array.array": lambda: memoryview(array.array("f", WIDE[:6, :4].ravel())).cast("B").cast("f", (6, 4)),
    "ctypes": lambda: floats(6, 4),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers_are_used_where_they_lie(name: str) -> None:
    buffer = BUFFERS[name]()
    assert address(buffer) == np.frombuffer(buffer, np.float32).ctypes.data
    assert np.array_equal(scores(buffer), WIDE[:6, :4].max(axis=1))


def test_dlpack_is_used_where_it_lies() -> None:
    values = WIDE[:, :12].copy()
    assert address(OnlyDlpack(values)) == values.ctypes.data
    assert np.array_equal(scores(OnlyDlpack(values)), values.max(axis=1))
    rows = values[::2]
    assert address(OnlyDlpack(rows)) == rows.ctypes.data
    assert np.array_equal(scores(OnlyDlpack(rows)), rows.max(axis=1))


@pytest.mark.parametrize("wrap", [OnlyDlpack, np.ndarray.tolist, lambda values: memoryview(values)])
def test_fit_takes_whatever_score_takes(wrap: Any) -> None:
    rows = make_rows(1)
    expected = ood.Mahalanobis().fit(rows["features"], rows["labels"]).score(rows["features"])
    for detector in (ood.Mahalanobis().fit(wrap(rows["features"]), wrap(rows["labels"])),
                     ood.Mahalanobis().fit(features=wrap(rows["features"]), labels=wrap(rows["labels"]))):
        assert same_bits(detector.score(wrap(rows["features"])), expected)
        assert detector.n_features_in_ == rows["features"].shape[1]


def test_lists_and_array_protocol() -> None:
    assert np.array_equal(scores(WIDE.tolist()), WIDE.max(axis=1))
    assert np.array_equal(scores(OnlyArray()), WIDE.max(axis=1))


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(WIDE.copy())
    assert address(tensor) == tensor.data_ptr()
    assert address(tensor[::2, 3:]) == tensor[::2, 3:].data_ptr()
    assert np.array_equal(scores(tensor), WIDE.max(axis=1))
    assert np.array_equal(scores(tensor.T.contiguous().T), WIDE.max(axis=1))
    assert np.array_equal(scores(tensor.double()), WIDE.max(axis=1))
    assert np.array_equal(scores(tensor.half()), WIDE.astype(np.float16).astype(np.float32).max(axis=1))
    with pytest.raises(TypeError, match=r"features .*detach"):
        ood.Ssd().fit(tensor.clone().requires_grad_())
    with pytest.raises(TypeError, match=r"features .*float"):
        ood.Ssd().fit(tensor.bfloat16())
    with pytest.raises(TypeError, match="features has dtype int64, expected floating-point"):
        ood.Ssd().fit(tensor.long())


def test_pandas_frames() -> None:
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(scores(pandas.DataFrame(WIDE)), WIDE.max(axis=1))
    with pytest.raises(TypeError, match="expected floating-point numbers"):
        scores(pandas.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}))


REFUSED = {
    "int64": np.ones((4, 3), np.int64),
    "uint8": np.ones((4, 3), np.uint8),
    "bool": np.ones((4, 3), bool),
    "object": np.ones((4, 3), object),
    "complex64": np.ones((4, 3), np.complex64),
    "<U3": np.full((4, 3), "1.5"),
    "datetime64[s]": np.zeros((4, 3), "datetime64[s]"),
}


@pytest.mark.parametrize("dtype", REFUSED)
@pytest.mark.parametrize("call", [
    lambda values: ood.Ssd().fit(features=values),
    lambda values: ood.Ssd().fit(WIDE).score(features=values),
    lambda values: ood.Ssd().fit(values),
    lambda values: ood.KlMatching().fit(logits=WIDE, id_val={"logits": values}),
    lambda values: ood.LinearProbe().fit(features=WIDE, ood_val={"noise": {"features": values}}),
    lambda values: ood.Wepe().score(features=WIDE, copy_features=values),
    lambda values: ood.Layers().fit(layers={"a": values}, labels=[0, 1]),
    lambda values: ood.Scale().fit(head=(values, np.zeros(4, np.float32))),
], ids=["fit", "score", "fit(X)", "id_val", "ood_val", "copies", "layers", "head"])
def test_what_is_no_float_is_refused_with_what_to_do(dtype: str, call: Any) -> None:
    with pytest.raises(TypeError) as error:
        call(REFUSED[dtype])
    text = str(error.value)
    assert f"has dtype {dtype}, expected floating-point numbers" in text
    assert ".astype(numpy.float32)" in text
    assert "\n" not in text


@pytest.mark.parametrize("values", [[[1, 2], [3, 4]], [[None, 1.0]], "text", b"bytes", None, 3, {"a": 1}, object()])
def test_other_objects_are_refused(values: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ood.Ssd().fit(values)


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(ValueError):
        ood.Ssd().fit([[1.0, 2.0], [3.0]])


def test_arrays_of_a_device_are_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"features is not in the memory of the CPU.*\.cpu\(\)"):
        ood.Ssd().fit(features=OnAnotherDevice(WIDE))


@pytest.mark.parametrize(("name", "shape", "expected"), [
    ("features", (5,), r"features has shape \[5\], expected \[n, D\]"),
    ("features", (2, 5, 3), r"features has shape \[2, 5, 3\], expected \[n, D\]"),
    ("logits", (), r"logits has shape \[\], expected \[n, D\]|logits has shape \[\], expected \[n, C\]"),
    ("copy_features", (5, 3), r"copy_features has shape \[5, 3\], expected \[K, n, D\]"),
    ("copy_logits", (5, 3), r"copy_logits has shape \[5, 3\], expected \[K, n, [CD]\]"),
])
def test_other_ranks_are_refused(name: str, shape: tuple[int, ...], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        _arrays.as_arrays({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(("labels", "error", "message"), [
    (np.zeros(40), TypeError, "labels has dtype float64, expected integers"),
    (np.zeros(40, bool), TypeError, "labels has dtype bool, expected integers"),
    (np.full(40, "cat"), TypeError, "labels has dtype <U3, expected integers"),
    (np.zeros((40, 1), int), ValueError, r"labels has shape \[40, 1\], expected \[n\]"),
    (np.zeros(39, int), ValueError, "labels has 39 rows, expected 40"),
    (np.full(40, 2**63, np.uint64), ValueError, r"labels has 9223372036854775808, expected less than 2\^63"),
    (np.arange(40) - 1, ValueError, "has -1 at row 0"),
])
def test_labels_that_are_none(labels: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ood.MaxCosine().fit(WIDE, labels)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_labels_of_every_integer_type(dtype: str) -> None:
    rows = make_rows(1)
    expected = ood.Mahalanobis().fit(rows["features"], rows["labels"]).score(rows["features"])
    given = np.repeat(rows["labels"].astype(dtype), 2)[::2]
    assert same_bits(ood.Mahalanobis().fit(rows["features"], given).score(rows["features"]), expected)


def test_arrays_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="logits has 3 rows, expected 40"):
        ood.Relation().fit(features=WIDE, logits=WIDE[:3])
    with pytest.raises(TypeError, match="unknown array feature, expected some of features"):
        ood.Wepe().fit(id_val={"feature": WIDE})
    with pytest.raises(TypeError, match="head has another form than expected"):
        ood.Scale().fit(head=WIDE)
    with pytest.raises(ValueError, match="columns, expected"):
        ood.Energy().score(features=WIDE, head=make_head())


def test_empty_arrays() -> None:
    rows = make_rows(1)
    detector = ood.Ssd().fit(rows["features"])
    empty = detector.score(rows["features"][:0])
    assert empty.shape == (0,) and empty.dtype == np.float32
    with pytest.raises(ValueError, match=r"\b0 rows|no rows|1 or more"):
        ood.Ssd().fit(rows["features"][:0])


@pytest.mark.parametrize("name", ood.DETECTORS)
def test_arrays_without_columns_are_refused(name: str) -> None:
    detector = fit_on_rows(make(name))
    with pytest.raises(ValueError, match="has 0 (columns|copies), expected 1 or more"):
        detector.score(**without_columns(score_arguments(detector, make_rows(1))))
    arguments = {key: value for key, value in fit_arguments(make(name), make_rows(1)).items()
                 if key not in ("head", "ood_val")}
    if arguments:
        with pytest.raises(ValueError, match="has 0 (columns|copies), expected 1 or more"):
            make(name).fit(**without_columns(arguments))


def without_columns(arguments: dict[str, Any]) -> dict[str, Any]:
    def cut(value: Any) -> Any:
        return {key: cut(each) for key, each in value.items()} if isinstance(value, dict) else value[..., :0]

    return {key: value if key == "labels" else cut(value) for key, value in arguments.items()}


def test_no_copies_are_refused() -> None:
    with pytest.raises(ValueError, match="copy_logits has 0 copies, expected 1 or more"):
        ood.MeanMsp().score(copy_logits=np.zeros((0, 5, 3), np.float32))


COPY_VIEWS = {
    "contiguous": lambda values: values,
    "every other row": lambda values: np.repeat(values, 2, axis=1)[:, ::2],
    "some columns": lambda values: np.concatenate([values, values], axis=2)[:, :, : values.shape[2]],
    "copies in the middle": lambda values: np.ascontiguousarray(values.transpose(1, 0, 2)).transpose(1, 0, 2),
    "copies last": lambda values: np.ascontiguousarray(values.transpose(1, 2, 0)).transpose(2, 0, 1),
    "copies backwards": lambda values: values[::-1].copy()[::-1],
    "float64": lambda values: values.astype(np.float64),
    "one copy of a row": lambda values: values[:, :1],
}


@pytest.mark.parametrize("name", COPY_VIEWS)
def test_copies_of_every_layout(name: str) -> None:
    rows = make_rows(1)
    values = COPY_VIEWS[name](rows["copy_logits"])
    expected = ood.CopyVariance().score(copy_logits=np.ascontiguousarray(values, np.float32))
    assert same_bits(ood.CopyVariance().score(copy_logits=values), expected)
    assert same_bits(ood.MeanMsp().score(copy_logits=values),
                     ood.MeanMsp().score(copy_logits=np.ascontiguousarray(values, np.float32)))


@pytest.mark.parametrize("name", ["contiguous", "every other row", "some columns"])
def test_copies_are_used_where_they_lie(name: str) -> None:
    values = COPY_VIEWS[name](make_rows(1)["copy_features"])
    assert values.shape[0] == COPIES
    assert address(values, "copy_features") == values.ctypes.data


def test_layers_and_logits_are_used_where_they_lie() -> None:
    rows = make_rows(1)
    given = {name: rows[name] for name in ("features", "logits", "labels", "layers")}
    addresses = _arrays.as_arrays(given).addresses
    expected = {name: rows[name].ctypes.data for name in ("features", "logits", "labels")}
    expected |= {f"layers/{name}": values.ctypes.data for name, values in rows["layers"].items()}
    assert addresses == expected


def test_arrays_stay_alive_while_they_are_used() -> None:
    """The views hold what they look at, also a copy that nobody else knows."""
    arrays = _arrays.as_arrays({"logits": WIDE.astype(np.float64)})
    np.full(WIDE.shape, 7, np.float32)  # would lie where the copy lay
    source = ood._ood.Source(arrays)
    del arrays
    assert np.array_equal(source.read("logits"), WIDE)


def test_scores_are_the_callers_own() -> None:
    first = scores(WIDE)
    kept = first.copy()
    scores(-WIDE)
    assert first.flags.owndata and first.flags.writeable and np.array_equal(first, kept)


def test_rows_with_nan_and_infinity() -> None:
    values = WIDE.copy()
    values[3, 2], values[5, 0] = np.nan, np.inf
    found = ood.Energy().score(values)
    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 5]
    with pytest.raises(ValueError, match="has NaN at row 3, column 2"):
        ood.Ssd().fit(values)


# Peak memory, in a process of its own: what the largest resident size grows by during the call.
PEAK = """
import sys
import numpy as np, ood

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

case = sys.argv[1]
small = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
ood.Energy().score(small, threads=2), ood.MaxCosine().fit(small, np.arange(64) % 2, threads=2)
dtype = np.float64 if case == "float64" else np.float32
rows = np.ones((400_000_000 // 1000 // np.dtype(dtype).itemsize, 1000), dtype)
if case == "strided":
    rows = rows[1::2, 10:]
labels = np.arange(len(rows)) % 2
before = peak()
if case == "fit":
    ood.MaxCosine().fit(rows, labels, threads=2)
else:
    ood.Energy().score(rows, threads=2)
print(rows.size * 4, peak() - before)
"""


@pytest.mark.parametrize(("case", "copies"), [("score", 0), ("strided", 0), ("fit", 0), ("float64", 1)])
def test_peak_memory(python: Any, case: str, copies: int) -> None:
    """float64 shows that the measure sees a copy, and that there is one, not two."""
    size, growth = map(int, python(PEAK, case).stdout.split())
    assert copies * size <= growth + (1 << 20)
    assert growth < copies * size + 24e6, f"{growth / 1e6:.0f} MB for an array of {size / 1e6:.0f} MB"


def test_masked_and_sparse_arrays_are_refused_with_what_to_do() -> None:
    for call in (lambda values: ood.Ssd().fit(values), lambda values: ood.Ssd().fit(WIDE).score(values)):
        with pytest.raises(TypeError, match=r"features is a masked array.*\.filled\(\)"):
            call(np.ma.masked_array(WIDE, WIDE > 0))
        sparse = pytest.importorskip("scipy.sparse")
        with pytest.raises(TypeError, match=r"features is sparse.*\.toarray\(\)"):
            call(sparse.csr_matrix(WIDE))
