"""A piece of work, and who can do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

Run = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """Somebody's way: `prepare` makes from the data what is timed. That returns scores as libood has them, or,
    where it is a fit that is timed, a function that does."""

    name: str
    prepare: Callable[[Any], Run]
    #: How many times the time of libood it should take at least; None where no goal is stated.
    goal: float | None = None
    #: Rows that it is given of the data's test rows, where all would take too long: its time is
    #: proportional to them, as it goes row by row or batch by batch.
    rows: int | None = None
    #: Variables of its process, which are not set elsewhere.
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    name: str
    data: Any
    ours: Callable[[Any], Run]
    peers: list[Contender]
    #: The largest difference of scores, over their spread.
    tolerance: float = 1e-3
    note: str = ""
    rounds: int = 5

    def smaller(self, divisor: int) -> Work:
        """The same in a fraction of the time: to see whether it runs and agrees, not how fast it is."""
        sizes = {name: max(value // divisor, 16) for name, value in vars(self.data).items()
                 if isinstance(value, int)}
        if "train_rows" in sizes:  # some need 20 right predictions of each class
            sizes["train_rows"] = max(sizes["train_rows"], 60 * sizes["classes"])
        peers = [replace(peer, rows=peer.rows and max(peer.rows // divisor, 8)) for peer in self.peers]
        return replace(self, data=replace(self.data, **sizes), peers=peers)

    def contender(self, name: str) -> Contender:
        if name == "libood":
            return Contender("libood", self.ours)
        return next(peer for peer in self.peers if peer.name == name)


@dataclass
class Rows:
    """The data with fewer test rows."""

    data: Any
    count: int
    _cut: tuple[str, ...] = field(default=("test", "test_logits"))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.data, name)
        return value[: self.count] if name in self._cut else value


def threads() -> int:
    """What every contender is held to: see turns.py."""
    import os

    return int(os.environ["OMP_NUM_THREADS"])
