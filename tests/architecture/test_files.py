"""Every file says at its top what it knows, and holds no notes to self."""

from __future__ import annotations

import ast
import re

import pytest

NOTE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def test_every_file_opens_by_saying_what_it_is(sources):
    assert [source.path for source in sources if not ast.get_docstring(source.tree)] == []


def test_every_file_with_annotations_postpones_them(sources):
    def postpones(tree: ast.Module) -> bool:
        return any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)

    assert [source.path for source in sources if len(source.tree.body) > 1 and not postpones(source.tree)] == []


@pytest.mark.parametrize("folder", ["src", "tests", "examples", "bench", "docs"])
def test_there_are_no_notes_to_self(root, folder):
    found = []
    for file in sorted((root / folder).rglob("*")):
        if file.suffix in (".py", ".md", ".toml") and file.name != "test_files.py":
            lines = enumerate(file.read_text().splitlines(), 1)
            found += [f"{file.relative_to(root)}:{number}" for number, line in lines if NOTE.search(line)]
    assert found == []


def test_no_file_catches_everything_in_silence(sources):
    """`except ...: pass` on Exception or BaseException hides a fault from everybody."""
    found = [
        f"{source.path}:{node.lineno}"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and all(isinstance(s, ast.Pass) for s in node.body) and _broad(node.type)
    ]
    assert found == []


def _broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    return any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in ast.walk(caught))
