"""Feature files from PyTorch classifiers: `ood.torch.extract`. Needs PyTorch 1.13 or later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard, cast

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from ._extraction_parts import Parts
from .dataset import PathLike, Writer

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("ood.torch needs PyTorch: pip install libood[torch]") from error

from torch import nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler
from torch.utils.data import SubsetRandomSampler, WeightedRandomSampler

from ._torch_network import Network, Variants, evaluating, fingerprint, to_numpy

__all__ = ["extract"]

Array = npt.NDArray[Any]
Loader = Iterable[Any]
Bar: TypeAlias = "tqdm[Any]"  # only its stubs take a type

# What is in memory, and lost by an interruption, is a few batches: as many as reach one of these.
_SHARD_ROWS = 1024
_SHARD_INPUT_BYTES = 256 << 20

_ID_SPLITS = ("train", "id_val", "id_test")
_SPLIT_FAMILIES = ("ood", "ood_val", "csid")
_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def extract(
    model: nn.Module,
    loader: Loader | Mapping[str, Loader],
    layer: str | None = None,
    *,
    path: PathLike,
    split: str = "train",
    kinds: Mapping[str, str] | None = None,
    layers: Sequence[str] = (),
    copies: int = 0,
    mode: Literal["weights", "dropout"] = "weights",
    sigma: float | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    model_name: str = "",
    id_dataset: str = "",
    dtype: Literal["float16", "float32", "float64"] = "float32",
    progress: bool = True,
) -> Path:
    """Runs a classifier over data loaders and writes a feature file. Returns its path.

        import ood.torch

        ood.torch.extract(
            model,
            {"train": train_loader, "id_test": test_loader, "ood/svhn": svhn_loader},
            path="features.h5",
            kinds={"ood/svhn": "far"},
            copies=8, mode="weights", sigma=0.05,
        )

    The model runs in evaluation mode and without gradients. Afterwards, also after an error, its
    weights, its device and the training flag of each module are what they were; no hook is left.

    model: a module that maps inputs to logits [n, C]: a tensor, an object with `.logits`, or a
        tuple with the logits first.
    loader: a DataLoader, or one for each split in a mapping: train, id_val, id_test, ood/<name>,
        ood_val/<name>, csid/<name>. Batches are (inputs, labels, ...), or a tensor of inputs alone.
        Labels are integers [n] in [0, C); those of ood/ and ood_val/ are of other classes and not
        read. The order is fixed (shuffle=False), and training images come without augmentation.
        Any iterable that gives the same batches each time will do.
    layer: None takes as features what goes into the model's last `nn.Linear`, which must give the
        logits. A name of `model.named_modules()` takes what comes out of that module: [n, D] as it
        is, [n, T, D] flattened to [n, T * D], [n, D, H, W] averaged over H and W (of higher rank:
        over all axes but the first two).
    path: the feature file. It appears, or is replaced, when everything has been written.
    split: the split of a single loader; not read where `loader` is a mapping.
    kinds: "near" or "far" for ood/ and ood_val/ splits, as in {"ood/svhn": "far"}.
    layers: names of further modules, whose outputs, reduced as above, are layers/<name>.
    copies: K perturbed copies of the network, which give copies/features [K, n, D] and
        copies/logits [K, n, C].
    mode: how a copy is made.
        "weights": each weight tensor w of convolutions, linear layers and attention projections
        becomes

            w_k = w + sigma * rms(w) * e_k,   rms(w) = sqrt(mean(w^2)),   e_k standard normal

        Biases, embeddings and normalisation layers stay as they are. e_k is drawn in float32 by
        `numpy.random.default_rng([seed, k])`, k from 0, tensor after tensor in the order of
        `model.named_modules()`: all rows see the same K networks.
        "dropout": the Dropout modules drop, all else stays in evaluation mode. Each row has masks
        of its own, drawn for seed, split, batch and k.
    sigma: the noise in units of rms(w); needed for mode "weights", and for nothing else.
    device: where the model is moved for the extraction; None leaves it where it is.
    model_name, id_dataset: attributes of the file; "" names the model's class, and no data set.
    dtype: the type of the floats in the file; all pass through float32.
    progress: whether a bar on stderr counts the rows.

    The head (weight [C, D]; bias [C], zeros if it has none) is written if an `nn.Linear` of the
    model gave the logits of the first batch from the features. With layer=None that must be so;
    with a named layer the file may be without a head, and without the scores that need it.

    Interruption: finished batches are kept in the folder `<path>.parts` until the file is there.
    The same call goes on with the batches that are missing, and gives the file of a call that was
    not interrupted, where forward passes are deterministic. Of the data only the numbers of rows
    and batches are compared; the device is not.

    Memory: outputs, and for copies inputs, of about 1,024 rows, or of 256 MiB of inputs if that is
    less.

    Raises:
        ValueError: an unknown split, layer, kind, mode or dtype; a loader that shuffles or has no
            rows; no linear head for layer=None; outputs that have not a row for each input; labels
            that are no integers in [0, C); NaN or infinity in an output; nothing to perturb; a
            folder `<path>.parts` that was begun with other settings.
        TypeError: a batch, a model's output or an argument of another type.
        OSError, RuntimeError: the folder or the file cannot be written.

    Noise in proportion to rms(w), in all layers, is a choice of this library. WePe
    (arXiv:2412.05897) perturbs the first blocks of a transformer only.
    """
    target = Path(path)
    loaders = dict(loader) if isinstance(loader, Mapping) else {split: loader}
    kinds = dict(kinds or {})
    _require_splits(loaders, kinds)
    if dtype not in ("float16", "float32", "float64"):
        raise ValueError(f"extract: dtype has {dtype!r}, expected float16, float32 or float64")
    if target.is_dir():
        raise ValueError(f"extract: path has a folder, {target}, expected a file")
    network = Network(model, layer, layers)
    variants = Variants(model, copies, mode, sigma, seed)
    settings = {
        "splits": list(loaders),
        **{f"loader of {name}": _describe(loaders[name]) for name in loaders},
        "layer": layer,
        "layers": list(layers),
        **variants.settings,
        "weights of model": fingerprint(model),
    }
    parts = Parts(target.with_name(target.name + ".parts"), settings)
    sizes = [size for size in map(_rows, loaders.values()) if size is not None]
    total = sum(sizes) if len(sizes) == len(loaders) else None
    with (
        evaluating(model, device) as network.device,
        tqdm(total=total, unit="row", disable=not progress) as bar,
    ):
        for name, batches in loaders.items():
            bar.set_description(name)
            bar.update(parts.count(name)[1])
            if parts.is_finished(name):
                continue
            for shard in _run_shards(name, batches, network, parts, bar, variants.count > 0):
                arrays = shard.arrays()
                if variants.count > 0:
                    arrays |= _run_copies(name, shard, network, variants, bar)
                parts.save(name, arrays, shard.batches, shard.rows)
            parts.finish(name)

    attributes = {"feature_layer": layer if layer is not None else f"input of {parts.head}"}
    if variants.count > 0:
        attributes["copies"] = variants.description
    title = model_name or type(model).__name__
    with Writer(target, model=title, id_dataset=id_dataset, dtype=dtype) as writer:
        for name, value in attributes.items():
            writer.set_attribute(name, value)
        head = network.linear(parts.head)
        if head is not None:
            bias = torch.zeros(head.out_features) if head.bias is None else head.bias
            writer.write_head(to_numpy(head.weight), to_numpy(bias))
        for name in loaders:
            for arrays in parts.shards(name):
                outputs = {key: arrays.pop(f"layers/{key}") for key in layers}
                writer.append(name, layers=outputs or None, kind=kinds.get(name, ""), **arrays)
    parts.remove()
    return target


@dataclass
class _Shard:
    """Consecutive batches of a split, in memory until they are saved."""

    first_row: int
    first_batch: int
    batches: int = 0
    rows: int = 0
    input_bytes: int = 0
    blocks: list[dict[str, Array]] = field(default_factory=list)
    inputs: list[tuple[int, torch.Tensor]] = field(default_factory=list)  # with the batch's number

    def is_full(self) -> bool:
        return self.rows >= _SHARD_ROWS or self.input_bytes >= _SHARD_INPUT_BYTES

    def arrays(self) -> dict[str, Array]:
        names = self.blocks[0].keys()
        return {name: np.concatenate([block[name] for block in self.blocks]) for name in names}


def _run_shards(
    split: str, loader: Loader, network: Network, parts: Parts, bar: Bar, keep_inputs: bool
) -> Iterator[_Shard]:
    """Runs the missing batches of a split. Where inputs are kept, copies count the rows."""
    batches, rows = parts.count(split)
    shard = _Shard(first_row=rows, first_batch=batches)
    names: set[str] | None = None
    for batch in _remaining(loader, shard.first_batch):
        inputs, labels = _unpack(batch, split)
        if len(inputs) > 0:
            if not parts.started:
                parts.start(network.find_head(inputs))
            network.head = network.linear(parts.head)
            row = shard.first_row + shard.rows
            block = network.run(inputs, split, row)
            if labels is not None:
                block["labels"] = _check_labels(labels, block["logits"], split, row)
            names = names or set(block)
            if block.keys() != names:
                raise ValueError(
                    f"extract: the loader of {split} has labels in some batches, expected in all or"
                    " in none"
                )
            shard.blocks.append(block)
            shard.rows += len(inputs)
            shard.input_bytes += inputs.numel() * inputs.element_size()
            if keep_inputs:
                shard.inputs.append((shard.first_batch + shard.batches, inputs))
            else:
                bar.update(len(inputs))
        shard.batches += 1
        if shard.is_full():
            yield shard
            shard = _Shard(shard.first_row + shard.rows, shard.first_batch + shard.batches)
    if shard.rows > 0:
        yield shard
    elif shard.first_row == 0:
        raise ValueError(f"extract: the loader of {split} has 0 rows, expected 1 or more")


def _run_copies(
    split: str, shard: _Shard, network: Network, variants: Variants, bar: Bar
) -> dict[str, Array]:
    """copy_features and copy_logits of a shard. Each copy is made once, for all of its batches."""
    found: dict[str, list[Array]] = {"features": [], "logits": []}
    for k in range(variants.count):
        bar.set_postfix_str(f"copy {k + 1} of {variants.count}")
        row, blocks = shard.first_row, []
        with variants.copy(k):
            for number, inputs in shard.inputs:
                with variants.seeded(k, split, number, network.device):
                    blocks.append(network.run(inputs, f"{split}/copies/{k}", row))
                row += len(inputs)
        for name, copies in found.items():
            copies.append(np.concatenate([block[name] for block in blocks]))
    bar.set_postfix_str("")
    bar.update(shard.rows)
    return {f"copy_{name}": np.stack(copies) for name, copies in found.items()}


def _require_splits(loaders: Mapping[str, Loader], kinds: Mapping[str, str]) -> None:
    if not loaders:
        raise ValueError("extract: loader has no split, expected one or more")
    for split, loader in loaders.items():
        family, _, name = split.partition("/")
        named = family in _SPLIT_FAMILIES and name not in ("", ".", "..") and "/" not in name
        if split not in _ID_SPLITS and not named:
            raise ValueError(
                f"extract: split has {split!r}, expected train, id_val, id_test, ood/<name>,"
                " ood_val/<name> or csid/<name>"
            )
        batch_sampler = getattr(loader, "batch_sampler", None)
        for sampler in (getattr(loader, "sampler", None), getattr(batch_sampler, "sampler", None)):
            if isinstance(sampler, _SHUFFLING):
                raise ValueError(
                    f"extract: the loader of {split} has a {type(sampler).__name__}, expected a"
                    " fixed order: DataLoader(..., shuffle=False)"
                )
    for split, kind in kinds.items():
        if split not in loaders or not _is_outlier(split):
            raise ValueError(
                f"extract: kinds has {split!r}, expected an ood/ or ood_val/ split of the loaders"
            )
        if kind not in ("near", "far"):
            raise ValueError(f"extract: kind of {split} has {kind!r}, expected near or far")


def _is_outlier(split: str) -> bool:
    return split.startswith(("ood/", "ood_val/"))


def _unpack(batch: Any, split: str) -> tuple[torch.Tensor, Any]:
    """Inputs and labels of a batch; None where it has no labels, or they are of other classes."""
    is_sequence = isinstance(batch, (tuple, list)) and len(batch) > 0
    inputs = batch[0] if is_sequence else batch
    if not isinstance(inputs, torch.Tensor):
        raise TypeError(
            f"extract: a batch of {split} has {type(inputs).__name__}, expected (inputs, labels) or"
            " a tensor of inputs; give the DataLoader a collate_fn that returns one of these"
        )
    return inputs, batch[1] if is_sequence and len(batch) > 1 and not _is_outlier(split) else None


def _check_labels(labels: Any, logits: Array, split: str, first_row: int) -> Array:
    rows, classes = logits.shape
    array = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if array.shape != (rows,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"extract: {split}/labels has {array.dtype} {list(array.shape)}, expected integers"
            f" [{rows}]"
        )
    bad = (array < 0) | (array >= classes)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"extract: {split}/labels has {array[row]} at row {first_row + row}, expected"
            f" [0, {classes})"
        )
    return array.astype(np.int64)


def _is_indexed(loader: Loader) -> TypeGuard[DataLoader[Any]]:
    """Whether it is a plain DataLoader on a data set with indices."""
    dataset = getattr(loader, "dataset", None)
    return type(loader) is DataLoader and not isinstance(dataset, IterableDataset)


def _remaining(loader: Loader, done: int) -> Iterable[Any]:
    """The batches after the first `done`. Those are not even loaded where indices name the rows."""
    if done == 0 or not _is_indexed(loader) or loader.batch_sampler is None:
        return islice(loader, done, None)
    workers: dict[str, Any] = {}
    if loader.num_workers > 0:
        workers["prefetch_factor"] = loader.prefetch_factor
        workers["multiprocessing_context"] = loader.multiprocessing_context
    rest: Iterable[Any] = DataLoader(
        loader.dataset,
        batch_sampler=list(islice(loader.batch_sampler, done, None)),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        **workers,
    )
    return rest


def _rows(loader: Loader) -> int | None:
    """The rows of a loader, where it can say."""
    if not _is_indexed(loader) or loader.batch_size is None:
        return None
    rows = len(cast(Sized, loader.sampler))
    return rows - rows % loader.batch_size if loader.drop_last else rows


def _describe(loader: Loader) -> dict[str, Any]:
    """What is compared of a loader when an extraction is taken up again."""
    try:
        batches = len(cast(Sized, loader))
    except TypeError:
        batches = None
    size = getattr(loader, "batch_size", None)
    return {"rows": _rows(loader), "batches": batches, "batch_size": size}
