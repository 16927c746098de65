"""Nobody touches another object's underscore attribute; what begins with an underscore belongs to its own file.

Allowed are `self._x`, `cls._x`, `super()._x`, and any `_x` that the same file defines (two classes of one file may be
friends). The names of our own inner packages (`holdfast._core`) are no attributes in this sense.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

# Underscored by accident of history and meant for everybody; and what a process must run that ends with `os._exit`.
DOCUMENTED = {"_exit", "_getframe", "_xoptions", "_asdict", "_replace", "_fields", "_make", "_run_exitfuncs"}
SELVES = {"self", "cls", "mcs"}


def offences(source, packages: frozenset[str] = frozenset()) -> Iterator[str]:
    own = set(_defined(source.tree))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and _private(node.attr):
            if node.attr not in DOCUMENTED | own | packages and not _is_self(node.value):
                yield f"{source.path}:{node.lineno} {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if _private(alias.name) and alias.name not in packages:
                    yield f"{source.path}:{node.lineno} from {node.module} import {alias.name}"


def _private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name != "_"


def _is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id in SELVES
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _defined(tree: ast.Module) -> Iterator[str]:
    """The underscored names that a file gives: methods, class attributes, slots, and what is assigned to `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                yield from _named_in_class(child)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr


def _named_in_class(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        yield from (c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and isinstance(c.value, str))


def test_nobody_touches_anothers_underscore(sources):
    packages = frozenset(part for source in sources for part in source.module.split(".") if part.startswith("_"))
    found = [offence for source in sources for offence in offences(source, packages)]
    assert not found, "\n".join(found)


def test_the_rule_catches_reading_writing_and_importing(parse_source):
    text = "from holdfast.space import _draw\ndef f(trial):\n    trial._status = trial.inner._x\n    return trial._go()\n"
    assert list(offences(parse_source("x.py", text))) == [
        "x.py:1 from holdfast.space import _draw",
        "x.py:3 trial._status",
        "x.py:3 trial.inner._x",
        "x.py:4 trial._go",
    ]


def test_the_rule_allows_what_is_ones_own(parse_source):
    text = (
        "import os\nfrom holdfast import _core\n"
        "class A:\n    __slots__ = ('_s',)\n    _c: int = 0\n    def __init__(self):\n        self._x = super()._y\n"
        "    def same(self, other):\n        return other._x, other._s, other._c, other.__dict__\n"
        "os._exit(0)\n"
    )
    assert list(offences(parse_source("x.py", text), frozenset({"_core"}))) == []
