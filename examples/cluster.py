"""Fits, scores and evaluates on two worker processes of this machine, of Zarr arrays and of feature files.

    pip install 'libood[dask]'
    python examples/cluster.py [FEATURE_FILE]

A cluster of many machines differs in one line: Client("tcp://scheduler:8786"), and in where the arrays lie.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import dask.array as da
import zarr
from distributed import Client, LocalCluster

import ood
import ood.dask


def as_zarr(array: ood.Array, path: Path, chunk: int) -> da.Array:
    """Stands for arrays that are there: written block by block, read by the workers."""
    stored = zarr.open(str(path), mode="w", shape=array.shape, chunks=(chunk, *array.shape[1:]), dtype=array.dtype)
    for begin in range(0, len(array), chunk):
        stored[begin:begin + chunk] = array[begin:begin + chunk]
    return da.from_zarr(str(path))


def main(path: Path, folder: Path) -> None:
    file = ood.open(path)
    features = as_zarr(file.train.features, folder / "features.zarr", 300)
    labels = as_zarr(file.train.labels, folder / "labels.zarr", 300)
    outliers = as_zarr(file.ood["digit_9"].features, folder / "outliers.zarr", 50)

    detector = ood.dask.fit(ood.Mahalanobis(), features=features, labels=labels)
    scores = ood.dask.score(detector, outliers)  # lazy: nothing is read yet
    print(f"mean score of {scores.shape[0]} outliers: {scores.mean().compute():.1f}")
    print(ood.dask.evaluate([path], [detector, "energy", ood.Knn(k=5, bank_share=0.5)]))  # any number of files


if __name__ == "__main__":  # workers begin by importing this file
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data/digits.h5"
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster), \
            tempfile.TemporaryDirectory() as temporary:
        main(given, Path(temporary))
