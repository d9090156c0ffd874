"""The examples of the README and of docs/python.md run as they stand."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (SOURCE / page).read_text(), re.M | re.S)


@pytest.mark.parametrize(("page", "least"), [("README.md", 1), ("docs/python.md", 5)])
def test_examples_run(page: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(SOURCE / "examples")
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    assert len(found) >= least
    names: dict[str, object] = {}
    for block in found:  # one after the other, as a reader would
        if "sklearn" in block and importlib.util.find_spec("sklearn") is None:
            continue
        exec(compile(block, page, "exec"), names)
    assert (tmp_path / "report.html").stat().st_size > 100_000
