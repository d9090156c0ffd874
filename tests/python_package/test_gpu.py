"""Arrays on a GPU, and device=. Where there is none: what is read of such arrays, and every error."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ood
from ood import _gpu, _ood

from conftest import SOURCE, make_rows

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


class Interface:
    """What __cuda_array_interface__ shows; its memory is the processor's, and nothing reads it."""

    def __init__(self, array: np.ndarray, **changes: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = {"shape": array.shape, "typestr": array.dtype.str,
                                         "data": (array.ctypes.data, False), "strides": array.strides,
                                         "version": 3, "stream": None} | changes


class Dlpack:
    """What PyTorch and CuPy show."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.array, self.place = array, device
        self.streams: list[Any] = []
        self.device = DeviceOf(device[1])

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__()


class DeviceOf:
    """CuPy's way to say which GPU is the current one."""

    entered: list[int] = []

    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> None:
        DeviceOf.entered.append(self.index)

    def __exit__(self, *error: object) -> None:
        pass


class Model:
    """Takes what would be scored."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, int, str, int]] = []

    def score_in_place(self, arrays: Any, out: int, device: str, stream: int) -> None:
        self.calls.append((arrays, out, device, stream))


def scored(arrays: dict[str, Any], device: str | None = None, out: Any = None) -> tuple[Any, Any, int, str, int]:
    model = Model()
    result = _gpu.score(model, arrays, device, out)  # type: ignore[arg-type]
    (call,) = model.calls
    return result, *call


def message(call: Any, kind: type[Exception]) -> str:
    with pytest.raises(kind) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# What is read

@pytest.mark.parametrize("make", [Interface, Dlpack])
@pytest.mark.parametrize("rows", [ROWS, np.arange(40, dtype=np.float32).reshape(4, 10)[::2, 3:6], ROWS[:0]])
def test_addresses_and_rows_are_those_of_the_array(make: Any, rows: np.ndarray) -> None:
    scores = np.zeros(len(rows), np.float32)
    out = make(scores)
    result, arrays, address, device, stream = scored({"features": make(rows)}, out=out)
    assert result is out
    assert (arrays.rows, address, device, stream) == (len(rows), scores.ctypes.data, "cuda:0", 1)
    if len(rows):
        assert arrays.addresses == {"features": rows.ctypes.data}


def test_every_array_that_is_scored_is_read() -> None:
    given = {"features": ROWS, "logits": ROWS[:, :2], "layers": {"a": ROWS, "b": ROWS[:, 1:]},
             "copy_features": np.zeros((2, 4, 3), np.float32), "copy_logits": None}
    arrays = _gpu.by_name({name: {key: Dlpack(layer) for key, layer in value.items()} if name == "layers"
                           else None if value is None else Dlpack(value) for name, value in given.items()})
    assert list(arrays) == ["features", "logits", "copy_features", "layers/a", "layers/b"]
    _, read, *_ = scored(arrays, out=Dlpack(np.zeros(4, np.float32)))
    assert read.addresses == {name: value.array.ctypes.data for name, value in arrays.items()}


def test_the_offset_of_dlpack_counts() -> None:
    view = _gpu._view(Dlpack(ROWS[1:, :2]), "features", 1)
    assert (view.ctypes.data, view.shape, view.strides) == (ROWS.ctypes.data + 12, (3, 2), (12, 4))


def test_strides_may_be_missing() -> None:
    view = _gpu._view(Interface(ROWS, strides=None), "features", 1)
    assert view.strides == (12, 4)
    tensor = Dlpack(ROWS)
    capsule = tensor.__dlpack__()
    pointer = ctypes.cast(_gpu._pointer_in(capsule, b"dltensor"), ctypes.POINTER(_gpu._DLTensor))
    pointer.contents.strides = None
    pointer.contents.byte_offset = 0
    tensor.__dlpack__ = lambda stream: capsule  # type: ignore[method-assign]
    assert _gpu._view(tensor, "features", 1).strides == (12, 4)


def test_memory_is_kept_while_it_is_in_use_and_no_longer() -> None:
    rows = np.zeros((4, 3), np.float32)
    before = sys.getrefcount(rows)
    view = _gpu._view(Dlpack(rows), "features", 1)
    assert sys.getrefcount(rows) > before
    del view
    assert sys.getrefcount(rows) == before


# Streams and libraries

@pytest.mark.parametrize(("own", "expected"), [(None, 1), (1, 1), (2, 2), (4711, 4711)])
def test_the_stream_of_the_interface_is_taken(own: int | None, expected: int) -> None:
    out = Interface(np.zeros(4, np.float32))
    *_, stream = scored({"features": Interface(ROWS, stream=own)}, out=out)
    assert stream == expected


@pytest.mark.parametrize("handle", [0, 4711])
@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_libraries_give_their_stream_and_the_result(monkeypatch: pytest.MonkeyPatch, name: str, handle: int) -> None:
    """PyTorch's and CuPy's default stream is 0, which DLPack calls 1."""
    made: list[Any] = []

    def empty(rows: int, **options: Any) -> Dlpack:
        made.append(options)
        return Dlpack(np.zeros(rows, np.float32), (2, 1))

    if name == "torch":
        cuda = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream=handle + device.index - 1),
                               device=lambda device: device)
        library = SimpleNamespace(__name__=name, Tensor=Dlpack, cuda=cuda, empty=empty, float32="f4")
    else:
        cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=handle))
        library = SimpleNamespace(__name__=name, ndarray=Dlpack, cuda=cuda, empty=empty)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, name, library)
    DeviceOf.entered.clear()
    rows = Dlpack(ROWS, (2, 1))
    result, _, address, device, stream = scored({"features": rows})
    assert (device, stream, rows.streams) == ("cuda:1", handle or 1, [handle or 1])
    assert result.array.shape == (4,) and result.array.ctypes.data == address
    assert result.streams == rows.streams
    assert made == [{"dtype": "f4", "device": rows.device} if name == "torch" else {"dtype": "float32"}]
    # to read both arrays; CuPy also to tell the stream and to make the result
    assert DeviceOf.entered == ([1, 1] if name == "torch" else [1, 1, 1, 1])


# Errors

@pytest.mark.parametrize("make", [Interface, Dlpack])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "int64", "bool"])
def test_other_types_are_refused(make: Any, dtype: str) -> None:
    rows = ROWS.astype(dtype)
    if make is Dlpack:
        try:
            rows.__dlpack__()
        except BufferError as error:  # of bool, before NumPy 1.25
            pytest.skip(f"NumPy: {error}")
    text = message(lambda: ood.Msp().score(make(rows)), TypeError)
    assert text.startswith(f"logits has dtype {dtype}, expected float32")


@pytest.mark.parametrize("make", [Interface, Dlpack])
@pytest.mark.parametrize("rows", [ROWS.T, ROWS[:, ::2], ROWS[::-1], np.broadcast_to(ROWS[:1], (4, 3))])
def test_rows_in_pieces_are_refused(make: Any, rows: np.ndarray) -> None:
    if make is Dlpack and not rows.flags.writeable:
        pytest.skip("NumPy's DLPack has no read-only arrays")
    text = message(lambda: ood.Msp().score(make(rows), out=make(np.zeros(len(rows), np.float32))), ValueError)
    assert text.startswith("logits has rows that overlap, or entries of a row apart") and ".contiguous()" in text


@pytest.mark.parametrize(("out", "kind", "expected"), [
    (Dlpack(np.zeros(5, np.float32)), ValueError, "out has shape [5], expected [4]"),
    (Dlpack(np.zeros((4, 1), np.float32)), ValueError, "out has shape [4, 1], expected [4]"),
    (Dlpack(np.zeros(8, np.float32)[::2]), ValueError, "out has rows that overlap, or entries"),
    (Dlpack(np.zeros(4)), TypeError, "out has dtype float64, expected float32"),
    (Interface(np.zeros(4, np.float32), data=(4096, True)), ValueError, "out is read-only"),
    (np.zeros(4, np.float32), TypeError, "out is in the memory of the CPU and others are on a GPU"),
    (Dlpack(np.zeros(4, np.float32), (2, 1)), ValueError, "arrays lie on cuda:0 and cuda:1, expected one device"),
    (None, TypeError, "out has nothing, expected an array of 4 float32 on the same GPU, as rows are a Dlpack"),
])
def test_a_wrong_out_is_refused(out: Any, kind: type[Exception], expected: str) -> None:
    assert message(lambda: ood.Msp().score(Dlpack(ROWS), out=out), kind).startswith(expected)


def test_two_devices_are_refused() -> None:
    detector = ood.GradNorm()
    other = np.zeros((4, 2), np.float32)
    text = message(lambda: detector.score(features=Dlpack(ROWS), logits=Dlpack(other, (2, 1))), ValueError)
    assert text == "arrays lie on cuda:0 and cuda:1, expected one device"
    text = message(lambda: detector.score(features=Dlpack(ROWS), logits=other), TypeError)
    assert text == "logits is in the memory of the CPU and others are on a GPU, expected all on one device"
    text = message(lambda: detector.score(features=Dlpack(ROWS), head=(other, other)), TypeError)
    assert text == "head was given beside arrays on a GPU, where logits are not computed: give logits"


@pytest.mark.parametrize(("rows", "device", "expected"), [
    (Dlpack(ROWS, (2, 1)), "cuda", "device has cuda:0, expected cuda:1, where the arrays lie"),
    (Dlpack(ROWS, (13, 1)), "cpu", "device has cpu, expected cuda:1, where the arrays lie"),
    (Interface(ROWS), "cpu", "device has cpu, expected cuda, where the arrays lie"),
    (Interface(ROWS), "gpu", "device has gpu, expected cpu, cuda or cuda:<index>"),
    (ROWS, "gpu", "device has gpu, expected cpu, cuda or cuda:<index>"),
    (ROWS, "", "device has , expected cpu, cuda or cuda:<index>"),
])
def test_another_device_is_refused(rows: Any, device: str, expected: str) -> None:
    assert expected in message(lambda: ood.Msp().score(rows, device=device), ValueError)


def test_the_device_says_where_the_interface_lies() -> None:
    out = Interface(np.zeros(4, np.float32))
    _, _, _, device, _ = scored({"features": Interface(ROWS)}, "cuda:3", out)
    assert device == "cuda:3"


def test_two_streams_and_masks_are_refused() -> None:
    out = Interface(np.zeros(4, np.float32), stream=7)
    assert "out is of stream 7 and others of 5, expected one" in message(
        lambda: ood.Msp().score(Interface(ROWS, stream=5), out=out), ValueError)
    assert "logits has a mask" in message(lambda: ood.Msp().score(Interface(ROWS, mask=out), out=out), TypeError)


def test_what_a_library_refuses_is_passed_on() -> None:
    class WithGradient(Dlpack):
        def __dlpack__(self, *, stream: Any = None) -> Any:
            raise BufferError("Can't export tensors that require gradient")

    text = message(lambda: ood.Msp().score(WithGradient(ROWS), out=Dlpack(np.zeros(4, np.float32))), TypeError)
    assert text.startswith("logits cannot be read: Can't export") and ".detach()" in text


@pytest.mark.parametrize("make", [Interface, Dlpack])
def test_all_but_score_refuses_arrays_on_a_gpu(make: Any) -> None:
    detector = ood.Msp().calibrate(ROWS)
    for call, name in ((lambda: ood.Ssd().fit(make(ROWS)), "features"),
                       (lambda: ood.Knn(k=1).fit(features=make(ROWS)), "features"),
                       (lambda: detector.calibrate(make(ROWS)), "logits"),
                       (lambda: detector.p_value(make(ROWS)), "logits"),
                       (lambda: ood.metrics.auroc(make(ROWS[0]), ROWS[1]), "id")):
        text = message(call, TypeError)
        assert text.startswith(f"{name} is on a GPU, where Detector.score alone reads it; all else, fit too,")
        assert text.endswith(f"give {name}.cpu()")


def test_out_is_for_arrays_on_a_gpu() -> None:
    for out in (np.zeros(4, np.float32), Dlpack(np.zeros(4, np.float32))):
        assert "out was given, which is for arrays on a GPU" in message(
            lambda: ood.Msp().score(ROWS, out=out), TypeError)


# device=

def test_cpu_is_a_device() -> None:
    detector = ood.Msp().calibrate(ROWS, device="cpu")
    assert np.array_equal(detector.score(ROWS, device="cpu"), detector.score(ROWS))
    assert np.array_equal(detector.p_value(ROWS, device="cpu"), detector.p_value(ROWS))
    assert np.array_equal(detector.accepts(ROWS, device="cpu"), detector.accepts(ROWS))


def test_devices_are_listed() -> None:
    devices = ood.devices()
    assert [each.device for each in devices] == [f"cuda:{i}" for i in range(len(devices))]
    for each in devices:
        assert each.name and each.compute_capability > (5, 0) and 0 < each.free <= each.memory


def test_a_device_that_is_not_there_is_a_runtime_error() -> None:
    """No OSError, which is for files."""
    dataset = ood.open(SOURCE / "examples/data/digits.h5")
    missing = f"cuda:{len(ood.devices())}"
    detector = ood.Energy()
    for call in (lambda: detector.score(ROWS, device=missing),
                 lambda: detector.score(dataset.id_test, device=missing),
                 lambda: detector.calibrate(dataset.id_val, device=missing),
                 lambda: ood.Energy().calibrate(ROWS).accepts(ROWS, device=missing),
                 lambda: ood.evaluate(dataset, device=missing),
                 lambda: ood.evaluate(dataset, "energy", device=missing),
                 lambda: detector.score(Interface(ROWS), device=missing, out=Interface(np.zeros(4, np.float32)))):
        assert "device" in message(call, RuntimeError)


# On a GPU

def torch_on_gpu() -> Any:
    if not ood.devices() or importlib.util.find_spec("torch") is None:
        pytest.skip("needs a GPU, a package built with CUDA, and PyTorch")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return torch


def close(got: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.max(np.abs(got - expected)) <= 2e-5 * (expected.max() - expected.min()))


def test_scores_of_tensors_are_those_of_the_processor() -> None:
    torch = torch_on_gpu()
    arrays = make_rows(1)
    for detector in (ood.Energy(), ood.Mahalanobis().fit(features=arrays["features"], labels=arrays["labels"])):
        name = detector.needs["score"][0]
        expected = detector.score(arrays[name])
        assert close(detector.score(arrays[name], device="cuda"), expected)
        rows = torch.as_tensor(arrays[name]).cuda()
        scores = detector.score(rows)
        assert scores.device == rows.device and scores.dtype == torch.float32
        assert close(scores.cpu().numpy(), expected)
        wide = torch.full((len(rows), rows.shape[1] + 5), float("nan"), device="cuda")
        wide[:, :rows.shape[1]] = rows
        out = torch.empty(len(rows), device="cuda")
        assert detector.score(wide[:, :rows.shape[1]], out=out) is out
        assert torch.equal(out, scores)


def test_scores_are_work_of_the_current_stream() -> None:
    """What was given to the stream before is done before: the rows are there only then."""
    torch = torch_on_gpu()
    rows = torch.zeros(20_000, 1_000, device="cuda")
    later = torch.randn_like(rows)
    expected = ood.Energy().score(later.cpu().numpy())
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            rows.copy_(later + 1)
        rows.copy_(later)
        scores = ood.Energy().score(rows)
        got = scores.cpu().numpy()
    assert close(got, expected)


def test_evaluate_on_a_device() -> None:
    torch_on_gpu()
    dataset = SOURCE / "examples/data/digits.h5"
    here, there = (ood.evaluate(dataset, ["energy", "mahalanobis"], device=each) for each in ("cpu", "cuda"))
    for a, b in zip(here.rows, there.rows):
        assert a["auroc"] == pytest.approx(b["auroc"], abs=1e-4)
