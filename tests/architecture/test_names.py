"""Public is what is listed: each file's `__all__` is there, sorted, without doubles, and names only what exists."""

from __future__ import annotations

import ast
import importlib

import pytest

from absent import absent

ON_TORCH = {
    "integration/keras.py": ("torch",),
    "integration/pytorch_lightning.py": ("torch", "lightning"),
    "integration/transformers.py": ("torch", "transformers"),
}


def listed(source) -> list[str] | None:
    """The names in a file's `__all__`, or None where there is none."""
    for node in source.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))
    return None


def is_code(source) -> bool:
    """Whether a file defines anything: more than a docstring and a `__future__` import."""
    own = [n for n in source.tree.body if not isinstance(n, ast.Expr) and getattr(n, "module", "") != "__future__"]
    return bool(own) and not source.path.endswith("__main__.py")


def test_every_file_lists_its_names(sources):
    assert [source.path for source in sources if is_code(source) and listed(source) is None] == []


def in_order(names: list[str]) -> list[str]:
    """CONSTANTS, then Classes, then functions, each by name: the order that ruff keeps as well (RUF022)."""
    return sorted(set(names), key=lambda name: (not name.isupper(), not name[:1].isupper(), name))


def test_lists_are_sorted_and_without_doubles(sources):
    assert [source.path for source in sources if (names := listed(source)) and names != in_order(names)] == []


def test_listed_names_exist(sources):
    missing = []
    for source in sources:
        names = listed(source)
        if names and not absent(*ON_TORCH.get(source.path, ())):
            module = importlib.import_module(source.module)
            missing += [f"{source.module}.{name}" for name in names if not hasattr(module, name)]
    assert missing == []


def test_a_name_that_is_not_there_is_an_attribute_error():
    holdfast = importlib.import_module("holdfast")
    with pytest.raises(AttributeError):
        _ = holdfast.Tunner
