"""The folder that keeps the finished shards of an extraction, so that it can be taken up again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Parts:
    """manifest.json with the settings, `<split>-<shard>.npz`, and an empty `<split>.done` for each
    split that is finished, where <split> is its place in settings["splits"]. Each file appears
    whole, so that whatever is there can be used, however the extraction ended.

    settings: what must be the same when the extraction is taken up again, by what it is called in
        the error; values as JSON has them.
    Raises ValueError for a folder with other settings, or one that something else made.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.head: str | None = None  # name of the module that is the head
        self.started = False  # whether head is known
        self._splits: list[str] = settings["splits"]
        self._manifest = folder / "manifest.json"
        if self._manifest.exists():
            manifest = json.loads(self._manifest.read_text())
            self._require_same(manifest["settings"])
            self.start(manifest["head"])
        elif folder.exists() and any(path.suffix != ".partial" for path in folder.iterdir()):
            raise ValueError(
                f"extract: {folder} has no manifest.json, expected a folder of extract, or none"
            )

    def _require_same(self, found: dict[str, Any]) -> None:
        keys = [key for key in self.settings | found if found.get(key) != self.settings.get(key)]
        if keys:
            old = ", ".join(f"{key} {found.get(key)}" for key in keys)
            new = ", ".join(f"{key} {self.settings.get(key)}" for key in keys)
            raise ValueError(
                f"extract: {self.folder} has {old}, expected {new}; delete the folder to start anew"
            )

    def start(self, head: str | None) -> None:
        """Sets the head. The folder is made with the first shard: errors before leave nothing."""
        self.head, self.started = head, True

    def count(self, split: str) -> tuple[int, int]:
        """Batches and rows of a split that are finished."""
        batches = rows = 0
        for path in self._paths(split):
            with np.load(path) as shard:
                batches += int(shard["count"][0])
                rows += int(shard["count"][1])
        return batches, rows

    def is_finished(self, split: str) -> bool:
        return self._done(split).exists()

    def save(self, split: str, arrays: Mapping[str, Array], batches: int, rows: int) -> None:
        if not self._manifest.exists():
            self.folder.mkdir(exist_ok=True)
            text = json.dumps({"settings": self.settings, "head": self.head}, indent=2)
            with _whole(self._manifest) as file:
                file.write(text.encode())
        path = self.folder / f"{self._prefix(split)}-{len(self._paths(split)):06d}.npz"
        content: dict[str, Any] = {"count": np.array([batches, rows]), **arrays}
        with _whole(path) as file:
            np.savez(file, **content)

    def finish(self, split: str) -> None:
        self._done(split).touch()

    def shards(self, split: str) -> Iterator[dict[str, Array]]:
        """The arrays of each shard, in order, one shard in memory."""
        for path in self._paths(split):
            with np.load(path) as shard:
                yield {name: shard[name] for name in shard.files if name != "count"}

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _prefix(self, split: str) -> str:
        # its number: a name may have characters that a file's name may not
        return f"{self._splits.index(split):03d}"

    def _done(self, split: str) -> Path:
        return self.folder / f"{self._prefix(split)}.done"

    def _paths(self, split: str) -> list[Path]:
        return sorted(self.folder.glob(f"{self._prefix(split)}-*.npz"))


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets its name when all of it is on disk."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
