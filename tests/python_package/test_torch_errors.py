"""The progress bar of ood.torch.extract, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="ood.torch needs torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from ood.torch import extract  # noqa: E402
from torch_networks import (  # noqa: E402, F401
    arrays,
    CLASSES,
    INPUTS,
    labels_of,
    loaders,
    make_mlp,
    make_rows,
    Mlp,
    relu,
    rows,
    run,
    small_shards,
    Wrapped,
)


def test_progress(tmp_path: Path, capfd: Any, loaders: dict[str, DataLoader]) -> None:
    extract(make_mlp(), loaders, path=tmp_path / "f.h5")
    out, err = capfd.readouterr()
    last = err.split("\r")[-1]
    assert out == "" and "ood_val/noise" in last and "284/284" in last  # all rows
    extract(make_mlp(), loaders, path=tmp_path / "f.h5", progress=False)
    assert capfd.readouterr() == ("", "")


# Errors


def fails(
    tmp_path: Path,
    message: str,
    loader: Any = None,
    model: nn.Module | None = None,
    error: type[Exception] = ValueError,
    **options: Any,
) -> None:
    """Raises before anything is kept: an older file stays, and there is no folder."""
    path = tmp_path / "f.h5"
    path.write_bytes(b"older")
    loader = [make_rows(4, 0)] if loader is None else loader
    with pytest.raises(error, match=message) as raised:
        run(make_mlp() if model is None else model, loader, **{"path": path, **options})
    assert str(raised.value).startswith("extract: ") and "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"older"


def test_shuffling_loaders(tmp_path: Path) -> None:
    data = TensorDataset(make_rows(8, 0))
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * 8, 8)
    batches = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(data), 4, False)
    for loader in (
        DataLoader(data, shuffle=True),
        DataLoader(data, sampler=weighted),
        DataLoader(data, sampler=torch.utils.data.SubsetRandomSampler(range(8))),
        DataLoader(data, batch_sampler=batches),
    ):
        fails(tmp_path, "loader of train has a .*Sampler.*shuffle=False", loader)


@pytest.mark.parametrize("value, got", [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_values_that_are_not_finite(tmp_path: Path, value: float, got: str) -> None:
    values = make_rows(30, 0)
    values[19] = value
    model = nn.Sequential(nn.Linear(INPUTS, CLASSES))
    message = f"ood/noise/features has {got} at row 19, column 0"
    fails(tmp_path, message, {"ood/noise": list(values.split(8))}, model)
    fails(tmp_path, message, {"ood/noise": [values]}, model)  # in the batch that shows the head


def test_rows_are_counted_from_the_start_of_the_split(tmp_path: Path) -> None:
    """Beyond the first shard, which is kept."""
    values = make_rows(100, 0)
    values[99] = float("nan")
    model = nn.Sequential(nn.Linear(INPUTS, CLASSES))
    with pytest.raises(ValueError, match="train/features has NaN at row 99"):
        run(model, list(values.split(16)), path=tmp_path / "f.h5")
    # finite by itself, but not with a hundred times the weights
    values[99] = 1e36
    model = nn.Sequential(nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, CLASSES))
    with pytest.raises(ValueError, match="train/copies/0/.* has (NaN|infinity) at row 99"):
        run(model, list(values.split(8)), path=tmp_path / "g.h5", copies=1, sigma=1e4)


def test_copies_that_are_not_finite(tmp_path: Path) -> None:
    message = r"train/copies/0/features has (NaN|infinity) at row 0"
    fails(tmp_path, message, copies=1, sigma=1e30)


@pytest.mark.parametrize("wrong", [-1, CLASSES])
def test_labels_out_of_range(tmp_path: Path, wrong: int) -> None:
    values = make_rows(30, 0)
    labels = labels_of(values)
    labels[21] = wrong
    batches = list(zip(values.split(8), labels.split(8)))
    fails(tmp_path, rf"id_val/labels has {wrong} at row 21, expected \[0, 5\)", {"id_val": batches})


def test_wrong_labels(tmp_path: Path) -> None:
    values = make_rows(4, 0)
    fails(tmp_path, r"labels has float32 \[4\], expected integers \[4\]", [(values, values[:, 0])])
    fails(tmp_path, r"labels has int64 \[3\], expected integers \[4\]", [(values, [0, 1, 2])])
    mixed = [(values, [0] * 4), values]
    fails(tmp_path, "has labels in some batches, expected in all or in none", mixed)


def test_wrong_batches(tmp_path: Path) -> None:
    for batch in ({"pixel_values": make_rows(4, 0)}, "text", [], ([1.0], [0])):
        fails(tmp_path, r"a batch of train has .*expected \(inputs", [batch], error=TypeError)
    fails(tmp_path, "loader of ood/noise has 0 rows", {"ood/noise": []})
    fails(tmp_path, "loader of ood/noise has 0 rows", {"ood/noise": [make_rows(0, 0)]})
    fails(tmp_path, "loader has no split", {})


class Sharp(Mlp):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).softmax(1)


class ByKeyword(nn.Linear):
    def __init__(self) -> None:
        super().__init__(INPUTS, CLASSES)
        self.fc = nn.Linear(INPUTS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(input=x)


class Scaled(Mlp):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 1.0001


@pytest.mark.parametrize("model", [nn.Sequential(nn.ReLU()), Sharp(), Scaled()])
def test_no_linear_head(tmp_path: Path, model: nn.Module) -> None:
    fails(tmp_path, 'model has no nn.Linear that gives the logits.*layer="name"', model=model)


def test_logits_that_are_no_linear_map_of_a_named_layer(tmp_path: Path) -> None:
    """The logits are stored as the model gives them, and no head claims to make them."""
    found = arrays(run(Sharp(), [make_rows(4, 0)], "relu", path=tmp_path / "f.h5"))
    np.testing.assert_allclose(found["train/logits"].sum(1), 1, atol=1e-6)
    assert "head/weight" not in found


def test_wrong_outputs(tmp_path: Path) -> None:
    model = Wrapped(lambda x: "text")
    fails(tmp_path, "model's output has str, expected a tensor", model=model, error=TypeError)
    crops = nn.Sequential(nn.Flatten(0, 1), nn.Linear(INPUTS, CLASSES))
    rows_of_crops = [make_rows(4, 0, 3, INPUTS)]
    fails(tmp_path, r"features has shape \[12, 12\], expected \[4, width\]", rows_of_crops, crops)


def test_layers_that_are_not_there(tmp_path: Path) -> None:
    fails(tmp_path, "layer has 'fc9', expected one of model.named_modules", layer="fc9")
    fails(tmp_path, "layer has 'fc9'.*such as head, hidden", layers=("fc9",))
    fails(tmp_path, "layer has ''", layer="")
    fails(tmp_path, r"layers has 'last', expected a list", layers="last", error=TypeError)
    model = make_mlp()
    model.unused = nn.Linear(3, 3)
    fails(tmp_path, "train/layers/unused has no value", model=model, layers=("unused",))
    fails(tmp_path, "train/features has no value", model=model, layer="unused")


def test_wrong_copies(tmp_path: Path) -> None:
    for sigma in (None, 0, -1, float("inf"), float("nan")):
        fails(tmp_path, "sigma has .*expected a number above 0", copies=2, sigma=sigma)
    fails(tmp_path, "sigma has 0.1, expected None", sigma=0.1)
    fails(tmp_path, "sigma has 0.1, expected None", copies=2, sigma=0.1, mode="dropout")
    fails(tmp_path, "mode has 'noise', expected weights or dropout", mode="noise")
    fails(tmp_path, "copies has -1", copies=-1)
    fails(tmp_path, "seed has -1", seed=-1)
    model = nn.Sequential(nn.Dropout(0), nn.Linear(INPUTS, CLASSES))
    fails(tmp_path, "no Dropout module with p > 0", model=model, copies=2, mode="dropout")
    fails(tmp_path, "no convolution or linear", model=nn.ReLU(), copies=2, sigma=0.1)
    computed = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(INPUTS, CLASSES)))
    fails(tmp_path, "layer 0 has a weight that is computed", model=computed, copies=2, sigma=0.1)


def test_other_wrong_arguments(tmp_path: Path) -> None:
    for split in ("test", "ood", "ood/", "ood/a/b", "ood/..", "train/a"):
        fails(tmp_path, f"split has '{split}', expected train", split=split)
    loader = {"ood/noise": [make_rows(4, 0)], "train": [make_rows(4, 0)]}
    fails(tmp_path, "kind of ood/noise has 'middle'", loader, kinds={"ood/noise": "middle"})
    fails(tmp_path, "kinds has 'train'", loader, kinds={"train": "near"})
    fails(tmp_path, "kinds has 'ood/svhn'", loader, kinds={"ood/svhn": "near"})
    fails(tmp_path, "dtype has 'int8'", dtype="int8")
    fails(tmp_path, "path has a folder", path=tmp_path)
    with pytest.raises(TypeError, match="model has function, expected a torch.nn.Module"):
        run(relu, [make_rows(4, 0)], path=tmp_path / "f.h5")


def test_without_pytorch() -> None:
    code = "import sys; sys.modules['torch'] = None; import ood.torch"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: ood.torch needs PyTorch: pip install libood[torch]"
