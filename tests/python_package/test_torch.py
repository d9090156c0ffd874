"""What ood.torch.extract writes, and that it leaves the model as it was."""

from __future__ import annotations

import copy
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="ood.torch needs torch")
h5py = pytest.importorskip("h5py", reason="the files are read by h5py")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import ood  # noqa: E402
import ood.torch  # noqa: E402
from ood.torch import extract  # noqa: E402
from torch_networks import (  # noqa: E402, F401
    arrays,
    CLASSES,
    convnet_by_numpy,
    Failing,
    labels_of,
    loaders,
    make_convnet,
    make_loader,
    make_mlp,
    make_rows,
    Mlp,
    mlp_by_numpy,
    MLP_WEIGHTS,
    perturbed,
    rows,
    ROWS,
    run,
    small_shards,
    weights_of,
    WIDTH,
    Wrapped,
)


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
