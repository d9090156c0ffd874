"""The types that the package promises, checked with mypy from outside of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ood

pytest.importorskip("mypy")

PACKAGE = Path(ood.__file__).parent

GOOD = """
from pathlib import Path
from typing import Any
import numpy as np
import numpy.typing as npt
import ood

dataset = ood.open(Path("features.h5"))
reveal_type(dataset)  # Dataset
reveal_type(dataset.train)  # Split
reveal_type(dataset.ood["svhn"])  # Split
reveal_type(dataset.train.features)  # Array
reveal_type(dataset.train.shapes)  # dict[str, tuple[int, ...]]
reveal_type(len(dataset.train))  # int

detector = ood.ConjNorm(p=2.5, temperature=0.08, partition="importance", priors=[0.5, 0.5])
reveal_type(detector.p)  # float
reveal_type(detector.fit(dataset))  # ConjNorm
reveal_type(detector.fit(features=np.zeros((3, 2), np.float32), labels=[0, 1, 1], threads=2))  # ConjNorm
reveal_type(ood.Knn.preset("pytorch_ood", k=3))  # Knn
reveal_type(ood.Knn(k=5).set_params(k=6))  # Knn
reveal_type(detector.get_params())  # dict[str, Any]
reveal_type(detector.diagnostics.warnings)  # list[str]
scores: npt.NDArray[np.float32] = detector.score(dataset.id_test)
more: npt.NDArray[np.float32] = detector.score(features=[[1.0, 2.0]])

report = ood.evaluate(dataset, [detector, ood.Energy, "knn"], progress=True)
reveal_type(report)  # Report
reveal_type(ood.evaluate("features.h5", ood.Energy(), progress=lambda step, done: None))  # Report
reveal_type(report.to_json("report.json"))  # str
reveal_type(report.left_out)  # dict[str, str]

reveal_type(ood.metrics.auroc(scores, more))  # float
reveal_type(ood.metrics.auroc_interval(scores, more).low)  # float
reveal_type(ood.metrics.bootstrap(scores, more)["auroc"])  # Interval
reveal_type(ood.metrics.compare((scores, more), (scores, more)).difference.high)  # float
reveal_type(ood.metrics.compute(scores, more))  # dict[str, float]
reveal_type(ood.__version__)  # str
reveal_type(ood.devices()[0].free)  # int
reveal_type(ood.devices()[0].compute_capability)  # tuple[int, int]
reveal_type(ood.DETECTORS["knn"]())  # Detector

with ood.Writer("out.h5", model="net") as writer:
    writer.append("train", features=scores, layers={"block1": scores})
ood.write("out.h5", id_test={"logits": scores}, ood={"noise": {"logits": more, "kind": "far"}})
"""

# Each line is an error, of the kind that its comment names.
BAD = """
import ood
ood.Knn(50)  # call-arg|misc
ood.Knn(k="fifty")  # arg-type
ood.Knn(neighbours=5)  # call-arg
ood.ConjNorm(partition="nonsense")  # arg-type
ood.Energy(temperature=None)  # arg-type
ood.Knn().neighbours  # attr-defined
ood.Knn().score(featuers=[[1.0]])  # call-arg
ood.Knn().fit(threads="all")  # arg-type
ood.open(3)  # arg-type
ood.open("a.h5").train.fetaures  # attr-defined
ood.evaluate("a.h5", [3])  # list-item
ood.evaluate("a.h5", progress="yes")  # arg-type
ood.metrics.auroc([1.0])  # call-arg
ood.metrics.aupr([1.0], [0.0], "ood")  # call-arg|misc
ood.metrics.auroc_interval([1.0], [0.0]).upper  # attr-defined
ood.Knn().score([[1.0]], device=0)  # arg-type
x: int = ood.Knn().score([[1.0]])  # assignment
ood.NoSuchDetector()  # attr-defined
"""


def mypy(*arguments: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir",
                           str(cwd / "cache"), *map(str, arguments)],
                          capture_output=True, text=True, timeout=300, cwd=cwd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all: most of the time goes into NumPy's types."""
    return tmp_path_factory.mktemp("mypy")


def test_there_is_a_marker() -> None:
    assert (PACKAGE / "py.typed").is_file() and (PACKAGE / "_ood.pyi").is_file()


@pytest.mark.parametrize("version", ["3.10", "{0.major}.{0.minor}".format(sys.version_info)])
def test_the_package_is_strict(folder: Path, version: str) -> None:
    """Of pandas and tqdm no types are asked for: they may not be there."""
    result = mypy("--ignore-missing-imports", "--python-version", version, "-p", "ood", cwd=folder)
    assert (result.returncode, result.stdout) == (0, "")


def test_types_of_a_script(folder: Path) -> None:
    (folder / "good.py").write_text(GOOD)
    result = mypy("good.py", cwd=folder)
    assert result.returncode == 0, result.stdout
    revealed = {int(match[1]): match[2] for match in
                re.finditer(r'^good\.py:(\d+): note: Revealed type is "(.*)"$', result.stdout, re.M)}
    lines = GOOD.splitlines()
    expected = {number: line.rsplit("  # ")[1] for number, line in enumerate(lines, 1) if "reveal_type" in line}
    assert {number: plain(text) for number, text in revealed.items()} == expected


def plain(text: str) -> str:
    """"builtins.dict[builtins.str, ...]" as it is written; a named tuple by its name."""
    text = re.sub(r"tuple\[[^\[\]]*, fallback=([\w.]+)\]", r"\1", text)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def test_wrong_scripts_are_errors(folder: Path) -> None:
    (folder / "bad.py").write_text(BAD)
    result = mypy("bad.py", cwd=folder)
    found: dict[int, set[str]] = {}
    for match in re.finditer(r"^bad\.py:(\d+): error: .*\[([\w-]+)\]$", result.stdout, re.M):
        found.setdefault(int(match[1]), set()).add(match[2])
    expected = {number: line.rsplit("  # ")[1].split("|") for number, line in enumerate(BAD.splitlines(), 1)
                if "  # " in line}
    assert found.keys() == expected.keys(), result.stdout
    for number, kinds in expected.items():
        assert found[number] & set(kinds), f"{BAD.splitlines()[number - 1]}: {found[number]}"


# pybind11's classes have a metaclass, a __new__ and functions without a signature that could be read: what is
# compared is which names there are.
ALLOWED = r"""
ood\._ood\.[A-Z]\w+
ood\._ood\.\w+\.__(init|new)__
ood\._ood\._\w+
"""


def test_the_stubs_are_the_modules(folder: Path) -> None:
    (folder / "allowed").write_text(ALLOWED)
    result = subprocess.run([sys.executable, "-m", "mypy.stubtest", "ood._ood", "--allowlist", "allowed",
                             "--ignore-unused-allowlist"],
                            capture_output=True, text=True, timeout=300, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
