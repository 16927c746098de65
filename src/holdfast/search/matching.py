"""Whether a value came of a part of a search space: the way back from configurations to what was chosen.

This module knows domains, containers and equality. It refuses to know where in a space the part stands.
"""

from __future__ import annotations

from typing import Any

from holdfast.space import Categorical, Domain

__all__ = ["index_of", "matches"]


def index_of(categories: list[Any], value: Any) -> int | None:
    """Which category a value is: the very object, else the first that is equal, resolves to it, or has the same pickle."""
    for index, category in enumerate(categories):
        if category is value:
            return index
    alike = [index for index, category in enumerate(categories) if matches(category, value)]
    if alike:
        exact = [index for index in alike if type(categories[index]) is type(value)]  # 1, 1.0 and True are equal
        return (exact or alike)[0]
    return _of_same_pickle(categories, value)


def _of_same_pickle(categories: list[Any], value: Any) -> int | None:
    """For functions and the like, which come back from a journal as another object with the same content."""
    import cloudpickle

    if isinstance(value, (str, int, float, bytes, type(None))):
        return None
    for index, category in enumerate(categories):
        try:
            if type(category) is type(value) and cloudpickle.dumps(category) == cloudpickle.dumps(value):
                return index
        except Exception:  # noqa: BLE001 - a user's object may raise anything while it is pickled; then it is not found
            return None
    return None


def matches(node: Any, value: Any) -> bool:
    """Whether a configuration's value may have come of this part of a space."""
    if isinstance(node, Categorical):
        return index_of(node.categories, value) is not None
    try:
        if isinstance(node, Domain):
            return bool(node.is_valid(value))
        if isinstance(node, dict):
            return isinstance(value, dict) and node.keys() == value.keys() and all(matches(node[key], value[key]) for key in node)
        if type(node) in (list, tuple):
            return type(value) in (list, tuple) and len(node) == len(value) and all(map(matches, node, value))
        return bool(node == value) or (node != node and value != value)
    except (TypeError, ValueError):  # unlike types, or arrays, which do not compare to one answer
        return False
