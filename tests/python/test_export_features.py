"""Tests of examples/export_features.py: what it writes, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="examples/export_features.py needs torch")
h5py = pytest.importorskip("h5py", reason="examples/export_features.py needs h5py")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "export_features.py"
spec = importlib.util.spec_from_file_location("export_features", SCRIPT)
exporter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exporter)

INPUTS, WIDTH, CLASSES = 12, 7, 5
ROWS = {"train": 2500, "id_val": 60, "id_test": 1024, "csid/blurred": 50}
OOD_ROWS = {"ood_val/noise": 30, "ood/svhn": 1025, "ood/cifar": 41}
KINDS = {"ood_val/noise": "far", "ood/svhn": "far", "ood/cifar": "near"}


def make_model() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, WIDTH),
        torch.nn.BatchNorm1d(WIDTH),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(WIDTH, CLASSES),
    )


class Repeated(torch.nn.Module):
    """Calls its layer `calls` times in a forward pass."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.fc = calls, torch.nn.Linear(INPUTS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum((self.fc(x) for _ in range(self.calls)), torch.zeros(()))


def make_images(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, INPUTS, generator=torch.Generator().manual_seed(seed))


def labels_of(images: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(images)) % CLASSES


def batches(images: torch.Tensor, size: int = 77) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(part, label) for part, label in zip(images.split(size), labels_of(images).split(size))]


def small_arguments() -> dict[str, Any]:
    return {"train": batches(make_images(20, 0))}


def arrays(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return found


@pytest.fixture(scope="module")
def images() -> dict[str, torch.Tensor]:
    return {name: make_images(n, i) for i, (name, n) in enumerate({**ROWS, **OOD_ROWS}.items())}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, images: dict[str, torch.Tensor]) -> Path:
    """A full export, with a batch size that divides neither the splits nor the chunks."""
    path = tmp_path_factory.mktemp("export") / "features.h5"
    exporter.export_features(
        make_model(),
        path,
        train=batches(images["train"]),
        id_val=iter(batches(images["id_val"], 1)),
        id_test=batches(images["id_test"], 2000),
        csid={"blurred": batches(images["csid/blurred"], 13)},
        # The three forms of an outlier loader: (images, anything), images alone, a real DataLoader.
        ood_val={"noise": ("far", [(images["ood_val/noise"], None)])},
        ood={
            "svhn": ("far", list(images["ood/svhn"].split(100))),
            "cifar": ("near", torch.utils.data.DataLoader(images["ood/cifar"], batch_size=8)),
        },
        model_name="small network",
        id_dataset="random numbers",
    )
    return path


def test_layout_and_attributes(exported: Path) -> None:
    expected = {"head/weight": (CLASSES, WIDTH), "head/bias": (CLASSES,)}
    for name, rows in {**ROWS, **OOD_ROWS}.items():
        expected |= {f"{name}/features": (rows, WIDTH), f"{name}/logits": (rows, CLASSES)}
        if name in ROWS:
            expected[f"{name}/labels"] = (rows,)
    found = arrays(exported)
    assert {name: array.shape for name, array in found.items()} == expected
    for name, array in found.items():
        assert array.dtype == (np.int64 if name.endswith("labels") else np.float32), name
    with h5py.File(exported, "r") as file:
        assert file.attrs["model"] == "small network"
        assert file.attrs["id_dataset"] == "random numbers"
        assert file.attrs["num_classes"] == CLASSES
        assert {name: file[name].attrs["kind"] for name in KINDS} == KINDS
        features = file["train/features"]
        assert features.chunks == (1024, WIDTH)
        assert (features.compression, features.compression_opts) == ("gzip", 4)
        assert features.shuffle


def test_rows_are_the_networks_in_order(exported: Path, images: dict[str, torch.Tensor]) -> None:
    model = make_model().eval()
    found = arrays(exported)
    for name, rows in images.items():
        with torch.no_grad():
            features = model[:-1](rows)
            logits = model[-1](features)
        np.testing.assert_allclose(found[f"{name}/features"], features, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[f"{name}/logits"], logits, atol=1e-5, err_msg=name)
        if name in ROWS:
            np.testing.assert_array_equal(found[f"{name}/labels"], labels_of(rows), err_msg=name)


def test_head_reproduces_logits(exported: Path) -> None:
    found = arrays(exported)
    for name in {**ROWS, **OOD_ROWS}:
        logits = found[f"{name}/features"] @ found["head/weight"].T + found["head/bias"]
        np.testing.assert_allclose(logits, found[f"{name}/logits"], atol=1e-4, err_msg=name)


