"""Tests of ood.torch.extract: what it writes, how it is taken up again, and what it refuses."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="ood.torch needs torch")
h5py = pytest.importorskip("h5py", reason="the files are read by h5py")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, TensorDataset  # noqa: E402

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


# What is written


def test_file_of_an_mlp(
    tmp_path: Path, rows: dict[str, torch.Tensor], loaders: dict[str, DataLoader]
) -> None:
    model = make_mlp()
    kinds = {"ood/noise": "far", "ood_val/noise": "near"}
    path = run(
        model, loaders, path=tmp_path / "f.h5", kinds=kinds, id_dataset="numbers", model_name="mlp"
    )
    assert path == tmp_path / "f.h5"
    assert list(tmp_path.iterdir()) == [path]
    found = arrays(path)
    expected = {"head/weight", "head/bias"}
    for name in ROWS:
        expected |= {f"{name}/features", f"{name}/logits"}
        expected |= set() if name.startswith("ood") else {f"{name}/labels"}
    assert set(found) == expected
    for name, values in rows.items():
        by_numpy = mlp_by_numpy(weights_of(model), values.double().numpy())
        for array in ("features", "logits"):
            assert found[f"{name}/{array}"].dtype == np.float32
            np.testing.assert_allclose(found[f"{name}/{array}"], by_numpy[array], atol=1e-5)
        if not name.startswith("ood"):
            np.testing.assert_array_equal(found[f"{name}/labels"], labels_of(values))
        logits = found[f"{name}/features"] @ found["head/weight"].T + found["head/bias"]
        np.testing.assert_allclose(logits, found[f"{name}/logits"], atol=1e-5)
    np.testing.assert_array_equal(found["head/weight"], model.head.weight.detach())
    with h5py.File(path, "r") as file:
        assert file.attrs["model"] == "mlp"
        assert file.attrs["id_dataset"] == "numbers"
        assert file.attrs["feature_layer"] == "input of head"
        assert {name: file[name].attrs["kind"] for name in kinds} == kinds


def test_file_of_a_convnet_with_layers(tmp_path: Path) -> None:
    model, images = make_convnet(), make_rows(50, 0, 3, 8, 8)
    path = run(model, make_loader(images), path=tmp_path / "f.h5", layers=("conv", "norm"))
    found = arrays(path)
    by_numpy = convnet_by_numpy(weights_of(model), images.double().numpy())
    # the output of `norm` is taken before the ReLU that changes it in place
    for name in ("features", "logits", "layers/conv", "layers/norm"):
        values = by_numpy[name.rpartition("/")[2]]
        np.testing.assert_allclose(found[f"train/{name}"], values, atol=1e-5, err_msg=name)
    assert (found["train/layers/norm"] < 0).any()
    assert not found["head/bias"].any() and found["head/bias"].shape == (CLASSES,)
    with h5py.File(path, "r") as file:
        assert file.attrs["model"] == "ConvNet"
        assert "id_dataset" not in file.attrs or file.attrs["id_dataset"] == ""


def test_split_of_a_single_loader(tmp_path: Path) -> None:
    path = run(make_mlp(), [make_rows(8, 0)], path=tmp_path / "f.h5", split="ood/noise")
    assert {"ood/noise/features", "ood/noise/logits"} < set(arrays(path))


@pytest.mark.parametrize("layer, has_head", [("relu", True), ("last", False), ("hidden", False)])
def test_a_named_layer(tmp_path: Path, layer: str, has_head: bool) -> None:
    """relu is followed by nothing but dropout and the head, last by the ReLU too."""
    model, values = make_mlp(), make_rows(50, 0)
    if layer == "last":
        model.relu.inplace = False
    path = run(model, make_loader(values), layer, path=tmp_path / "f.h5")
    found = arrays(path)
    by_numpy = mlp_by_numpy(weights_of(model), values.double().numpy())
    expected = by_numpy["features" if layer == "relu" else layer]
    np.testing.assert_allclose(found["train/features"], expected, atol=1e-5)
    np.testing.assert_allclose(found["train/logits"], by_numpy["logits"], atol=1e-5)
    assert ("head/weight" in found) == has_head
    with h5py.File(path, "r") as file:
        assert file.attrs["feature_layer"] == layer


def test_a_named_layer_of_maps_is_averaged(tmp_path: Path) -> None:
    model, images = make_convnet(), make_rows(20, 0, 3, 8, 8)
    found = arrays(run(model, make_loader(images), "relu", path=tmp_path / "f.h5"))
    by_numpy = convnet_by_numpy(weights_of(model), images.double().numpy())
    np.testing.assert_allclose(found["train/features"], by_numpy["features"], atol=1e-5)
    assert "head/weight" in found


def test_tokens_are_flattened(tmp_path: Path) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.fc = nn.Identity(), nn.Linear(4, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.tokens(x.reshape(-1, 3, 4)).mean(1))

    values = make_rows(8, 0)
    found = arrays(run(Tokens(), make_loader(values), "tokens", path=tmp_path / "f.h5"))
    np.testing.assert_array_equal(found["train/features"], values)
    assert "head/weight" not in found


class Wrapped(Mlp):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(super().forward(x))


@pytest.mark.parametrize(
    "wrap", [lambda x: SimpleNamespace(logits=x), lambda x: (x, "more"), lambda x: [x]]
)
def test_forms_of_a_models_output(tmp_path: Path, wrap: Any) -> None:
    model, values = Wrapped(wrap), make_rows(8, 0)
    found = arrays(run(model, make_loader(values), path=tmp_path / "f.h5"))
    by_numpy = mlp_by_numpy(weights_of(model), values.double().numpy())
    np.testing.assert_allclose(found["train/logits"], by_numpy["logits"], atol=1e-5)


def test_forms_of_a_batch(tmp_path: Path) -> None:
    values = make_rows(20, 0)
    loader = {
        "train": [(values[:8], labels_of(values)[:8], "names"), [values[8:], [1] * 12]],
        "id_val": [values[:0], values[:5], (values[5:],)],
        "ood/noise": [(values, "labels that are not read")],
    }
    found = arrays(run(make_mlp(), loader, path=tmp_path / "f.h5"))
    np.testing.assert_array_equal(found["train/labels"], [0, 1, 2, 3, 4, 0, 1, 2] + [1] * 12)
    assert not any(name.endswith("labels") for name in found if not name.startswith("train"))
    for name in ("id_val", "ood/noise"):
        np.testing.assert_allclose(
            found[f"{name}/logits"], found["train/logits"], atol=1e-6, err_msg=name
        )


def test_types(tmp_path: Path) -> None:
    model, values = make_mlp().double(), make_rows(8, 0).double()
    for dtype in ("float16", "float64"):
        path = run(model, [values], path=tmp_path / "f.h5", dtype=dtype, device="cpu")
        found = arrays(path)
        assert found["train/features"].dtype == found["train/logits"].dtype == dtype


def test_model_in_bfloat16(tmp_path: Path) -> None:
    model, values = make_mlp(), make_rows(8, 0)
    found = arrays(run(model.bfloat16(), [values.bfloat16()], path=tmp_path / "f.h5"))
    logits = found["train/features"] @ found["head/weight"].T + found["head/bias"]
    np.testing.assert_allclose(logits, found["train/logits"], atol=0.02)


def test_detectors_read_the_file(tmp_path: Path, loaders: dict[str, DataLoader]) -> None:
    """Also the example of the documentation, which needs these names."""
    model, path = make_mlp(), tmp_path / "features.h5"
    names = {
        "train_loader": loaders["train"],
        "test_loader": loaders["id_test"],
        "svhn_loader": loaders["ood/noise"],
    }
    lines = extract.__doc__.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.strip() == "import ood.torch")
    end = lines.index("        )", begin) + 1
    code = textwrap.dedent("\n".join(lines[begin:end])).replace('"features.h5"', "path")
    exec(code, {"model": model, "path": path, **names})
    assert ood.open(path).train.shapes == {
        "features": (130, WIDTH),
        "logits": (130, CLASSES),
        "labels": (130,),
        "copies/features": (8, 130, WIDTH),
        "copies/logits": (8, 130, CLASSES),
    }
    report = ood.evaluate(path, ["energy", "mahalanobis", "dice", "wepe"])
    assert [(row["detector"], row["dataset"], row["kind"]) for row in report.rows] == [
        (name, "svhn", "far") for name in ("energy", "mahalanobis", "dice", "wepe")
    ]
    assert report.rows[0]["n_id"] == 75 and report.rows[0]["n_ood"] == 50


# Copies


def test_copies_by_weights(tmp_path: Path) -> None:
    model, values = make_mlp(), make_rows(100, 0)
    path = run(
        model,
        make_loader(values),
        path=tmp_path / "f.h5",
        copies=3,
        sigma=0.1,
        seed=7,
        layers=["last"],
    )
    found = arrays(path)
    assert found["train/copies/features"].shape == (3, 100, WIDTH)
    assert found["train/copies/logits"].shape == (3, 100, CLASSES)
    w, x = weights_of(model), values.double().numpy()
    clean = mlp_by_numpy(w, x)
    np.testing.assert_allclose(found["train/features"], clean["features"], atol=1e-5)
    for k in range(3):
        expected = mlp_by_numpy(perturbed(w, MLP_WEIGHTS, 0.1, 7, k), x)
        for name in ("features", "logits"):
            array = found[f"train/copies/{name}"][k]
            np.testing.assert_allclose(array, expected[name], atol=1e-5)
            assert np.abs(array - clean[name]).max() > 0.01
        for other in range(k):
            difference = found["train/copies/logits"][k] - found["train/copies/logits"][other]
            assert np.abs(difference).max() > 0.01
    with h5py.File(path, "r") as file:
        assert file.attrs["copies"] == "3 by weights, sigma 0.1, seed 7"


def test_copies_of_a_convnet_leave_normalisation_and_biases(tmp_path: Path) -> None:
    model, images = make_convnet(), make_rows(30, 0, 3, 8, 8)
    found = arrays(
        run(model, make_loader(images), path=tmp_path / "f.h5", copies=1, mode="weights", sigma=0.2)
    )
    changed = perturbed(weights_of(model), ["conv.weight", "fc.weight"], 0.2, 0, 0)
    expected = convnet_by_numpy(changed, images.double().numpy())
    for name in ("features", "logits"):
        np.testing.assert_allclose(found[f"train/copies/{name}"][0], expected[name], atol=1e-5)


def test_attention_is_perturbed_and_shared_weights_once(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.fc = nn.Linear(4, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.reshape(-1, 3, 4)
            x = self.attention(x, x, x, need_weights=False)[0]
            return self.fc(self.second(self.first(x)).mean(1))

    torch.manual_seed(1)
    model, values = Attention().eval(), make_rows(10, 0)
    found = arrays(run(model, [values], path=tmp_path / "f.h5", copies=1, sigma=0.3))
    names = ["attention.in_proj_weight", "attention.out_proj.weight", "first.weight", "fc.weight"]
    changed = perturbed(weights_of(model), names, 0.3, 0, 0)
    changed["second.weight"] = changed["first.weight"]
    other = copy.deepcopy(model).double()
    other.load_state_dict({name: torch.from_numpy(value) for name, value in changed.items()})
    with torch.no_grad():
        expected = other(values.double())
    np.testing.assert_allclose(found["train/copies/logits"][0], expected, atol=1e-5)


def test_spread_grows_in_proportion_to_sigma(tmp_path: Path) -> None:
    """To first order in sigma the same noise moves the logits in proportion."""
    values, spread = make_rows(50, 0), []
    for sigma in (0.001, 0.002):
        found = arrays(run(make_mlp(), [values], path=tmp_path / "f.h5", copies=4, sigma=sigma))
        spread.append(np.std(found["train/copies/logits"] - found["train/logits"]))
    assert spread[1] / spread[0] == pytest.approx(2, rel=0.02)


def test_copies_do_not_depend_on_batches_or_on_other_splits(
    tmp_path: Path, rows: dict[str, torch.Tensor], loaders: dict[str, DataLoader]
) -> None:
    options = {"copies": 2, "sigma": 0.05, "seed": 1}
    together = arrays(run(make_mlp(), loaders, path=tmp_path / "a.h5", **options))
    alone = make_loader(rows["id_test"], 50)
    path = run(make_mlp(), alone, path=tmp_path / "b.h5", split="id_test", **options)
    for name, array in arrays(path).items():
        np.testing.assert_allclose(array, together[name], atol=1e-6, err_msg=name)


def test_another_seed_gives_other_copies(tmp_path: Path) -> None:
    values, found = make_rows(20, 0), []
    for seed in (0, 1, 0):
        path = run(make_mlp(), [values], path=tmp_path / "f.h5", copies=2, sigma=0.1, seed=seed)
        found.append(arrays(path)["train/copies/logits"])
    np.testing.assert_array_equal(found[0], found[2])
    assert all(np.abs(a - b).max() > 0.01 for a in found[0] for b in found[1])


def test_copies_by_dropout(tmp_path: Path) -> None:
    """For p = 0.5 what goes into the head is 0 or twice the feature, each in half of all cases."""
    values = make_rows(200, 0)
    model = make_mlp()
    path = run(model, make_loader(values), path=tmp_path / "f.h5", copies=6, mode="dropout", seed=2)
    found = arrays(path)
    clean, copies = found["train/features"], found["train/copies/features"]
    np.testing.assert_allclose(
        clean, mlp_by_numpy(weights_of(model), values.double().numpy())["features"], atol=1e-5
    )
    kept = copies != 0
    np.testing.assert_allclose(copies, np.where(kept, 2 * clean, 0), atol=1e-5)
    active = np.broadcast_to(clean != 0, kept.shape)
    share, count = kept[active].mean(), active.sum()
    assert abs(share - 0.5) < 5 * np.sqrt(0.25 / count)
    logits = copies @ found["head/weight"].T + found["head/bias"]
    np.testing.assert_allclose(found["train/copies/logits"], logits, atol=1e-5)
    # neither copies nor rows nor batches share their masks: half of two masks differs
    here = clean != 0
    assert (kept[0] != kept[1])[here].mean() == pytest.approx(0.5, abs=0.1)
    for distance in (1, 16, 48):  # rows, batches, shards
        both = here[:-distance] & here[distance:]
        differs = kept[0, :-distance] != kept[0, distance:]
        assert differs[both].mean() == pytest.approx(0.5, abs=0.1)
    with h5py.File(path, "r") as file:
        assert file.attrs["copies"] == "6 by dropout, seed 2"


def test_only_dropout_is_in_training_mode(tmp_path: Path) -> None:
    seen: set[tuple[bool, bool, bool]] = set()

    class Watched(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.add((self.training, self.dropout.training, torch.is_grad_enabled()))
            return super().forward(x)

    run(Watched().train(), [make_rows(4, 0)], path=tmp_path / "f.h5", copies=1, mode="dropout")
    assert seen == {(False, False, False), (False, True, False)}


def test_model_may_change_its_input_in_place(tmp_path: Path) -> None:
    class Centring(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.sub_(1))

    torch.manual_seed(3)
    values = make_rows(10, 0)
    given = values.clone()
    found = arrays(run(Centring(), [given], path=tmp_path / "f.h5", copies=1, sigma=1e-7))
    np.testing.assert_allclose(found["train/copies/logits"][0], found["train/logits"], atol=1e-5)
    np.testing.assert_array_equal(given, values)


def test_model_may_change_its_features_in_place(tmp_path: Path) -> None:
    class Clearing(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = self.head(x[:, :WIDTH])
            x.zero_()
            return logits

    values = make_rows(10, 0)
    found = arrays(run(Clearing(), [values], path=tmp_path / "f.h5"))
    np.testing.assert_array_equal(found["train/features"], values[:, :WIDTH])


# The model is left as it was


def state_of(model: nn.Module) -> tuple[Any, ...]:
    values = {name: value.clone() for name, value in model.state_dict().items()}
    identities = [(id(parameter), parameter.data_ptr()) for parameter in model.parameters()]
    flags = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return values, identities, flags, hooks, torch.is_grad_enabled()


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


@pytest.mark.parametrize("mode, sigma", [("weights", 0.1), ("dropout", None)])
@pytest.mark.parametrize("at", [0, 1, 2, 5, 10**6])
def test_model_is_left_as_it_was(tmp_path: Path, mode: str, sigma: float | None, at: int) -> None:
    """at: the search for the head, the clean pass, two copies, and no failure at all."""
    torch.manual_seed(3)
    model = Failing(at).train()
    model.last.eval()
    values, identities, flags, hooks, grad = state_of(model)
    torch.manual_seed(5)
    expected_random = torch.rand(3)
    torch.manual_seed(5)
    try:
        run(model, [make_rows(4, 0)], path=tmp_path / "f.h5", copies=4, mode=mode, sigma=sigma)
        assert at == 10**6
    except RuntimeError:
        assert at < 10**6
    torch.testing.assert_close(torch.rand(3), expected_random, rtol=0, atol=0)
    after = state_of(model)
    assert after[1:] == (identities, flags, hooks, grad)
    assert sum(hooks) == 0
    for name, value in values.items():
        assert torch.equal(value, after[0][name]), name


# Interruption


class Counting(Mlp):
    """Counts the rows that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        return super().forward(x)


