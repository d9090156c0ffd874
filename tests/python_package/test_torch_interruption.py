"""How an extraction is taken up again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="ood.torch needs torch")

from torch.utils.data import DataLoader, Dataset  # noqa: E402

import ood  # noqa: E402
import ood.torch  # noqa: E402
from torch_networks import (  # noqa: E402, F401
    arrays,
    CLASSES,
    Failing,
    INPUTS,
    loaders,
    make_loader,
    make_mlp,
    make_rows,
    Mlp,
    rows,
    run,
    small_shards,
    WIDTH,
)


class Counting(Mlp):
    """Counts the rows that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        return super().forward(x)


class Rows(Dataset):
    """Counts the rows that are loaded, and may fail at one."""

    def __init__(self, values: torch.Tensor, fails_at: int = -1) -> None:
        self.values, self.fails_at, self.loaded = values, fails_at, 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == self.fails_at:
            raise OSError("disk on fire")
        self.loaded += 1
        return self.values[index], index % CLASSES


COPIES = [
    {},
    {"copies": 2, "mode": "weights", "sigma": 0.1, "seed": 3},
    {"copies": 2, "mode": "dropout", "seed": 3},
]


def counting() -> Counting:
    torch.manual_seed(3)
    return Counting()


@pytest.mark.parametrize(
    "options, workers",
    [*((options, 0) for options in COPIES), (COPIES[0], 1)],
    ids=["plain", "weights", "dropout", "workers"],
)
def test_interrupted_by_the_loader(
    tmp_path: Path, rows: dict[str, torch.Tensor], options: dict[str, Any], workers: int
) -> None:
    names = ("train", "id_test", "ood/noise")

    def loaders(fails_at: int) -> tuple[dict[str, DataLoader], dict[str, Rows]]:
        sets = {name: Rows(rows[name], fails_at if name == "id_test" else -1) for name in names}
        return {
            name: DataLoader(data, batch_size=16, num_workers=workers)
            for name, data in sets.items()
        }, sets

    whole = run(counting(), loaders(-1)[0], path=tmp_path / "whole.h5", **options)
    path = tmp_path / "f.h5"
    path.write_bytes(b"older")
    with pytest.raises(OSError, match="disk on fire"):
        run(counting(), loaders(70)[0], path=path, **options)
    assert path.read_bytes() == b"older"
    assert (tmp_path / "f.h5.parts").is_dir()
    model, (again, sets) = counting(), loaders(-1)
    assert run(model, again, path=path, **options) == path
    assert path.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "f.h5.parts").exists()
    # 130 rows of train and 48 of id_test were there: neither run nor loaded
    left = 75 - 48 + 50
    assert model.rows == left * (1 + options.get("copies", 0))
    if workers == 0:
        assert {name: data.loaded for name, data in sets.items()} == {
            "train": 0,
            "id_test": 27,
            "ood/noise": 50,
        }


@pytest.mark.parametrize("options", COPIES, ids=["plain", "weights", "dropout"])
@pytest.mark.parametrize("at", [3, 11, 20])
def test_interrupted_by_the_model(
    tmp_path: Path, loaders: dict[str, DataLoader], options: dict[str, Any], at: int
) -> None:
    torch.manual_seed(3)
    model = Failing(10**6)
    whole = run(model, loaders, path=tmp_path / "whole.h5", **options)
    assert at < model.calls
    model.at, model.calls = at, 0
    with pytest.raises(RuntimeError, match="device on fire"):
        run(model, loaders, path=tmp_path / "f.h5", **options)
    model.at = -1
    path = run(model, loaders, path=tmp_path / "f.h5", **options)
    assert path.read_bytes() == whole.read_bytes()


def test_any_iterable_goes_on_after_its_finished_batches(
    tmp_path: Path, rows: dict[str, torch.Tensor]
) -> None:
    def batches(count: int) -> Iterator[torch.Tensor]:
        yield from rows["train"].split(16)[:count]
        if count < 9:
            raise OSError("disk on fire")

    whole = run(counting(), batches(9), path=tmp_path / "whole.h5")
    with pytest.raises(OSError):
        run(counting(), batches(7), path=tmp_path / "f.h5")
    model = counting()
    path = run(model, batches(9), path=tmp_path / "f.h5")
    assert model.rows == 130 - 96
    assert path.read_bytes() == whole.read_bytes()


def test_a_finished_split_is_not_asked_for(tmp_path: Path, rows: dict[str, torch.Tensor]) -> None:
    class Once:
        """Batches that can be had once."""

        def __init__(self) -> None:
            self.asked = 0

        def __iter__(self) -> Iterator[torch.Tensor]:
            self.asked += 1
            return iter(rows["train"].split(16))

    train = Once()
    with pytest.raises(TypeError, match="a batch of id_test"):
        run(counting(), {"train": train, "id_test": ["text"]}, path=tmp_path / "f.h5")
    run(counting(), {"train": train, "id_test": [rows["id_test"]]}, path=tmp_path / "f.h5")
    assert train.asked == 1


