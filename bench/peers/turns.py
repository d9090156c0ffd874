"""Contenders in processes of their own that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
from work import Rows, Work

WORKS = ("logit_scores", "feature_scores", "row_by_row", "neighbours", "ranking")


def all_works(divisor: int = 1) -> dict[str, Work]:
    works = [work for module in WORKS for work in importlib.import_module(module).WORKS]
    return {work.name: work if divisor == 1 else work.smaller(divisor) for work in works}


def _serve(work_name: str, divisor: int, contender_name: str, turns: Connection) -> None:
    try:
        work = all_works(divisor)[work_name]
        contender = work.contender(contender_name)
        run = contender.prepare(Rows(work.data, contender.rows) if contender.rows else work.data)
        result = run()
        turns.send(("scores", np.asarray(result() if callable(result) else result, np.float64)))
        while turns.recv():
            start = time.perf_counter()
            run()
            turns.send(("seconds", time.perf_counter() - start))
    except ModuleNotFoundError as error:
        turns.send(("absent", str(error)))
    except EOFError:
        pass
    except BaseException:
        turns.send(("failed", traceback.format_exc()))


class Player:
    """A contender at work elsewhere."""

    def __init__(self, work: str, divisor: int, contender: str,
                 environment: Mapping[str, str] | None = None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._turns, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(work, divisor, contender, other), daemon=True)
        os.environ.update(environment or {})  # of this process while the other one starts
        self._process.start()
        for name in environment or {}:
            del os.environ[name]
        other.close()

    def answer(self, expected: str) -> object:
        kind, value = self._turns.recv()
        if kind == expected:
            return value
        if kind == "absent":
            raise ModuleNotFoundError(value)
        raise RuntimeError(value)

    def turn(self) -> float:
        self._turns.send(True)
        return float(self.answer("seconds"))  # type: ignore[arg-type]

    def leave(self) -> None:
        self._turns.close()
        self._process.join(10)
        self._process.kill()


@dataclass
class Comparison:
    """Of libood with one peer. Seconds are for all rows of the work."""

    work: str
    peer: str
    goal: float | None
    ours: float = float("nan")
    theirs: float = float("nan")
    ratio: float = float("nan")
    ratios: list[float] = field(default_factory=list)
    #: Of the peer, and what its time was multiplied with; None where it had all.
    rows: int | None = None
    scale: float = 1.0
    difference: float = float("nan")
    missing: str = ""


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest one, over the spread of theirs; of the rows that both have."""
    ours = ours[: len(theirs)]
    spread = float(np.ptp(theirs)) or float(np.abs(theirs).max()) or 1.0
    return float(np.abs(ours - theirs).max() / spread)


def compare(name: str, divisor: int = 1, rounds: int | None = None) -> list[Comparison]:
    """libood and each peer of a work in turns: the ratio is the median of those of the rounds."""
    work = all_works(divisor)[name]
    found = []
    us = Player(name, divisor, "libood")
    try:
        scores = np.asarray(us.answer("scores"))
        for peer in work.peers:
            result = Comparison(name, peer.name, peer.goal, rows=peer.rows)
            them = Player(name, divisor, peer.name, peer.environment)
            try:
                theirs = np.asarray(them.answer("scores"))
                result.scale = len(scores) / len(theirs) if peer.rows else 1.0
                result.difference = difference(scores, theirs)
                if not result.difference <= work.tolerance:
                    raise RuntimeError(f"scores differ by {result.difference} of their spread, "
                                       f"expected at most {work.tolerance}")
                pairs = [(us.turn(), result.scale * them.turn()) for _ in range(rounds or work.rounds)]
                result.ours, result.theirs = np.median(pairs, axis=0).tolist()
                result.ratios = [theirs / ours for ours, theirs in pairs]
                result.ratio = float(np.median(result.ratios))
            except ModuleNotFoundError as error:
                result.missing = str(error)
            finally:
                them.leave()
            found.append(result)
    finally:
        us.leave()
    return found


def set_environment(count: int) -> None:
    """For this process and its children, before they load what obeys: so many threads, and OpenBLAS as it is
    installed, whatever kernels the shell asks it for.

    Threads that wait sleep, so that those of one process are not in the way of another's."""
    for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
        del os.environ[name]
    for library in ("OMP", "OPENBLAS", "MKL", "BLIS"):
        os.environ[f"{library}_NUM_THREADS"] = str(count)
    os.environ["OMP_WAIT_POLICY"] = "passive"
