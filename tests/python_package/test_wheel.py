"""What an installed wheel carries."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import ood
import pytest

# What every Linux has (manylinux), and what is Python's own.
SYSTEM = re.compile(r"(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libutil|libresolv|libgcc_s|libstdc\+\+)\.so")
PACKAGE = Path(ood.__file__).parent
SOURCE = Path(__file__).resolve().parents[2]

# Scores and reads a file, then tells which libraries are mapped.
SCRIPT = """
import pathlib, sys, tempfile
before = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
import numpy, numpy.linalg, numpy.random
numpy_alone = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
import ood
path = pathlib.Path(tempfile.mkdtemp()) / "small.h5"
rows = numpy.random.default_rng(0).normal(size=(50, 8)).astype("f4")
ood.write(path, train={"features": rows, "labels": numpy.arange(50) % 2}, id_test={"features": rows})
ood.Mahalanobis().fit(ood.open(path)).score(ood.open(path).id_test)
after = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print("\\n".join(sorted(after - numpy_alone)))
"""


def test_version_is_that_of_the_sources() -> None:
    declared = re.search(r"project\(ood VERSION ([0-9.]+)", (SOURCE / "CMakeLists.txt").read_text())
    assert declared and ood.__version__ == declared[1] == importlib.metadata.version("libood")


def test_the_libraries_are_those_of_the_wheel() -> None:
    libraries = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True,
                               text=True).stdout.split()
    carried = PACKAGE.parent / "libood.libs"
    if not carried.is_dir():
        pytest.skip("not installed from a wheel that carries its libraries")
    assert any(Path(path).name.startswith("libhdf5") for path in libraries)
    python = Path(sys.base_prefix)
    strangers = [path for path in libraries
                 if not SYSTEM.match(Path(path).name) and not Path(path).is_relative_to(carried)
                 and not Path(path).is_relative_to(PACKAGE) and not Path(path).is_relative_to(python)
                 and "lib-dynload" not in path]
    assert strangers == []


def test_carried_libraries_have_their_licences() -> None:
    files = importlib.metadata.files("libood") or []
    if not any(file.parts[0] == "libood.libs" for file in files):
        pytest.skip("not installed from a wheel that carries its libraries")
    licences = {file.stem: file.read_text() for file in files if "carried" in file.parts}
    for package in ("libdnnl2", "libhdf5-103-1", "libcurl4", "libgomp1", "libfmt9", "libeigen3-dev", "libjs-chart.js"):
        assert "opyright" in licences[package]


@pytest.mark.skipif("OOD_LIBRARIES_HIDDEN" not in os.environ, reason="libraries are not hidden")
def test_the_libraries_for_developers_are_hidden() -> None:
    for library in ("libhdf5_serial.so.103", "libdnnl.so.2", "libfmt.so.9"):
        with pytest.raises(OSError):
            ctypes.CDLL(library)


def test_typed_and_described() -> None:
    assert (PACKAGE / "py.typed").is_file()
    metadata = importlib.metadata.metadata("libood")
    assert metadata["Summary"] and metadata["Requires-Python"] == ">=3.10"
    assert {extra for extra in metadata.get_all("Provides-Extra", [])} >= {"pandas", "torch"}
