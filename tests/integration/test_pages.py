"""Pages whose Python and Bash are run as they stand there, in order, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
# Where it is certain what a page's script prints, it stands here.
PAGES: dict[str, list[str]] = {
    "analysis.md": [],
    "cli.md": [],
    "schedulers.md": [],
    "search.md": ["20 ('a', 1) True", "[('C', 'kind'), ('depth', 'kind')]", "0 errors", "10 climbed", "25 trials known"],
    "simulating.md": [],
}
BLOCK = re.compile(r"^```(bash|python)(?: title=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def steps(page: str) -> list[tuple[str, str]]:
    """What is to be run, as (file, text): a titled block is a file of its own, all other Python goes into one script."""
    script, found = "", []
    for language, title, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if language == "bash":
            found.append(("step.sh", text))
        elif title:
            found.append((title, text))
        else:
            script += text
    return [*found, ("page.py", script)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    commands = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOLDFAST_RESULTS_DIR": str(tmp_path / "results"),
        "HOLDFAST_CPUS": "2",
        "MPLBACKEND": "agg",
    }
    for name, text in steps(page):
        (tmp_path / name).write_text(text, encoding="utf-8")
        run = {"step.sh": ["bash", "-euo", "pipefail", name], "page.py": [sys.executable, name]}.get(name)
        if run is not None:
            done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False)
            assert done.returncode == 0, (text, done.stdout, done.stderr)
            assert not PAGES[page] or done.stdout.splitlines() == PAGES[page]


def test_the_pages_have_something_to_run() -> None:
    assert [sum(name != "page.py" or bool(text) for name, text in steps(page)) > 0 for page in PAGES] == [True] * len(PAGES)