class Rows(Dataset):
    """Counts the rows that are loaded, and may fail at one."""

    def __init__(self, values: torch.Tensor, fails_at: int = -1) -> None:
        self.values, self.fails_at, self.loaded = values, fails_at, 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == self.fails_at:
            raise OSError("disk on fire")
        self.loaded += 1
        return self.values[index], index % CLASSES


COPIES = [
    {},
    {"copies": 2, "mode": "weights", "sigma": 0.1, "seed": 3},
    {"copies": 2, "mode": "dropout", "seed": 3},
]


def counting() -> Counting:
    torch.manual_seed(3)
    return Counting()


@pytest.mark.parametrize(
    "options, workers",
    [*((options, 0) for options in COPIES), (COPIES[0], 1)],
    ids=["plain", "weights", "dropout", "workers"],
)
def test_interrupted_by_the_loader(
    tmp_path: Path, rows: dict[str, torch.Tensor], options: dict[str, Any], workers: int
) -> None:
    names = ("train", "id_test", "ood/noise")

    def loaders(fails_at: int) -> tuple[dict[str, DataLoader], dict[str, Rows]]:
        sets = {name: Rows(rows[name], fails_at if name == "id_test" else -1) for name in names}
        return {
            name: DataLoader(data, batch_size=16, num_workers=workers)
            for name, data in sets.items()
        }, sets

    whole = run(counting(), loaders(-1)[0], path=tmp_path / "whole.h5", **options)
    path = tmp_path / "f.h5"
    path.write_bytes(b"older")
    with pytest.raises(OSError, match="disk on fire"):
        run(counting(), loaders(70)[0], path=path, **options)
    assert path.read_bytes() == b"older"
    assert (tmp_path / "f.h5.parts").is_dir()
    model, (again, sets) = counting(), loaders(-1)
    assert run(model, again, path=path, **options) == path
    assert path.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "f.h5.parts").exists()
    # 130 rows of train and 48 of id_test were there: neither run nor loaded
    left = 75 - 48 + 50
    assert model.rows == left * (1 + options.get("copies", 0))
    if workers == 0:
        assert {name: data.loaded for name, data in sets.items()} == {
            "train": 0,
            "id_test": 27,
            "ood/noise": 50,
        }


