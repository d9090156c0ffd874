"""The committed expected values are what their script makes."""

from __future__ import annotations

import subprocess
import sys

from conftest import SOURCE


def test_reference_files_are_up_to_date() -> None:
    script = SOURCE / "tests" / "reference" / "make_reference.py"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
