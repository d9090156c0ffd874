"""What the README shows is what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from conftest import SOURCE, Run


def test_the_example_is_the_compiled_one() -> None:
    readme = (SOURCE / "README.md").read_text()
    shown = readme.split("```cpp\n")[1].split("```")[0]
    assert shown == (SOURCE / "examples" / "quickstart.cc").read_text()


def test_links_lead_somewhere() -> None:
    for page in [SOURCE / "README.md", *(SOURCE / "docs").glob("*.md"), SOURCE / "CONTRIBUTING.md"]:
        for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text()):
            target = link.split("#")[0]
            if target and "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_detector_page_is_what_the_headers_say(ood: Run) -> None:
    script = SOURCE / "scripts" / "make-detector-docs"
    result = subprocess.run([sys.executable, script, "--check", os.environ["OOD_COMMAND"]],
                            capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_commands_of_the_deploy_page_run(ood: Run, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(SOURCE / "examples")
    folders = [Path(os.environ["OOD_COMMAND"]).parent, Path(sys.executable).parent]
    path = ":".join([*map(str, folders), os.environ["PATH"]])
    page = (SOURCE / "docs" / "deploy.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```sh\n")[1:]]
    assert len(blocks) == 4
    outputs = []
    for block in blocks:
        result = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path,
                                env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert outputs[2].startswith("row,score,p_value,accepted\n0,") and outputs[2].count("\n") == 6
    assert outputs[3].endswith("drift: exit status 1\n")
    assert np.load(tmp_path / "scores.npy")["p_value"].shape == (180,)
    with h5py.File(tmp_path / "scores.h5") as file:
        for name in (*file, *file.attrs):
            assert f"`{name}`" in page or f"`/{name}`" in page, name
    assert (tmp_path / "scores.csv").read_text().startswith("row,score,p_value,accepted\n")