@pytest.mark.parametrize("options", COPIES, ids=["plain", "weights", "dropout"])
@pytest.mark.parametrize("at", [3, 11, 20])
def test_interrupted_by_the_model(
    tmp_path: Path, loaders: dict[str, DataLoader], options: dict[str, Any], at: int
) -> None:
    torch.manual_seed(3)
    model = Failing(10**6)
    whole = run(model, loaders, path=tmp_path / "whole.h5", **options)
    assert at < model.calls
    model.at, model.calls = at, 0
    with pytest.raises(RuntimeError, match="device on fire"):
        run(model, loaders, path=tmp_path / "f.h5", **options)
    model.at = -1
    path = run(model, loaders, path=tmp_path / "f.h5", **options)
    assert path.read_bytes() == whole.read_bytes()


def test_any_iterable_goes_on_after_its_finished_batches(
    tmp_path: Path, rows: dict[str, torch.Tensor]
) -> None:
    def batches(count: int) -> Iterator[torch.Tensor]:
        yield from rows["train"].split(16)[:count]
        if count < 9:
            raise OSError("disk on fire")

    whole = run(counting(), batches(9), path=tmp_path / "whole.h5")
    with pytest.raises(OSError):
        run(counting(), batches(7), path=tmp_path / "f.h5")
    model = counting()
    path = run(model, batches(9), path=tmp_path / "f.h5")
    assert model.rows == 130 - 96
    assert path.read_bytes() == whole.read_bytes()


