"""Exact nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from data import Features
from work import Contender, Run, Work, threads

K = 50

#: Which of its kernels OpenBLAS takes. That of faiss knows no processor that is younger than itself, and takes those of
#: 2007 for it (Barcelona, where there should be AVX-512): the best are asked for beside what users get.
CORE = "OPENBLAS_CORETYPE"
BEST = "SkylakeX" if "avx512f" in Path("/proc/cpuinfo").read_text() else "Haswell"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def knn(data: Features) -> Run:
    import ood

    detector = ood.Knn(k=K).fit(data.train)
    return lambda: detector.score(data.test, threads=threads())


def faiss_knn(data: Features) -> Run:
    """IndexFlatL2 on unit rows, as KNN's authors and OpenOOD use it."""
    import faiss

    faiss.omp_set_num_threads(threads())
    index = faiss.IndexFlatL2(data.dim)
    index.add(unit(data.train))
    return lambda: -np.sqrt(np.maximum(index.search(unit(data.test), K)[0][:, -1], 0))


def faiss_guide(data: Features) -> Run:
    """NNGuide as OpenOOD has it: IndexFlatIP, scipy's logsumexp."""
    import faiss
    from scipy.special import logsumexp

    faiss.omp_set_num_threads(threads())
    index = faiss.IndexFlatIP(data.dim)
    index.add(unit(data.train) * logsumexp(data.train_logits, axis=1, keepdims=True))
    return lambda: logsumexp(data.test_logits, axis=1) * index.search(unit(data.test), 10)[0].mean(axis=1)


def torch_guide(data: Features) -> Run:
    """All products of a batch at once."""
    import torch

    torch.set_num_threads(threads())
    energy = torch.from_numpy(data.train_logits).logsumexp(dim=1)
    guides = torch.from_numpy(unit(data.train)) * energy[:, None]
    features, logits = torch.from_numpy(unit(data.test)), torch.from_numpy(data.test_logits)

    def run() -> np.ndarray:
        scores = [batch.logsumexp(dim=1) * (z @ guides.T).topk(10, dim=1).values.mean(dim=1)
                  for z, batch in zip(features.split(500), logits.split(500))]
        return torch.cat(scores).numpy()
    return run


def guide(data: Features) -> Run:
    import ood

    detector = ood.NnGuide(k=10).fit(features=data.train, logits=data.train_logits)
    return lambda: detector.score(features=data.test, logits=data.test_logits, threads=threads())


def torch_relation(data: Features) -> Run:
    """The authors' kernel, batch by batch."""
    import torch

    torch.set_num_threads(threads())
    z, p = torch.from_numpy(unit(data.train)), torch.from_numpy(data.train_logits).softmax(dim=1)
    features = torch.from_numpy(unit(data.test))
    q = torch.from_numpy(data.test_logits).softmax(dim=1)

    def run() -> np.ndarray:
        scores = []
        for rows, probabilities in zip(features.split(500), q.split(500)):
            related = (rows @ z.T).clamp(min=0) * (probabilities @ p.T)
            scores.append(torch.where(related > 0.03, related, 0).sum(dim=1))
        return torch.cat(scores).numpy()
    return run


def relation(data: Features) -> Run:
    import ood

    detector = ood.Relation().fit(features=data.train, logits=data.train_logits)
    return lambda: detector.score(features=data.test, logits=data.test_logits, threads=threads())


WORKS = [
    *(Work(f"KNN, k = {K}, 10,000 queries, bank 50,000, D = {dim:,}", Features(10000, dim, 1000, 50000), knn,
           [Contender("faiss IndexFlatL2, as installed", faiss_knn, goal=6),
            Contender(f"faiss IndexFlatL2, {CORE}={BEST}", faiss_knn, goal=6, environment={CORE: BEST})],
           rounds=3)
      for dim in (512, 2048)),
    Work("NNGuide, 2,000 queries, bank 50,000, D = 2,048", Features(2000, 2048, 1000, 50000), guide,
         [Contender("faiss, OpenOOD's way", faiss_guide), Contender("PyTorch", torch_guide)], rounds=3),
    Work("Relation, 2,000 queries, bank 50,000, D = 2,048", Features(2000, 2048, 1000, 50000), relation,
         [Contender("PyTorch, the authors' way", torch_relation)], rounds=3, tolerance=5e-3),
]
