"""What Python adds to the time of the library."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ood
from ood import _arrays


def seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def test_score_costs_what_the_library_costs() -> None:
    """Processor time on one thread. Each pair is timed at once, so that whatever else the machine does hits both; which
    one comes first alternates. The median of the ratios of 100 pairs is what is asserted, with room for a busy machine."""
    logits = np.random.default_rng(0).normal(size=(50_000, 1000)).astype(np.float32)
    detector = ood.Energy()
    model, arrays = detector._new_model(), _arrays.as_arrays({"logits": logits})
    works = {"python": lambda: detector.score(logits=logits, threads=1), "library": lambda: model.score(arrays, 1, "cpu")}
    for work in works.values():
        work()
    ratios, library = [], []
    for turn in range(100):
        order = ["python", "library"] if turn % 2 else ["library", "python"]
        found = {name: seconds(works[name]) for name in order}
        ratios.append(found["python"] / found["library"])
        library.append(found["library"])
    ratio = statistics.median(ratios)
    print(f"\nEnergy().score of 50,000 x 1,000: {1e3 * statistics.median(library):.2f} ms in the library, "
          f"{100 * (ratio - 1):+.2f} % by Python")
    assert ratio < 1.05
