"""The source tree as the architecture tests see it: parsed files, by their path below `src/holdfast`."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"


@dataclass(frozen=True)
class Source:
    """One file of the library."""

    path: str
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @property
    def module(self) -> str:
        """Its dotted name."""
        parts = ("holdfast", *Path(self.path).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    found = [parse(str(file.relative_to(PACKAGE)), file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))]
    assert len(found) > 20, "the library's source was not found"
    return found


@pytest.fixture(scope="session")
def parse_source():
    """Makes a `Source` of a piece of code, to show that a rule catches what it is there for."""
    return parse
