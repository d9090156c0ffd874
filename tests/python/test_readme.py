"""What the README shows is what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys

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
