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
    "checkpoints.md": ["['checkpoint_000004', 'checkpoint_000005']", "6 epochs", "True", "4 epochs more"],
    "cli.md": [],
    "concepts.md": [
        "[3, 6]",
        "['definitions', 'journal', 'logs']",
        "['events.out.tfevents.holdfast', 'params.json', 'params.pkl', 'progress.csv', 'result.json'] and 3 checkpoints",
    ],
    "examples.md": [],
    "extending.md": ["a trial ended", "a trial ended", "1.0", "2 attempts"],
    "fault-tolerance.md": ["3 kills; [10, 10, 10]", "[]", "0", "0", "0"],
    "from-optuna.md": [],
    "getting-started.md": [],
    "resources.md": [
        "[(2.0, 2, '')]",
        "[(1.0, 1, ''), (2.0, 2, '')]",
        "[(1.0, 1, ''), (1.0, 1, '')]",
        "[100000.0, 200000.0]",
    ],
    "schedulers.md": [],
    "search.md": ["20 ('a', 1) True", "[('C', 'kind'), ('depth', 'kind')]", "0 errors", "10 climbed", "25 trials known"],
    "simulating.md": [],
    "spot-and-slurm.md": [],
    "stopping.md": ["[20, 20]", "[7, 1]", "[20, 8]", "3 trials of 100", "[6, 6, 6, 6]"],
}
BLOCK = re.compile(r'^```(bash|python)(?: title="(\S+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```\w", re.MULTILINE)


def steps(page: str) -> list[tuple[str, str]]:
    """What is to be run, as (file, text): a titled block is a file of its own, all other Python goes into one script."""
    script, found = "", []
    for language, title, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if title:
            found.append((title, text))
        elif language == "bash":
            found.append(("step.sh", text))
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
            assert name != "page.py" or not PAGES[page] or done.stdout.splitlines() == PAGES[page]


def test_the_pages_have_something_to_run() -> None:
    assert [sum(name != "page.py" or bool(text) for name, text in steps(page)) > 0 for page in PAGES] == [True] * len(PAGES)


def test_every_block_of_every_page_is_run() -> None:
    texts = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    assert [page for page, text in texts.items() if len(FENCE.findall(text)) != len(BLOCK.findall(text))] == []
    assert {page for page, text in texts.items() if FENCE.search(text)} == set(PAGES)
