#!/usr/bin/env python3
"""Writes ood/detectors.py, a class for each detector, from the type list and the headers' comments.

    generate_detectors.py --module FOLDER --out FILE

FOLDER holds the compiled module _ood, which says what detectors there are and which options they have.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.dont_write_bytecode = True

from detector_headers import class_name, doc_block, parts_of  # noqa: E402

HEAD = '''"""A class for each detector. Generated from the C++ library's list of them; do not edit."""

# fmt: off
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from .detector import Detector
'''

# What an example calls with, in the order of its lines.
ARRAYS = {
    "features": "features = np.abs(random.normal(size=(60, 8))).astype(np.float32)",
    "labels": "labels = np.arange(60) % 3",
    "logits": "logits = (3 * np.eye(3)[np.arange(60) % 3] + random.normal(size=(60, 3))).astype(np.float32)",
    "layers": "layers = {'block1': np.abs(random.normal(size=(60, 5))).astype(np.float32)}",
    "copies/features": "copy_features = np.abs(random.normal(size=(4, 60, 8))).astype(np.float32)",
    "copies/logits": "copy_logits = 3 * random.normal(size=(4, 60, 3)).astype(np.float32)",
    "head": "head = random.normal(size=(3, 8)).astype(np.float32), np.zeros(3, np.float32)",
}


def keyword(array: str) -> str:
    name = array.replace("copies/", "copy_")
    return f"{name}={name}"


def annotation(option: dict[str, Any]) -> str:
    default = option["default"]
    if isinstance(default, str):
        return f"Literal[{', '.join(map(repr, option['sweep']))}]" if option["sweep"] else "str"
    if isinstance(default, list):
        return "Sequence[float]"
    return type(default).__name__


def default_text(option: dict[str, Any]) -> str:
    default = option["default"]
    return repr(tuple(default)) if isinstance(default, list) else repr(default)


def example(cls: str, needs: dict[str, Any]) -> list[str]:
    used = [name for name in ARRAYS if name in {*needs["fit"], *needs["score"]}]
    lines = [">>> import numpy as np, ood", ">>> random = np.random.default_rng(0)"]
    lines += [f">>> {ARRAYS[name]}" for name in used]
    fit = [keyword(name) for name in used if name in needs["fit"]]
    if needs["outliers"]:
        given = ", ".join(f"{name!r}: 2 * {name.replace('copies/', 'copy_')}" for name in needs["outliers"])
        fit.append(f"ood_val={{'noise': {{{given}}}}}")
    score = [keyword(name) for name in needs["score"] if name != "head"]
    lines.append(f">>> detector = ood.{cls}()" + (f".fit({', '.join(fit)})" if fit else ""))
    lines += [f">>> detector.score({', '.join(score)}).shape", "(60,)"]
    return lines


def wrapped(text: str, indent: str, width: int = 92) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent="    ",
                         break_on_hyphens=False, break_long_words=False)


def python_errors(text: str) -> str:
    return text.replace("std::domain_error", "ValueError").replace("std::invalid_argument", "ValueError")


def doc(cls: str, detector: dict[str, Any]) -> str:
    preamble, keys = parts_of(doc_block(detector["name"]))
    lines = [line.rstrip() for line in preamble]
    while lines and not lines[-1]:
        lines.pop()
    needs = detector["needs"]
    where = " of id_val" if needs["split"] == "id_val" else ""
    extra = f", and {', '.join(needs['outliers'])} of ood_val" if needs["outliers"] else ""
    lines += ["", f"Fit: {', '.join(needs['fit']) or 'nothing'}{where}{extra}. "
                  f"Score: {', '.join(needs['score'])}."]
    for option in detector["options"]:
        if option is detector["options"][0]:
            lines += ["", "Options", "-------"]
        lines.append(f"{option['name']} : {option['expected']}; default {default_text(option)}")
        lines += wrapped(option["help"], "    ")
    for preset in detector["presets"]:
        if preset is detector["presets"][0]:
            lines += ["", "Presets", "-------"]
        lines.append(preset[0])
        options = ", ".join(f"{name}={value!r}" for name, value in preset[1].items())
        lines += wrapped(f"{preset[2]}: {options}", "    ")
    for key in ("cost", "bound", "errors", "source"):
        if key in keys:
            lines += ["", *wrapped(f"{key.capitalize()}: {python_errors(keys[key])}", "", 96)]
    lines += ["", "Example", "-------", *example(cls, needs)]
    text = "\n".join(lines).replace("\\", "\\\\").replace('"""', "'''")
    return textwrap.indent(text, "    ").strip()


def class_text(detector: dict[str, Any]) -> str:
    cls = class_name(detector["name"])
    options = detector["options"]
    names = "".join(f"{option['name']!r}, " for option in options)
    lines = [f"class {cls}(Detector):", f'    """{doc(cls, detector)}', '    """', "",
             f"    _name: ClassVar[str] = {detector['name']!r}",
             f"    _options: ClassVar[tuple[str, ...]] = ({names})",
             "    _presets: ClassVar[dict[str, dict[str, Any]]] = "
             f"{ {name: values for name, values, _ in detector['presets']} !r}", ""]
    if options:
        lines += ["    def __init__(", "        self,", "        *,"]
        lines += [f"        {o['name']}: {annotation(o)} = {default_text(o)}," for o in options]
        lines += ["    ) -> None:"]
        lines += [f"        self.{o['name']} = {o['name']}" for o in options]
        lines += ["        self._check_options()"]
    else:
        lines += ["    def __init__(self) -> None:", "        pass"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the module of all detectors.")
    parser.add_argument("--module", required=True, help="folder of the compiled module _ood")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.module)
    catalog = importlib.import_module("_ood").catalog()
    classes = {detector["name"]: class_name(detector["name"]) for detector in catalog}
    exported = ", ".join(f'"{cls}"' for cls in sorted(classes.values()))
    mapping = "".join(f"    {name!r}: {cls},\n" for name, cls in classes.items())
    arguments.out.write_text("\n\n".join([
        HEAD + f"\n__all__ = [{exported}]\n", *map(class_text, catalog),
        "#: Every class by the name that reports, the command and saved files call it.\n"
        f"DETECTORS: dict[str, type[Detector]] = {{\n{mapping}}}\n"]), encoding="utf-8")


if __name__ == "__main__":
    main()
