"""Metrics of 1 M + 1 M scores."""

from __future__ import annotations

import numpy as np
from data import Scores
from work import Contender, Run, Work, threads


def libood(data: Scores) -> Run:
    import ood

    def run() -> np.ndarray:
        found = ood.metrics.compute(data.id, data.ood)
        return np.array([found[name] for name in ("auroc", "fpr95", "fpr95_ood", "aupr_in", "aupr_out")])
    return run


def scikit_learn(data: Scores) -> Run:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    is_id = np.concatenate([np.ones(data.rows), np.zeros(data.rows)])
    scores = np.concatenate([data.id, data.ood])

    def fpr95(positive: np.ndarray, confidence: np.ndarray) -> float:
        fpr, tpr, _ = roc_curve(positive, confidence)
        return float(fpr[np.searchsorted(tpr, 0.95)])

    def run() -> np.ndarray:
        return np.array([roc_auc_score(is_id, scores),
                         fpr95(is_id, scores), fpr95(1 - is_id, -scores),
                         average_precision_score(is_id, scores),
                         average_precision_score(1 - is_id, -scores)])
    return run


def torchmetrics(data: Scores) -> Run:
    """As pytorch-ood has it: each metric sorts for itself. Scores as probabilities, which it asks for."""
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_roc

    torch.set_num_threads(threads())
    is_id = torch.cat([torch.ones(data.rows), torch.zeros(data.rows)]).long()
    scores = torch.from_numpy(np.concatenate([data.id, data.ood])).double()
    low, high = scores.min(), scores.max()
    scores = (scores - low) / (high - low)

    def fpr95(positive: torch.Tensor, confidence: torch.Tensor) -> float:
        fpr, tpr, _ = binary_roc(confidence, positive)
        return float(fpr[torch.searchsorted(tpr, torch.tensor(0.95, dtype=tpr.dtype))])

    def run() -> np.ndarray:
        return np.array([float(binary_auroc(scores, is_id)),
                         fpr95(is_id, scores), fpr95(1 - is_id, 1 - scores),
                         float(binary_average_precision(scores, is_id)),
                         float(binary_average_precision(1 - scores, 1 - is_id))])
    return run


WORKS = [
    Work("AUROC, both FPR95, both AUPR of 1 M + 1 M scores", Scores(1_000_000), libood,
         [Contender("scikit-learn", scikit_learn, goal=10), Contender("torchmetrics", torchmetrics)],
         tolerance=1e-5),
]