def test_a_shard_that_is_cut_off_is_made_again(
    tmp_path: Path, loaders: dict[str, DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(counting(), loaders, path=tmp_path / "whole.h5")
    savez, calls = np.savez, []

    def cut(file: Any, **content: Any) -> None:
        calls.append(1)
        if len(calls) < 5:
            savez(file, **content)
        else:
            file.write(b"PK half of it")
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", cut)
        with pytest.raises(KeyboardInterrupt):
            run(counting(), loaders, path=tmp_path / "f.h5")
    path = run(counting(), loaders, path=tmp_path / "f.h5")
    assert path.read_bytes() == whole.read_bytes()


def test_killed(tmp_path: Path) -> None:
    """A process that is killed at its n-th forward pass, again and again until it gets through."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, signal, sys
import torch
import ood.torch

ood.torch._SHARD_ROWS = 40
path, passes = sys.argv[1], int(sys.argv[2])

class Killed(torch.nn.Sequential):
    def forward(self, x):
        global passes
        if passes == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        passes -= 1
        return super().forward(x)

torch.manual_seed(0)
model = Killed(torch.nn.Linear(12, 7), torch.nn.ReLU(), torch.nn.Linear(7, 5))
loaders = {name: list(torch.randn(100, 12).split(16)) for name in ("train", "id_test")}
ood.torch.extract(model, loaders, path=path, copies=1, sigma=0.1, progress=False)
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(path: Path, passes: int) -> int:
        command = [sys.executable, script, path, str(passes)]
        return subprocess.run(command, env=environment, timeout=120).returncode

    whole, path = tmp_path / "whole.h5", tmp_path / "f.h5"
    assert start(whole, 10**6) == 0
    ends = []
    while len(ends) < 10 and not path.exists():
        ends.append(start(path, 9))
    assert ends == [-signal.SIGKILL] * (len(ends) - 1) + [0]
    assert len(ends) > 2
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([script, whole, path])


def test_a_file_that_cannot_be_written_costs_no_second_run(
    tmp_path: Path, loaders: dict[str, DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(ood.torch, "Writer", Full)
        with pytest.raises(OSError, match="disk full"):
            run(counting(), loaders, path=tmp_path / "f.h5")
    model = counting()
    # attributes and types are those of the file alone
    path = run(model, loaders, path=tmp_path / "f.h5", dtype="float16", model_name="another")
    assert model.rows == 0
    assert arrays(path)["train/features"].dtype == np.float16


def test_shards_are_a_few_batches(
    tmp_path: Path, loaders: dict[str, DataLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []
    save = ood.torch.Parts.save

    def spy(self: Any, split: str, values: Any, batches: int, count: int) -> None:
        assert values["features"].shape == (count, WIDTH)
        saved.append((batches, count))
        save(self, split, values, batches, count)

    monkeypatch.setattr(ood.torch.Parts, "save", spy)
    run(counting(), loaders["train"], path=tmp_path / "f.h5", copies=1, sigma=0.1)
    assert saved == [(3, 48), (3, 48), (3, 34)]
    saved.clear()
    monkeypatch.setattr(ood.torch, "_SHARD_INPUT_BYTES", 32 * INPUTS * 4)
    run(counting(), loaders["train"], path=tmp_path / "f.h5")
    assert saved == [(2, 32)] * 4 + [(1, 2)]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"sigma": 0.2}, r"has sigma 0.1, expected sigma 0.2; delete the folder"),
        ({"copies": 3}, r"has copies 2, expected copies 3"),
        ({"seed": 1}, r"has seed 0, expected seed 1"),
        ({"layer": "last"}, r"has layer None, expected layer last"),
        ({"layers": ("last",)}, r"has layers \[\], expected layers \['last'\]"),
        ({"mode": "dropout", "sigma": None}, r"mode weights.*expected.*mode dropout"),
        ({"copies": 0, "sigma": None}, r"copies 2.*expected.*copies 0"),
        ({"model": make_mlp()}, r"has weights of model \w+, expected weights of model \w+;"),
        ({"loader": {"train": []}}, r"has splits \['train', 'id_test'\]"),
        ({"size": 8}, r"has loader of train .*'batch_size': 16.*expected .*'batch_size': 8"),
    ],
)
def test_other_settings_are_refused(
    tmp_path: Path, rows: dict[str, torch.Tensor], changed: dict[str, Any], message: str
) -> None:
    torch.manual_seed(9)
    loader = {"train": make_loader(rows["train"]), "id_test": make_loader(rows["id_test"])}
    options = {"path": tmp_path / "f.h5", "copies": 2, "sigma": 0.1}
    with pytest.raises(RuntimeError, match="device on fire"):
        run(Failing(30), loader, **options)
    torch.manual_seed(9)
    model = changed.pop("model", Failing(-1))
    if "size" in changed:
        loader = {**loader, "train": make_loader(rows["train"], changed.pop("size"))}
    options = {**options, "loader": loader, **changed}
    with pytest.raises(ValueError, match=message) as raised:
        run(model, **options)
    assert "f.h5.parts has" in str(raised.value)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "f.h5.parts"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear reader")
    with pytest.raises(ValueError, match="has no manifest.json, expected a folder of extract"):
        run(make_mlp(), [make_rows(4, 0)], path=tmp_path / "f.h5")
    assert (folder / "letter.txt").exists()
