"""What `ood.torch` does with a network: run it, read its features, make perturbed copies of it."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

Array = npt.NDArray[Any]
Record = Callable[[str, tuple[Any, ...], Any], None]  # name, inputs and output of a module that ran


class Network:
    """A model, and the places where its features are read: see `ood.torch.extract`."""

    def __init__(self, model: nn.Module, layer: str | None, layers: Sequence[str]) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"extract: model has {type(model).__name__}, expected a torch.nn.Module"
            )
        if isinstance(layers, str):
            raise TypeError(
                f"extract: layers has {layers!r}, expected a list of names, as in [{layers!r}]"
            )
        self.model, self.layer, self.layers = model, layer, tuple(layers)
        self.head: nn.Linear | None = None
        self.device = torch.device("cpu")
        self._modules = dict(model.named_modules())
        for name in self.layers if layer is None else (layer, *self.layers):
            if name not in self._modules or name == "":
                known = ", ".join(child for child, _ in model.named_children())
                raise ValueError(
                    f"extract: layer has {name!r}, expected one of model.named_modules(), such as"
                    f" {known}"
                )

    def linear(self, name: str | None) -> nn.Linear | None:
        module = None if name is None else self._modules[name]
        return module if isinstance(module, nn.Linear) else None

    def find_head(self, inputs: torch.Tensor) -> str | None:
        """The last `nn.Linear` that gives the logits from the features, by a forward pass on
        `inputs`. None if there is none and the features are those of a named layer."""
        linears = {
            name: module for name, module in self._modules.items() if isinstance(module, nn.Linear)
        }
        calls: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        outputs: dict[str, torch.Tensor] = {}

        def record(name: str, given: tuple[Any, ...], output: Any) -> None:
            calls.pop(name, None)  # its last call counts, and stands last
            if given and given[0].dim() == 2:  # the inputs of others can be large
                calls[name] = given[0].detach().clone(), output.detach().clone()

        with _hooked(linears, record), _hooked(self._named(), _pooling(outputs)):
            logits = self._logits(inputs)
        for name, (given, output) in reversed(calls.items()):
            features = given if self.layer is None else outputs.get(self.layer)
            if features is not None and _is_head(linears[name], features, output, logits):
                return name
        if self.layer is None:
            raise ValueError(
                "extract: model has no nn.Linear that gives the logits from features [n, D],"
                ' expected one; pass layer="name" of the module whose output the features are'
            )
        return None

    def run(self, inputs: torch.Tensor, where: str, first_row: int) -> dict[str, Array]:
        """Features, logits and layers/<name> of a batch: float32 [n, width], finite. `where` and
        `first_row` are for errors."""
        values: dict[str, torch.Tensor] = {}
        outputs: dict[str, torch.Tensor] = {}

        def record(name: str, given: tuple[Any, ...], _: Any) -> None:
            if given:  # empty where the model wrote head(input=x)
                values[name] = given[0].detach().clone()

        heads = {} if self.layer is not None or self.head is None else {"features": self.head}
        with _hooked(heads, record), _hooked(self._named(), _pooling(outputs)):
            logits = self._logits(inputs)
        if self.layer in outputs:
            values["features"] = outputs[self.layer]
        values |= {f"layers/{name}": outputs[name] for name in self.layers if name in outputs}
        values["logits"] = logits  # last: NaN is reported where it came from
        arrays = {}
        for name in ("features", *(f"layers/{name}" for name in self.layers), "logits"):
            if name not in values:
                raise ValueError(
                    f"extract: {where}/{name} has no value, expected its module to run in forward"
                )
            arrays[name] = to_numpy(values[name])
            _check_values(arrays[name], len(inputs), f"{where}/{name}", first_row)
        return arrays

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        # A copy, because the model may change it in place, and its perturbed copies need it too.
        own = inputs.to(self.device, copy=True)
        return _first_tensor(self.model(own), "the model's output")

    def _named(self) -> dict[str, nn.Module]:
        names = self.layers if self.layer is None else (self.layer, *self.layers)
        return {name: self._modules[name] for name in names}


class Variants:
    """The perturbed copies of a model, made by changing it for a while: see `ood.torch.extract`."""

    def __init__(
        self, model: nn.Module, count: int, mode: str, sigma: float | None, seed: int
    ) -> None:
        if mode not in ("weights", "dropout"):
            raise ValueError(f"extract: mode has {mode!r}, expected weights or dropout")
        if count < 0:
            raise ValueError(f"extract: copies has {count}, expected 0 or more")
        if seed < 0:
            raise ValueError(f"extract: seed has {seed}, expected 0 or more")
        self.count, self.seed = int(count), int(seed)
        self.sigma = 0.0 if sigma is None else float(sigma)
        self._weights: list[nn.Parameter] = []
        self._dropouts: list[nn.Module] = []
        self.settings: dict[str, Any] = {"copies": self.count}
        self.description = ""
        if count > 0 and mode == "weights":
            if not 0 < self.sigma < math.inf:
                raise ValueError(f"extract: sigma has {sigma}, expected a number above 0")
            self._weights = _weights(model)
        elif sigma is not None:
            raise ValueError(
                f"extract: sigma has {sigma}, expected None without copies by perturbed weights"
            )
        elif count > 0:
            modules = model.modules()
            self._dropouts = [m for m in modules if isinstance(m, _DropoutNd) and m.p > 0]
            if not self._dropouts:
                raise ValueError("extract: model has no Dropout module with p > 0, expected one")
        if count > 0:
            self.settings |= {"mode": mode, "sigma": sigma and self.sigma, "seed": self.seed}
            amount = f"sigma {self.sigma}, " if self._weights else ""
            self.description = f"{self.count} by {mode}, {amount}seed {self.seed}"

    @contextmanager
    def copy(self, k: int) -> Iterator[None]:
        """While active, the model is its k-th copy: noisy weights, or Dropout modules that drop."""
        random = np.random.default_rng([self.seed, k])
        originals = [weight.data for weight in self._weights]
        try:
            for weight in self._weights:
                noise = torch.from_numpy(random.standard_normal(tuple(weight.shape), np.float32))
                scale = self.sigma * weight.data.float().square().mean().sqrt()
                weight.data = (weight.data + scale * noise.to(weight.device)).to(weight.dtype)
            for module in self._dropouts:
                module.training = True
            yield
        finally:
            for weight, original in zip(self._weights, originals):
                weight.data = original
            for module in self._dropouts:
                module.training = False

    @contextmanager
    def seeded(self, k: int, split: str, batch: int, device: torch.device) -> Iterator[None]:
        """PyTorch's random numbers for one batch of a copy; afterwards they go on as before."""
        sequence = np.random.SeedSequence([self.seed, k, zlib.crc32(split.encode()), batch])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
            yield


