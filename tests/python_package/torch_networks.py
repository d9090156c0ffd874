"""Small networks, their forward passes in NumPy, and loaders: what the tests of ood.torch.extract share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="ood.torch needs torch")
h5py = pytest.importorskip("h5py", reason="the files are read by h5py")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import ood  # noqa: E402
import ood.torch  # noqa: E402
from ood.torch import extract  # noqa: E402


INPUTS, HIDDEN, WIDTH, CLASSES = 12, 9, 7, 5
ROWS = {"train": 130, "id_test": 75, "csid/blur": 20, "ood/noise": 50, "ood_val/noise": 9}


class Mlp(nn.Module):
    """The head is neither the `nn.Linear` registered last nor the one that runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)
        self.hidden = nn.Linear(INPUTS, HIDDEN)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(HIDDEN, WIDTH)
        self.projection = nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.relu(self.last(self.relu(self.hidden(x)))))
        logits = self.head(x)
        self.projection(x)
        return logits


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.relu(self.norm(self.conv(x)))).flatten(1))


def make_mlp() -> Mlp:
    torch.manual_seed(3)
    return Mlp().eval()


def make_convnet() -> ConvNet:
    torch.manual_seed(4)
    model = ConvNet().eval()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def weights_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def mlp_by_numpy(w: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    hidden = x @ w["hidden.weight"].T + w["hidden.bias"]
    last = relu(hidden) @ w["last.weight"].T + w["last.bias"]
    logits = relu(last) @ w["head.weight"].T + w["head.bias"]
    return {"features": relu(last), "logits": logits, "hidden": hidden, "last": last}


def convnet_by_numpy(w: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    conv = np.einsum("nchwij,ocij->nohw", windows, w["conv.weight"])
    conv += w["conv.bias"][:, None, None]
    mean, var = w["norm.running_mean"], w["norm.running_var"]
    scale = w["norm.weight"] / np.sqrt(var + 1e-5)
    norm = (conv - mean[:, None, None]) * scale[:, None, None] + w["norm.bias"][:, None, None]
    features = relu(norm).mean((2, 3))
    return {
        "features": features,
        "logits": features @ w["fc.weight"].T,
        "conv": conv.mean((2, 3)),
        "norm": norm.mean((2, 3)),
    }


def perturbed(
    w: dict[str, np.ndarray], names: list[str], sigma: float, seed: int, k: int
) -> dict[str, np.ndarray]:
    """The documented formula. `names` are the weights in the order of the modules."""
    random = np.random.default_rng([seed, k])
    changed = dict(w)
    for name in names:
        noise = random.standard_normal(w[name].shape, dtype=np.float32).astype(np.float64)
        changed[name] = w[name] + sigma * np.sqrt(np.mean(w[name] ** 2)) * noise
    return changed


MLP_WEIGHTS = ["head.weight", "hidden.weight", "last.weight", "projection.weight"]


def make_rows(count: int, seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *(shape or (INPUTS,)), generator=generator)


def labels_of(rows: torch.Tensor) -> torch.Tensor:
    return torch.arange(len(rows)) % CLASSES


def make_loader(rows: torch.Tensor, size: int = 16, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(rows, labels_of(rows)), batch_size=size, **options)


@pytest.fixture(scope="module")
def rows() -> dict[str, torch.Tensor]:
    return {name: make_rows(n, i) for i, (name, n) in enumerate(ROWS.items())}


@pytest.fixture()
def loaders(rows: dict[str, torch.Tensor]) -> dict[str, DataLoader]:
    return {name: make_loader(values) for name, values in rows.items()}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of 16 rows, so that a split has several shards."""
    monkeypatch.setattr(ood.torch, "_SHARD_ROWS", 40)


def run(model: nn.Module, loader: Any, layer: str | None = None, **options: Any) -> Path:
    return extract(model, loader, layer, **{"progress": False, **options})


def arrays(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return found


class Failing(Mlp):
    """Raises in a forward pass, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.calls == self.at:
            raise RuntimeError("device on fire")
        self.calls += 1
        return super().forward(x)


class Wrapped(Mlp):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(super().forward(x))
