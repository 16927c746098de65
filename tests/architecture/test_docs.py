"""The documents say what is: tests that they name exist, generated pages are fresh, and lists of names are whole."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

import pytest

import holdfast
from holdfast.faults import POINTS
from holdfast.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@lru_cache
def functions_in(path: str) -> frozenset[str]:
    """The names of the test functions in a file; none where there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    return frozenset(
        node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    )


def missing_tests(page: str) -> list[str]:
    """The tests that a page names and nobody has written."""
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", page)
    return [f"{path}::{name}" for path, name in named if name not in functions_in(path)]


def missing_files(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    return [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    assert missing_tests(page.read_text(encoding="utf-8")) == []


def test_a_test_that_is_not_there_is_named() -> None:
    assert missing_tests("see `tests/integration/test_kill.py::test_dance` and tests/nowhere.py::test_x") == [
        "tests/integration/test_kill.py::test_dance",
        "tests/nowhere.py::test_x",
    ]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert missing_files(page) == []


def test_the_fault_model_names_every_crash_point_and_no_other() -> None:
    table = text("docs/design/fault-model.md").partition("## Named crash points")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == POINTS


def test_the_fault_model_names_a_test_for_every_fault() -> None:
    rows = [line for line in text("docs/design/fault-model.md").splitlines() if line.startswith("| ")]
    heads = [line for line in rows if line.endswith("| tests |")]
    shown = [line for line in rows if "::test_" in line or re.search(r"\| [CFKSW](, [CFKSW])*[, ]", line)]
    assert len(shown) + len(heads) == len(rows)


def test_the_page_of_states_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("generate_states", ROOT / "docs" / "generate_states.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert text("docs/design/trial-states.md") == generator.page(), "run python docs/generate_states.py"
    assert text("docs/images/trial-states.svg") == generator.drawing(), "run python docs/generate_states.py"


def test_the_readme_lists_every_environment_variable() -> None:
    table = text("README.md").partition("## Environment variables")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(SETTINGS)


@pytest.mark.parametrize("room", ["holdfast", "holdfast.schedulers", "holdfast.search", "holdfast.stopper", "holdfast.logger"])
def test_the_migration_page_names_what_there_is(room: str) -> None:
    present, _, absent = text("docs/migration.md").partition("## Absent so far")
    names = set(importlib.import_module(room).__all__)
    assert names <= set(re.findall(r"\b\w+\b", present))
    assert not names & set(re.findall(r"`(\w+)`", absent))


def test_the_readme_names_every_verb() -> None:
    from holdfast.cli.verbs import holdfast as command

    assert set(re.findall(r"`holdfast (\w+)", text("README.md"))) == set(command.commands)


def test_versions_agree() -> None:
    newest = re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == holdfast.__version__
    assert f'version = "{holdfast.__version__}"' in text("pyproject.toml")