@contextmanager
def evaluating(model: nn.Module, device: str | torch.device | None) -> Iterator[torch.device]:
    """Evaluation mode, no gradients, on `device`; afterwards everything as it was."""
    # Each module has a flag of its own: somebody may have frozen single layers.
    flags = [(module, module.training) for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    home = tensors[0].device if tensors else torch.device("cpu")
    try:
        model.eval()
        if device is not None:
            model.to(device)
        with torch.no_grad():
            yield home if device is None else torch.device(device)
    finally:
        if device is not None:
            model.to(home)
        for module, flag in flags:
            module.training = flag


def fingerprint(model: nn.Module) -> str:
    """A hash of names, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name} {value!r};".encode())
    return digest.hexdigest()[:16]


def to_numpy(values: torch.Tensor) -> Array:
    """A float32 copy."""
    array: Array = values.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
    return array


@contextmanager
def _hooked(modules: Mapping[str, nn.Module], record: Record) -> Iterator[None]:
    """While active, `record` is called whenever one of the modules has run."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda _, given, output: record(name, given, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pooling(outputs: dict[str, torch.Tensor]) -> Record:
    """Puts the output of each module, reduced to [n, width], into `outputs`. Always as a copy,
    because an in-place ReLU may follow."""

    def record(name: str, _: tuple[Any, ...], output: Any) -> None:
        values = _first_tensor(output, f"the output of layer {name}")
        if values.dim() >= 4:
            outputs[name] = values.flatten(2).mean(2)
        else:
            outputs[name] = values.reshape(len(values), -1).clone()

    return record


def _is_head(
    linear: nn.Linear, features: torch.Tensor, output: torch.Tensor, logits: torch.Tensor
) -> bool:
    """Whether the logits are the output of `linear`, and features . weight^T + bias as well."""
    # NaN equals NaN here: it is reported later, with its row
    if output.shape != logits.shape or not torch.allclose(
        output.float(), logits.float(), rtol=0, atol=0, equal_nan=True
    ):
        return False
    if features.dim() != 2 or features.shape[1] != linear.in_features:
        return False
    bias = torch.zeros(()) if linear.bias is None else linear.bias
    # on the CPU in float64, which some devices do not have
    f, w, b, found = (x.detach().cpu().double() for x in (features, linear.weight, bias, logits))
    expected = f @ w.T + b
    finite = expected.isfinite() & found.isfinite()
    # 1e-3: what TensorFloat-32 may lose
    tolerance = max(1e-3, 4 * torch.finfo(output.dtype).eps)
    scale = found[finite].abs().max() if finite.any() else 0
    return bool(((expected - found)[finite].abs() <= tolerance * scale).all())


def _weights(model: nn.Module) -> list[nn.Parameter]:
    """The weight tensors of convolutions, linear layers and attention projections, each once."""
    found: dict[int, nn.Parameter] = {}
    for name, module in model.named_modules():
        if not isinstance(module, (_ConvNd, nn.Linear, nn.MultiheadAttention)):
            continue
        parameters = module.named_parameters(recurse=False)
        weights = [parameter for key, parameter in parameters if key.endswith("weight")]
        if not weights:
            raise ValueError(
                f"extract: layer {name} has a weight that is computed from others, expected a"
                " parameter to perturb; remove weight norm and parametrizations first"
            )
        found.update({id(weight): weight for weight in weights})
    if not found:
        raise ValueError("extract: model has no convolution or linear layer, expected one")
    return list(found.values())


def _first_tensor(output: Any, what: str) -> torch.Tensor:
    value = getattr(output, "logits", output)
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"extract: {what} has {type(output).__name__}, expected a tensor, a tuple whose first"
            " item is one, or an object with .logits"
        )
    return value.detach()


def _check_values(values: Array, rows: int, where: str, first_row: int) -> None:
    if values.ndim != 2 or len(values) != rows:
        raise ValueError(
            f"extract: {where} has shape {list(values.shape)}, expected [{rows}, width]"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        got = "NaN" if np.isnan(values[row, column]) else "infinity"
        raise ValueError(
            f"extract: {where} has {got} at row {first_row + row}, column {column}, expected finite"
            " numbers"
        )
