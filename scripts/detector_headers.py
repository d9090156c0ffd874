"""What the headers of the detectors say of them: their classes, and the comments above those."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
HEADERS = SOURCE / "include/ood/detectors"
KEYS = ("needs", "fit", "score", "cost", "bound", "errors", "source")
CLASS = re.compile(r"class (\w+) (final )?: public Detector")


def class_name(name: str) -> str:
    """ConjNorm for conjnorm."""
    found = CLASS.search((HEADERS / f"{name}.h").read_text())
    assert found, f"{name}.h has no detector"
    return found[1]


def doc_block(name: str) -> list[str]:
    """The comment of the class in its header, without the slashes."""
    lines = (HEADERS / f"{name}.h").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if CLASS.match(line))
    first = at
    while lines[first - 1].startswith("///"):
        first -= 1
    return [line.removeprefix("///").removeprefix(" ") for line in lines[first:at]]


def parts_of(block: list[str]) -> tuple[list[str], dict[str, str]]:
    """What comes before `needs`, and the text of each key."""
    preamble: list[str] = []
    keys: dict[str, str] = {}
    key = ""
    for line in block:
        found = re.match(rf"({'|'.join(KEYS)})\s+(\S.*)", line)
        if found and (keys or found[1] == "needs"):
            key = found[1]
            keys[key] = found[2]
        elif key:
            keys[key] += " " + line.strip()
        else:
            preamble.append(line)
    return preamble, {key: " ".join(text.split()) for key, text in keys.items()}