def test_a_finished_split_is_not_asked_for(tmp_path: Path, rows: dict[str, torch.Tensor]) -> None:
    class Once:
        """Batches that can be had once."""

        def __init__(self) -> None:
            self.asked = 0

        def __iter__(self) -> Iterator[torch.Tensor]:
            self.asked += 1
            return iter(rows["train"].split(16))

    train = Once()
    with pytest.raises(TypeError, match="a batch of id_test"):
        run(counting(), {"train": train, "id_test": ["text"]}, path=tmp_path / "f.h5")
    run(counting(), {"train": train, "id_test": [rows["id_test"]]}, path=tmp_path / "f.h5")
    assert train.asked == 1


def test_a_shard_that_is_cut_off_is_made_again(
    tmp_path: Path, loaders: dict[str, DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(counting(), loaders, path=tmp_path / "whole.h5")
    savez, calls = np.savez, []

    def cut(file: Any, **content: Any) -> None:
        calls.append(1)
        if len(calls) < 5:
            savez(file, **content)
        else:
            file.write(b"PK half of it")
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", cut)
        with pytest.raises(KeyboardInterrupt):
            run(counting(), loaders, path=tmp_path / "f.h5")
    path = run(counting(), loaders, path=tmp_path / "f.h5")
    assert path.read_bytes() == whole.read_bytes()


def test_killed(tmp_path: Path) -> None:
    """A process that is killed at its n-th forward pass, again and again until it gets through."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, signal, sys
import torch
import ood.torch

ood.torch._SHARD_ROWS = 40
path, passes = sys.argv[1], int(sys.argv[2])

class Killed(torch.nn.Sequential):
    def forward(self, x):
        global passes
        if passes == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        passes -= 1
        return super().forward(x)

torch.manual_seed(0)
model = Killed(torch.nn.Linear(12, 7), torch.nn.ReLU(), torch.nn.Linear(7, 5))
loaders = {name: list(torch.randn(100, 12).split(16)) for name in ("train", "id_test")}
ood.torch.extract(model, loaders, path=path, copies=1, sigma=0.1, progress=False)
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(path: Path, passes: int) -> int:
        command = [sys.executable, script, path, str(passes)]
        return subprocess.run(command, env=environment, timeout=120).returncode

    whole, path = tmp_path / "whole.h5", tmp_path / "f.h5"
    assert start(whole, 10**6) == 0
    ends = []
    while len(ends) < 10 and not path.exists():
        ends.append(start(path, 9))
    assert ends == [-signal.SIGKILL] * (len(ends) - 1) + [0]
    assert len(ends) > 2
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([script, whole, path])


def test_a_file_that_cannot_be_written_costs_no_second_run(
    tmp_path: Path, loaders: dict[str, DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(ood.torch, "Writer", Full)
        with pytest.raises(OSError, match="disk full"):
            run(counting(), loaders, path=tmp_path / "f.h5")
    model = counting()
    # attributes and types are those of the file alone
    path = run(model, loaders, path=tmp_path / "f.h5", dtype="float16", model_name="another")
    assert model.rows == 0
    assert arrays(path)["train/features"].dtype == np.float16


def test_shards_are_a_few_batches(
    tmp_path: Path, loaders: dict[str, DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []
    save = ood.torch.Parts.save

    def spy(self: Any, split: str, values: Any, batches: int, count: int) -> None:
        assert values["features"].shape == (count, WIDTH)
        saved.append((batches, count))
        save(self, split, values, batches, count)

    monkeypatch.setattr(ood.torch.Parts, "save", spy)
    run(counting(), loaders["train"], path=tmp_path / "f.h5", copies=1, sigma=0.1)
    assert saved == [(3, 48), (3, 48), (3, 34)]
    saved.clear()
    monkeypatch.setattr(ood.torch, "_SHARD_INPUT_BYTES", 32 * INPUTS * 4)
    run(counting(), loaders["train"], path=tmp_path / "f.h5")
    assert saved == [(2, 32)] * 4 + [(1, 2)]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"sigma": 0.2}, r"has sigma 0.1, expected sigma 0.2; delete the folder"),
        ({"copies": 3}, r"has copies 2, expected copies 3"),
        ({"seed": 1}, r"has seed 0, expected seed 1"),
        ({"layer": "last"}, r"has layer None, expected layer last"),
        ({"layers": ("last",)}, r"has layers \[\], expected layers \['last'\]"),
        ({"mode": "dropout", "sigma": None}, r"mode weights.*expected.*mode dropout"),
        ({"copies": 0, "sigma": None}, r"copies 2.*expected.*copies 0"),
        ({"model": make_mlp()}, r"has weights of model \w+, expected weights of model \w+;"),
        ({"loader": {"train": []}}, r"has splits \['train', 'id_test'\]"),
        ({"size": 8}, r"has loader of train .*'batch_size': 16.*expected .*'batch_size': 8"),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path, rows: dict[str, torch.Tensor], changed: dict[str, Any], message: str
) -> None:
    torch.manual_seed(9)
    loader = {"train": make_loader(rows["train"]), "id_test": make_loader(rows["id_test"])}
    options = {"path": tmp_path / "f.h5", "copies": 2, "sigma": 0.1}
    with pytest.raises(RuntimeError, match="device on fire"):
        run(Failing(30), loader, **options)
    torch.manual_seed(9)
    model = changed.pop("model", Failing(-1))
    if "size" in changed:
        loader = {**loader, "train": make_loader(rows["train"], changed.pop("size"))}
    options = {**options, "loader": loader, **changed}
    with pytest.raises(ValueError, match=message) as raised:
        run(model, **options)
    assert "f.h5.parts has" in str(raised.value)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "f.h5.parts"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear reader")
    with pytest.raises(ValueError, match="has no manifest.json, expected a folder of extract"):
        run(make_mlp(), [make_rows(4, 0)], path=tmp_path / "f.h5")
    assert (folder / "letter.txt").exists()


# Progress


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
