"""The composite action for GitHub: its steps as a runner runs them, with inputs as environment."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import SOURCE

FEATURES = SOURCE / "examples/data/digits.h5"
ACTION = yaml.safe_load((SOURCE / ".github/actions/ood-gate/action.yml").read_text())
STEPS = [step for step in ACTION["runs"]["steps"] if "run" in step]


def environment_of(step: dict[str, Any], inputs: dict[str, str]) -> dict[str, str]:
    values = {name: str(spec.get("default", "")) for name, spec in ACTION["inputs"].items()}
    values.update(inputs)
    environment = {}
    for name, expression in step.get("env", {}).items():
        match = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", expression)
        assert match, expression
        environment[name] = values[match[1]]
    return environment


@pytest.fixture()
def runner(tmp_path: Path):
    """Runs a step as GitHub does: `bash --noprofile --norc -eo pipefail FILE`, in an empty folder."""
    command = os.environ.get("OOD_COMMAND")
    if not command:
        pytest.skip("OOD_COMMAND does not name the ood executable")
    bin_folder = tmp_path / "temp/ood-gate/bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "ood").symlink_to(command)
    (tmp_path / "work").mkdir()

    def run(step: dict[str, Any], path: str = "", **inputs: str):
        script = tmp_path / "step.sh"
        script.write_text(step["run"])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            capture_output=True, text=True, timeout=300, cwd=tmp_path / "work",
            env={**os.environ, "PATH": path + os.environ["PATH"], "RUNNER_TEMP": str(tmp_path / "temp"),
                 "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
                 **environment_of(step, {name.replace("_", "-"): value
                                         for name, value in inputs.items()})})

    return run


def test_inputs_are_never_text_of_a_script() -> None:
    assert len(STEPS) == 2
    for step in STEPS:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
    used = re.findall(r"inputs\.([a-z-]+)", str(ACTION["runs"]))
    assert set(used) == set(ACTION["inputs"])
    assert [name for name, spec in ACTION["inputs"].items() if spec.get("required")] == ["features"]


def test_it_passes_and_writes_its_files(runner, tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    result = runner(STEPS[1], features=str(FEATURES), junit="out.xml",
                    require="# comment\n\n  knn.far.auroc >= 0.9\r\nenergy.near.auroc >= 0.9\n")
    assert (result.returncode, result.stderr) == (0, "")
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("before\n### ") and "| knn.far.auroc " in summary
    root = ElementTree.parse(tmp_path / "work/out.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "0")


def test_every_input_reaches_the_command(runner, tmp_path: Path) -> None:
    config = SOURCE / "examples/gate/requirements.toml"
    baseline = SOURCE / "examples/gate/baseline.json"
    result = runner(STEPS[1], features=str(FEATURES), config=str(config), same_rows="true",
                    max_drop="0.25", baseline=str(baseline), summary="false",
                    require="knn.far.auroc >= 0.999")
    assert result.returncode == 1
    assert "failed: knn.far.auroc: required >= 0.999, got 0.98" in result.stdout
    assert "conjnorm.near.auroc" in result.stdout  # of the config
    assert "a drop above 0.25" in result.stdout
    assert not (tmp_path / "summary.md").exists()


def test_a_failed_gate_is_in_the_summary(runner, tmp_path: Path) -> None:
    result = runner(STEPS[1], features=str(FEATURES), require="knn.far.auroc >= 0.999")
    assert result.returncode == 1
    assert "- failed: knn.far.auroc: required >= 0.999" in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize("hostile", [
    '"; touch PWNED; "', "$(touch PWNED)", "`touch PWNED`", "' || touch PWNED || '", "\n touch PWNED",
    "--update", "$HOME", "*", "x\ny; touch PWNED"])
@pytest.mark.parametrize("name", ["features", "require", "config", "baseline", "max_drop", "same_rows",
                                  "junit", "summary"])
def test_what_inputs_hold_is_data(runner, tmp_path: Path, name: str, hostile: str) -> None:
    inputs = {"features": str(FEATURES), "require": "energy.far.auroc >= 0.1", name: hostile}
    result = runner(STEPS[1], **inputs)
    written = {path.name for path in (tmp_path / "work").iterdir()}
    assert written <= ({hostile} if name == "junit" else set())
    # only a name of a file may be anything; what is not `true` is no
    assert result.returncode == (0 if name in ("junit", "same_rows", "summary") else 2), result.stderr


def test_pip_is_given_one_requirement(runner, tmp_path: Path) -> None:
    """With a python3 and a pip that write down how they were called."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    record = '#!/bin/bash\nprintf "%s\\n" "$@" >> ' + str(tmp_path / "calls") + "\n"
    for stub in (stubs / "python3", tmp_path / "temp/ood-gate/bin/pip"):
        stub.write_text(record)
        stub.chmod(0o755)
    hostile = "--index-url=x; touch PWNED $(touch PWNED)"
    result = runner(STEPS[0], path=f"{stubs}:", pip=hostile)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "calls").read_text().splitlines() == [
        "-m", "venv", str(tmp_path / "temp/ood-gate"),
        "install", "--quiet", "--disable-pip-version-check", "--", hostile]
    assert list((tmp_path / "work").iterdir()) == []


def test_jobs_of_the_documentation_are_yaml() -> None:
    text = (SOURCE / "docs/ci.md").read_text()
    jobs = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    github = next(job for job in jobs if "jobs" in job)
    step = next(step for step in github["jobs"]["gate"]["steps"]
                if "ood-gate" in step.get("uses", ""))
    assert set(step["with"]) <= set(ACTION["inputs"])
    gitlab = next(job for job in jobs if "ood gate" in str(job) and "jobs" not in job)
    assert "junit" in gitlab["gate"]["artifacts"]["reports"]
