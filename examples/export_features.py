#!/usr/bin/env python3
"""Writes the feature file that libood reads, from any PyTorch classifier and your data loaders.

    from export_features import export_features

    export_features(
        model, "features.h5",
        train=train_loader, id_test=test_loader,                    # yield (images, labels)
        ood={"svhn": ("far", svhn_loader)},                         # labels are ignored
        model_name="ResNet-50", id_dataset="imagenet", device="cuda",
    )

The features are what goes into the model's last `nn.Linear`, the logits are what comes out of it.
The file is written in blocks of rows, so a split may be larger than memory. Copy this file into
your project and change it as you need: it depends on torch, numpy and h5py only.

Run as a script, it exports a small random network on random images, to show the calls:

    export_features.py --out demo.h5
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn

CHUNK_ROWS = 1024
KINDS = ("near", "far")
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}

Loader = Iterable[Any]
OodLoaders = Mapping[str, tuple[str, Loader]]  # name -> (kind, loader)


def find_last_linear(model: nn.Module) -> nn.Linear:
    """The `nn.Linear` that was registered last, which in nearly all classifiers is the head."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(f"export_features: {type(model).__name__} has no nn.Linear layer")
    return layers[-1]


def export_features(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    train: Loader,
    id_val: Loader | None = None,
    id_test: Loader | None = None,
    ood: OodLoaders | None = None,
    ood_val: OodLoaders | None = None,
    csid: Mapping[str, Loader] | None = None,
    model_name: str = "",
    id_dataset: str = "",
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> None:
    """Runs `model` over all loaders and writes features, logits, labels and the head to `path`.

    train, id_val, id_test and csid (covariate-shifted in-distribution) yield (images, labels)
    with integer labels in [0, C). ood (test outliers) and ood_val (outliers for choosing
    hyper-parameters) map a name to (kind, loader), kind "near" or "far"; their loaders yield
    images or (images, anything). Rows keep the loader's order, so a training loader that
    shuffles gives shuffled rows. Training images should come without random augmentation.

    `path` appears, or is replaced, only when everything has been written. The model is left as
    it was found: training mode of every module, device, and no hook.
    """
    if dtype not in DTYPES:
        raise ValueError(f"export_features: dtype has {dtype!r}, expected one of {list(DTYPES)}")
    layer = find_last_linear(model)
    # group in the file -> (loader, whether it has labels, kind)
    splits: dict[str, tuple[Loader, bool, str | None]] = {}
    for name, loader in {"train": train, "id_val": id_val, "id_test": id_test}.items():
        if loader is not None:
            splits[name] = (loader, True, None)
    for name, loader in (csid or {}).items():
        splits[_group("csid", name)] = (loader, True, None)
    for parent, sets in {"ood_val": ood_val, "ood": ood}.items():
        for name, entry in (sets or {}).items():
            group = _group(parent, name)
            if not (isinstance(entry, tuple) and len(entry) == 2 and entry[0] in KINDS):
                kind = entry[0] if isinstance(entry, tuple) and entry else type(entry).__name__
                raise ValueError(
                    f"export_features: {group}: kind has {kind!r}, expected one of {KINDS}, "
                    "as in (kind, loader)"
                )
            splits[group] = (entry[1], False, entry[0])

    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with h5py.File(partial, "w") as file:
            with _ready(model, layer, device), _Tap(layer, DTYPES[dtype]) as tap:
                for name, (loader, has_labels, kind) in splits.items():
                    group = file.create_group(name)
                    if kind is not None:
                        group.attrs["kind"] = kind
                    _export_split(group, loader, has_labels, model, tap, device)
            # a head in float16 would move every logit that is computed from it
            _write_head(file, layer, torch.float64 if dtype == "float64" else torch.float32)
            file.attrs["model"] = model_name or type(model).__name__
            file.attrs["id_dataset"] = id_dataset or "unknown"
            file.attrs["num_classes"] = layer.out_features
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _group(parent: str, name: str) -> str:
    """The group of a named set; a slash in the name would nest groups."""
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"export_features: {parent} has a set {name!r}, expected a plain name")
    return f"{parent}/{name}"


@contextmanager
def _ready(model: nn.Module, layer: nn.Linear, device: str | torch.device) -> Iterator[None]:
    """Evaluation mode, no gradients, on `device`; afterwards everything as it was."""
    # Each module has a mode of its own: somebody may have frozen single layers.
    modes = [(module, module.training) for module in model.modules()]
    home = layer.weight.device
    try:
        model.eval().to(device)
        with torch.no_grad():
            yield
    finally:
        model.to(home)
        for module, training in modes:
            module.training = training


class _Tap:
    """Reads a layer's input and output during a forward pass, by a forward hook."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        self._layer, self._dtype = layer, dtype
        self._calls = 0
        self._seen: tuple[np.ndarray, np.ndarray] | None = None

    def __enter__(self) -> _Tap:
        self._handle = self._layer.register_forward_hook(self._hook)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _hook(self, _: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self._calls += 1
        if len(inputs) == 1:  # empty where the model wrote layer(input=x)
            self._seen = (self._copy(inputs[0]), self._copy(output))

    def _copy(self, tensor: torch.Tensor) -> np.ndarray:
        # A copy, because the model may go on to change the tensor in place.
        return tensor.detach().to("cpu", self._dtype, copy=True).numpy()

    def run(self, model: nn.Module, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of one batch."""
        self._calls, self._seen = 0, None
        model(images)
        if self._calls != 1:
            raise ValueError(
                "the last nn.Linear layer was called "
                f"{self._calls} times in one forward pass, expected 1"
            )
        if self._seen is None:
            raise ValueError("the last nn.Linear layer got its input by keyword, expected layer(x)")
        return self._seen


