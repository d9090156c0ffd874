"""Scores that read the logits alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from data import Logits
from work import Contender, Run, Work, threads


def ours(name: str, **options: Any) -> Any:
    def prepare(data: Logits) -> Run:
        import ood

        detector = getattr(ood, name)(**options)
        return lambda: detector.score(logits=data.test, threads=threads())
    return prepare


def scipy_energy(data: Logits) -> Run:
    from scipy.special import logsumexp
    return lambda: logsumexp(data.test, axis=1)


def scipy_msp(data: Logits) -> Run:
    from scipy.special import softmax
    return lambda: softmax(data.test, axis=1).max(axis=1)


def scipy_entropy(data: Logits) -> Run:
    from scipy.special import softmax
    from scipy.stats import entropy
    return lambda: -entropy(softmax(data.test, axis=1), axis=1)


def numpy_gen(data: Logits) -> Run:
    """With OpenOOD's defaults, gamma = 0.1 and M = 100."""
    from scipy.special import softmax

    def run() -> np.ndarray:
        p = np.sort(softmax(data.test, axis=1), axis=1)[:, -100:]
        return -(p**0.1 * (1 - p) ** 0.1).sum(axis=1)
    return run


def torch_logits(data: Logits) -> Any:
    import torch

    torch.set_num_threads(threads())
    return torch.from_numpy(data.test)


def torch_energy(data: Logits) -> Run:
    f = torch_logits(data)
    return lambda: f.logsumexp(dim=1).numpy()


def torch_msp(data: Logits) -> Run:
    f = torch_logits(data)
    return lambda: f.softmax(dim=1).max(dim=1).values.numpy()


def torch_entropy(data: Logits) -> Run:
    """pytorch-ood's Entropy: -(log p * p).sum()."""
    f = torch_logits(data)

    def run() -> np.ndarray:
        p = f.softmax(dim=1)
        return (p.log() * p).sum(dim=1).numpy()
    return run


def torch_gen(data: Logits) -> Run:
    """OpenOOD's generalized_entropy."""
    f = torch_logits(data)

    def run() -> np.ndarray:
        p = f.softmax(dim=1).sort(dim=1).values[:, -100:]
        return -(p**0.1 * (1 - p) ** 0.1).sum(dim=1).numpy()
    return run


def msp_probability(data: Logits) -> Run:
    """libood's MSP is log p, to keep its digits near 1."""
    run = ours("Msp")(data)
    return lambda: np.exp(run())


IMAGENET = Logits(50000, 1000)
WORKS = [
    Work("energy 50,000 x 1,000", IMAGENET, ours("Energy"),
         [Contender("scipy logsumexp", scipy_energy, goal=8), Contender("PyTorch", torch_energy, goal=3)]),
    Work("MSP 50,000 x 1,000", IMAGENET, msp_probability,
         [Contender("scipy softmax", scipy_msp, goal=8), Contender("PyTorch", torch_msp, goal=3)]),
    Work("entropy 50,000 x 1,000", IMAGENET, ours("Entropy"),
         [Contender("scipy softmax, entropy", scipy_entropy, goal=8),
          Contender("PyTorch", torch_entropy, goal=3)]),
    Work("GEN 50,000 x 1,000", IMAGENET, ours("Gen", gamma=0.1, top_m=100),
         [Contender("scipy softmax, sort", numpy_gen, goal=8, rows=10000),
          Contender("PyTorch", torch_gen, goal=3)]),
]
