"""The command that the wheel installs is the C++ command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ood

MAIN = [sys.executable, "-c", "import sys; from ood._command import main; sys.argv[0] = 'ood'; sys.exit(main())"]


@pytest.fixture(scope="module")
def ours() -> list[str]:
    """The script beside the interpreter; its code where the package was not installed as a wheel."""
    script = shutil.which("ood", path=str(Path(sys.executable).parent))
    return [script] if script else MAIN


def run(command: list[str], *arguments: object, **keywords: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, timeout=120, cwd="/", **keywords)


def test_the_wheel_installs_the_script(ours: list[str]) -> None:
    metadata = pytest.importorskip("importlib.metadata")
    try:
        distribution = metadata.distribution("libood")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed as a wheel")
    assert distribution.version == ood.__version__
    assert ours != MAIN
    assert {entry.name: entry.value for entry in distribution.entry_points} == {"ood": "ood._command:main"}


CASES = [["list"], ["--version"], ["--help"], ["eval", "--help"], ["inspect", "{digits}"],
         ["inspect", "{digits}", "-f", "json"], ["eval", "{digits}", "-f", "csv"],
         ["eval", "{digits}", "-f", "csv", "-d", "knn,msp", "-p", "knn.k=7", "--threads", "1"],
         [], ["nonsense"], ["eval"], ["eval", "{digits}", "-d", "nonsense"], ["eval", "/none.h5"],
         ["eval", "{digits}", "-d", "knn", "-p", "k=0"], ["inspect", "{digits}", "--nonsense"],
         ["eval", "{digits}", "-d", "msp", "-f", "csv", "-o", "/none/there.csv"]]


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_it_does_what_the_command_does(ours: list[str], command: str, digits: Path, arguments: list[str]) -> None:
    arguments = [argument.format(digits=digits) for argument in arguments]
    found, expected = run(ours, *arguments), run([command], *arguments)
    assert found.returncode == expected.returncode in (0, 2)
    assert found.stdout == expected.stdout
    assert found.stderr == expected.stderr
    assert (found.stdout == b"") == (found.returncode == 2)


def test_info_differs_in_nothing_but_what_runs(ours: list[str], command: str) -> None:
    found, expected = (run(each, "info").stdout.decode() for each in (ours, [command]))
    assert re.sub(r"threads: .*", "", found) == re.sub(r"threads: .*", "", expected)


def test_a_closed_pipe_is_quiet(ours: list[str]) -> None:
    """ood list | head -1: many times, as it is a race."""
    for _ in range(3):
        with subprocess.Popen([*ours, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=60) in (0, -13)


def test_a_full_disk_is_an_error(ours: list[str], digits: Path) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run([*ours, "inspect", digits], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 2
    assert result.stderr == b"ood: cannot write to standard output\n"


def test_arguments_that_are_no_text(ours: list[str], tmp_path: Path) -> None:
    """Paths are bytes: what is no UTF-8 comes through as it is."""
    name = str(tmp_path).encode() + b"/\xff\xfe.h5"
    result = subprocess.run([*ours, b"inspect", name], capture_output=True, timeout=60)
    assert result.returncode == 2 and name in result.stderr


def test_output_goes_in_order_with_that_of_python(digits: Path) -> None:
    script = "import ood; print('before', flush=True); ood._ood.run_command([b'--version']); print('after')"
    result = run([sys.executable, "-c", script])
    assert result.stdout.decode().split() == ["before", ood.__version__, "after"]