class _Rows:
    """Appends rows to a resizable dataset, in whole chunks, so that each is compressed once."""

    def __init__(self, group: h5py.Group, name: str) -> None:
        self._group, self._name = group, name
        self._dataset: h5py.Dataset | None = None
        self._waiting: list[np.ndarray] = []

    def append(self, rows: np.ndarray) -> None:
        if self._dataset is None:
            row = rows.shape[1:]
            self._dataset = self._group.create_dataset(
                self._name, (0, *row), rows.dtype, maxshape=(None, *row),
                chunks=(CHUNK_ROWS, *row), compression="gzip", compression_opts=4, shuffle=True,
                track_times=False,  # the same rows give the same bytes
            )
        self._waiting.append(rows)
        count = sum(map(len, self._waiting))
        if count >= CHUNK_ROWS:
            self._write(count - count % CHUNK_ROWS)

    def finish(self) -> None:
        self._write(sum(map(len, self._waiting)))

    def _write(self, count: int) -> None:
        if count == 0:
            return
        rows = np.concatenate(self._waiting)
        self._waiting = [rows[count:].copy()]
        start = len(self._dataset)
        self._dataset.resize(start + count, axis=0)
        self._dataset[start:] = rows[:count]


def _export_split(
    group: h5py.Group,
    loader: Loader,
    has_labels: bool,
    model: nn.Module,
    tap: _Tap,
    device: str | torch.device,
) -> None:
    where = f"export_features: {group.name[1:]}"
    columns = {name: _Rows(group, name) for name in ("features", "logits")}
    if has_labels:
        columns["labels"] = _Rows(group, "labels")
    start = 0
    for batch in loader:
        images, labels = _unpack(batch, has_labels, where)
        if len(images) == 0:
            continue
        try:
            features, logits = tap.run(model, images.to(device))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        block = {"features": features, "logits": logits}
        for name, values in block.items():
            _check_values(name, values, len(images), start, where)
        if has_labels:
            block["labels"] = _check_labels(labels, *logits.shape, start, where)
        for name, values in block.items():
            columns[name].append(values)
        start += len(images)
    if start == 0:
        raise ValueError(f"{where}: the loader yielded no rows")
    for column in columns.values():
        column.finish()


def _unpack(batch: Any, has_labels: bool, where: str) -> tuple[torch.Tensor, Any]:
    pair = isinstance(batch, (tuple, list))
    if has_labels and not (pair and len(batch) >= 2):
        raise ValueError(f"{where}: the loader yields no labels, expected (images, labels)")
    images = batch[0] if pair else batch
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{where}: images has {type(images).__name__}, expected a torch.Tensor")
    return images, batch[1] if has_labels else None


def _check_values(name: str, values: np.ndarray, count: int, start: int, where: str) -> None:
    if values.ndim != 2:
        raise ValueError(
            f"{where}: {name} has shape {list(values.shape)}, expected [rows, width]; the model "
            "must pool tokens or pixels before its last nn.Linear layer"
        )
    if len(values) != count:
        raise ValueError(f"{where}: {name} has {len(values)} rows, expected {count}")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(f"{where}: {name} has a non-finite value in row {start + bad.argmax()}")


def _check_labels(labels: Any, rows: int, classes: int, start: int, where: str) -> np.ndarray:
    array = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if array.shape != (rows,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: labels has {array.dtype} {list(array.shape)}, expected integers [{rows}]"
        )
    bad = (array < 0) | (array >= classes)
    if bad.any():
        row = bad.argmax()
        raise ValueError(
            f"{where}: labels has {array[row]} in row {start + row}, expected 0 to {classes - 1}"
        )
    return array.astype(np.int64)


def _write_head(file: h5py.File, layer: nn.Linear, dtype: torch.dtype) -> None:
    # A layer without a bias gets zeros, so that logits = features @ weight.T + bias always holds.
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    for name, value in {"weight": layer.weight, "bias": bias}.items():
        array = value.detach().to("cpu", dtype).numpy()
        file.create_dataset(f"head/{name}", data=array, track_times=False)


def _demo(path: Path) -> None:
    """A random network on random images: shows the calls; its scores mean nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )

    def loader(rows: int, scale: float = 1.0) -> torch.utils.data.DataLoader:
        images = scale * torch.randn(rows, 3, 16, 16)
        data = torch.utils.data.TensorDataset(images, torch.arange(rows) % 10)
        return torch.utils.data.DataLoader(data, batch_size=128)

    export_features(
        model,
        path,
        train=loader(2000),
        id_val=loader(500),
        id_test=loader(500),
        csid={"brighter": loader(500, 1.1)},
        ood_val={"darker": ("far", loader(200, 0.5))},
        ood={"bright": ("near", loader(500, 1.5)), "glaring": ("far", loader(500, 3.0))},
        model_name="random network",
        id_dataset="random images",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Exports a small random network on random images, to show the calls."
    )
    parser.add_argument("--out", type=Path, required=True, help="feature file to write")
    out: Path = parser.parse_args().out
    _demo(out)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