def test_layer_without_bias_gets_zeros(tmp_path: Path) -> None:
    model = torch.nn.Linear(INPUTS, CLASSES, bias=False)
    exporter.export_features(model, tmp_path / "f.h5", **small_arguments())
    found = arrays(tmp_path / "f.h5")
    assert not found["head/bias"].any() and found["head/bias"].shape == (CLASSES,)
    np.testing.assert_allclose(
        found["train/features"] @ found["head/weight"].T, found["train/logits"], atol=1e-5
    )


def test_dtype_and_defaults(tmp_path: Path) -> None:
    loader = [(make_images(20, 0).double(), list(range(5)) * 4)]  # labels need not be tensors
    exporter.export_features(
        make_model().double(), tmp_path / "f.h5", train=loader, dtype="float64"
    )
    assert arrays(tmp_path / "f.h5")["train/features"].dtype == np.float64
    with h5py.File(tmp_path / "f.h5", "r") as file:
        assert (file.attrs["model"], file.attrs["id_dataset"]) == ("Sequential", "unknown")


def test_later_changes_in_place_do_not_reach_the_file(tmp_path: Path) -> None:
    class InPlace(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(INPUTS, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = self.fc(x)
            x.zero_()
            return logits.zero_()

    rows = make_images(20, 0)
    exporter.export_features(InPlace(), tmp_path / "f.h5", train=batches(rows.clone()))
    found = arrays(tmp_path / "f.h5")
    np.testing.assert_array_equal(found["train/features"], rows)
    assert found["train/logits"].any()


def test_model_runs_in_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    seen: set[tuple[bool, bool]] = set()

    class Watched(Repeated):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    exporter.export_features(Watched(1).train(), tmp_path / "f.h5", **small_arguments())
    assert seen == {(False, False)}


def test_only_whole_chunks_are_written_before_the_end(tmp_path: Path) -> None:
    """Rows wait in memory only until they fill a chunk."""
    path = tmp_path / "f.h5"
    written: list[int] = []
    real = exporter._Rows._write

    def spy(self: Any, count: int) -> None:
        real(self, count)
        if self._name == "features":
            written.append(count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter._Rows, "_write", spy)
        exporter.export_features(make_model(), path, train=batches(make_images(3000, 0), 700))
    assert written == [1024, 1024, 952]


def fails(
    tmp_path: Path, message: str, model: torch.nn.Module | None = None, **arguments: Any
) -> None:
    """The export raises, and an older file stays as it was, with nothing beside it."""
    path = tmp_path / "f.h5"
    path.write_bytes(b"older")
    model = make_model() if model is None else model
    with pytest.raises((ValueError, TypeError), match=message):
        exporter.export_features(model, path, **{**small_arguments(), **arguments})
    assert path.read_bytes() == b"older"
    path.unlink()
    with pytest.raises((ValueError, TypeError)):
        exporter.export_features(model, path, **{**small_arguments(), **arguments})
    assert list(tmp_path.iterdir()) == []
    assert not any(module._forward_hooks for module in model.modules())


def test_no_linear_layer(tmp_path: Path) -> None:
    fails(tmp_path, "ReLU has no nn.Linear layer", torch.nn.ReLU())


@pytest.mark.parametrize("empty", [[], [(make_images(0, 0), torch.arange(0))]])
def test_loader_without_rows(tmp_path: Path, empty: list) -> None:
    fails(tmp_path, "id_test: the loader yielded no rows", id_test=empty)
    fails(tmp_path, "ood/svhn: the loader yielded no rows", ood={"svhn": ("far", empty)})


@pytest.mark.parametrize("calls", [0, 2])
def test_layer_not_called_once(tmp_path: Path, calls: int) -> None:
    fails(tmp_path, f"train: the last nn.Linear layer was called {calls} times", Repeated(calls))


def test_input_by_keyword(tmp_path: Path) -> None:
    class Keyword(Repeated):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(input=x)

    fails(tmp_path, "got its input by keyword", Keyword(1))


@pytest.mark.parametrize("parent", ["ood", "ood_val"])
def test_unknown_kind(tmp_path: Path, parent: str) -> None:
    loader = batches(make_images(4, 0))
    fails(tmp_path, f"{parent}/svhn: kind has 'middle'", **{parent: {"svhn": ("middle", loader)}})
    fails(tmp_path, f"{parent}/svhn: kind has 'list'", **{parent: {"svhn": loader}})


def test_set_name_with_a_slash(tmp_path: Path) -> None:
    fails(tmp_path, "csid has a set 'a/b'", csid={"a/b": batches(make_images(4, 0))})


@pytest.mark.parametrize("wrong", [-1, CLASSES])
def test_label_out_of_range(tmp_path: Path, wrong: int) -> None:
    loader = batches(make_images(40, 0), 9)
    loader[2][1][3] = wrong
    fails(tmp_path, f"id_val: labels has {wrong} in row 21, expected 0 to 4", id_val=loader)


def test_missing_or_wrong_labels(tmp_path: Path) -> None:
    rows = make_images(4, 0)
    fails(tmp_path, "train: the loader yields no labels", train=[rows])
    fails(tmp_path, "train: the loader yields no labels", train=[(rows,)])
    fails(tmp_path, r"labels has float32 \[4\], expected integers", train=[(rows, rows[:, 0])])
    fails(tmp_path, r"labels has int64 \[3\], expected integers", train=[(rows, [0, 1, 2])])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_output(tmp_path: Path, value: float) -> None:
    rows = make_images(40, 0)
    rows[31, 2] = value
    message = "ood/svhn: features has a non-finite value in row 31"
    model = torch.nn.Linear(INPUTS, CLASSES)
    fails(tmp_path, message, model, ood={"svhn": ("far", batches(rows, 9))})


def test_overflow_of_a_narrow_dtype(tmp_path: Path) -> None:
    message = "train: features has a non-finite value in row 0"
    model = torch.nn.Linear(INPUTS, CLASSES)
    fails(tmp_path, message, model, train=batches(1e6 * make_images(4, 0)), dtype="float16")


def test_unpooled_features(tmp_path: Path) -> None:
    message = r"features has shape \[4, 3, 12\].*must pool"
    model = torch.nn.Linear(INPUTS, CLASSES)
    fails(tmp_path, message, model, train=batches(torch.zeros(4, 3, INPUTS)))


def test_rows_that_are_not_one_for_each_image(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(0, 1), torch.nn.Linear(INPUTS, CLASSES))
    crops = torch.zeros(4, 3, INPUTS)
    fails(tmp_path, "features has 12 rows, expected 4", model, train=batches(crops))


def test_images_that_are_no_tensor(tmp_path: Path) -> None:
    fails(tmp_path, "images has str, expected a torch.Tensor", ood={"svhn": ("far", ["a"])})


def test_unknown_dtype(tmp_path: Path) -> None:
    fails(tmp_path, "dtype has 'int8', expected one of", dtype="int8")


def test_broken_loader_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Any:
        yield batches(make_images(20, 0))[0]
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        exporter.export_features(make_model(), tmp_path / "f.h5", train=broken())
    assert list(tmp_path.iterdir()) == []


def test_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = make_model().train()
    model[1].eval()  # frozen, as in fine-tuning
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for wrong in (False, True):
        arguments = {"id_test": []} if wrong else {}
        try:
            exporter.export_features(model, tmp_path / "f.h5", **small_arguments(), **arguments)
        except ValueError:
            assert wrong
        assert [module.training for module in model.modules()] == modes
        assert not any(module._forward_hooks for module in model.modules())
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert torch.is_grad_enabled()


def test_find_last_linear() -> None:
    model = make_model()
    assert exporter.find_last_linear(model) is model[-1]


def test_same_export_gives_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        exporter.export_features(make_model(), tmp_path / name, **small_arguments())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_script_writes_its_demonstration(tmp_path: Path) -> None:
    path = tmp_path / "demo.h5"
    subprocess.run([sys.executable, SCRIPT, "--out", path], check=True, capture_output=True)
    found = arrays(path)
    logits = found["train/features"] @ found["head/weight"].T + found["head/bias"]
    np.testing.assert_allclose(logits, found["train/logits"], atol=1e-4)


def report_rows(report: Any) -> list:
    """The rows of a JSON report: the report itself, or the first list in it."""
    if isinstance(report, list):
        return report
    return next((value for value in report.values() if isinstance(value, list)), [])


@pytest.mark.skipif(
    not os.environ.get("OOD_COMMAND"), reason="OOD_COMMAND does not name the ood executable"
)
def test_command_reads_the_file(exported: Path) -> None:
    command = os.environ["OOD_COMMAND"]
    inspect = subprocess.run([command, "inspect", exported], capture_output=True, text=True)
    assert inspect.returncode == 0, inspect.stderr
    evaluate = subprocess.run(
        [command, "eval", exported, "--format", "json"], capture_output=True, text=True
    )
    assert evaluate.returncode == 0, evaluate.stderr
    assert report_rows(json.loads(evaluate.stdout))


def test_head_stays_precise(tmp_path: Path) -> None:
    loader = [(make_images(20, 0), list(range(5)) * 4)]
    exporter.export_features(make_model(), tmp_path / "f.h5", train=loader, dtype="float16")
    written = arrays(tmp_path / "f.h5")
    assert written["train/features"].dtype == np.float16
    assert written["head/weight"].dtype == np.float32
