"""Variables: where domains and grids stand in a search space, and how many variants that makes.

This module knows the places (paths of keys and list indices) and counts. It refuses to draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from holdfast.errors import SearchSpaceError
from holdfast.space.domains import Categorical, Domain, Float, Integer

__all__ = [
    "Path",
    "Variable",
    "check_space",
    "constants",
    "count_variants",
    "find_variables",
    "grid_size",
    "joined",
    "overridden",
    "sort_key",
    "space_keys",
    "uses_user_functions",
]

Path = tuple[Any, ...]
_GRID = "grid_search"


class Variable(NamedTuple):
    """A place whose value differs between trials."""

    path: Path
    domain: Domain


def joined(path: Path) -> str:
    """A path as the flattened key that people see: `net/layers/0`."""
    return "/".join(map(str, path))


def sort_key(path: Path) -> tuple[tuple[str, Any], ...]:
    """Orders paths by their keys; keys of different types by their type's name."""
    kinds = {str: "str", int: "int"}
    return tuple((kinds[type(key)], key) if type(key) in kinds else ("other", repr(key)) for key in path)


def as_domain(node: Any, path: Path = ()) -> Domain | None:
    """The domain that stands here: a `Domain`, or a grid written `{"grid_search": [...]}`; None for anything else."""
    if isinstance(node, Domain):
        return node
    if isinstance(node, dict) and (_GRID in node or (len(node) == 1 and _is_misspelt(*node.items()))):
        return _grid(node, path)
    return None


def constants(space: dict[Any, Any]) -> dict[Any, Any]:
    """The part of a space that is the same in every trial: without domains and grids, dictionary by dictionary."""
    fixed = {}
    for key, value in space.items():
        if as_domain(value, (key,)) is None:
            fixed[key] = constants(value) if isinstance(value, dict) else value
    return fixed


def find_variables(node: Any, path: Path = ()) -> Iterator[Variable]:
    """All variables below a node, in its own order; dictionaries, lists and tuples are walked, categories are not."""
    domain = as_domain(node, path)
    if domain is not None:
        yield Variable(path, domain)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from find_variables(value, (*path, key))
    elif type(node) in (list, tuple):
        for index, value in enumerate(node):
            yield from find_variables(value, (*path, index))


def check_space(param_space: Any) -> dict[Any, Any]:
    """The space itself, if it can be one; None means an empty one.

    Raises:
        SearchSpaceError: It is no dictionary, or holds a grid that is misspelt, empty, or inside a `choice`.
    """
    if param_space is None:
        return {}
    if not isinstance(param_space, dict):
        raise SearchSpaceError(f"param_space must be a dictionary, not {type(param_space).__name__}: {param_space!r:.200}.")
    if _GRID in param_space:
        raise SearchSpaceError("param_space itself cannot be a grid_search. Put it below a key: {'x': grid_search([...])}.")
    grid_size(param_space)
    return param_space


def grid_size(node: Any) -> int:
    """How many variants one sample of a space has: the product of its grids, grids inside grid values included."""
    size = 1
    for variable in find_variables(node):
        if variable.domain.is_grid():
            size *= sum(grid_size(value) for value in _categories(variable.domain))
        elif any(grid_size_is_open(value) for value in _categories(variable.domain)):
            raise SearchSpaceError(
                f"{joined(variable.path)!r} is a choice with a grid_search among its values: the number of trials would "
                "depend on chance. Make the choice a grid_search, or the grid a choice."
            )
    return size


def grid_size_is_open(node: Any) -> bool:
    """Whether a grid stands anywhere below a node, categories included."""
    return any(
        variable.domain.is_grid() or any(grid_size_is_open(value) for value in _categories(variable.domain))
        for variable in find_variables(node)
    )


def count_variants(param_space: Any, num_samples: int = 1, points_to_evaluate: Sequence[dict[Any, Any]] = ()) -> int:
    """How many trials a space makes; -1 for ever (`num_samples=-1`).

    A point takes the place of one sample and is expanded over the grids that it leaves open. There are at least as many
    samples as points.
    """
    space = check_space(param_space)
    if num_samples < 0:
        return -1
    of_points = sum(grid_size(overridden(space, point)) for point in points_to_evaluate)
    return of_points + max(num_samples - len(points_to_evaluate), 0) * grid_size(space)


def overridden(node: Any, point: Any, path: Path = ()) -> Any:
    """A space with the values of a point in the places that the point names.

    A value outside its domain, or unlike the constant in its place, is used and warned of.

    Raises:
        SearchSpaceError: The point names a key that the space has not.
    """
    domain = as_domain(node, path)
    if domain is not None:
        if as_domain(point, path) is None and not _admits(domain, point):
            _warn(f"points_to_evaluate gives {joined(path)!r} the value {point!r}, which is outside {domain!r}.")
        return point
    if isinstance(node, dict) and isinstance(point, dict):
        unknown = [joined((*path, key)) for key in point if key not in node]
        if unknown:
            raise SearchSpaceError(f"points_to_evaluate names {unknown}, unknown to param_space. Add them there, or drop them.")
        return {key: overridden(value, point[key], (*path, key)) if key in point else value for key, value in node.items()}
    if type(node) in (list, tuple) and type(point) in (list, tuple) and len(node) == len(point):
        return type(node)(overridden(value, point[i], (*path, i)) for i, value in enumerate(node))
    if not _same(node, point):
        _warn(f"points_to_evaluate gives {joined(path)!r} the value {point!r}, where param_space has the constant {node!r}.")
    return point


def space_keys(param_space: Any) -> list[str]:
    """The flattened keys of a space, sorted: what a restore compares. List indices count only where a variable stands below."""
    return sorted(set(_keys(check_space(param_space), ())))


def uses_user_functions(node: Any) -> bool:
    """Whether drawing from a space runs code of the user's: a `sample_from`, or a domain class of their own."""
    return any(
        type(variable.domain) not in (Float, Integer, Categorical)
        or any(uses_user_functions(value) for value in _categories(variable.domain))
        for variable in find_variables(node)
    )


def _keys(node: Any, path: Path) -> Iterator[str]:
    items: Iterable[tuple[Any, Any]] = ()
    if as_domain(node, path) is None:
        if isinstance(node, dict):
            items = node.items()
        elif type(node) in (list, tuple) and any(True for _ in find_variables(node)):
            items = enumerate(node)
    empty = True
    for key, value in items:
        empty = False
        yield from _keys(value, (*path, key))
    if empty and path:
        yield joined(path)


def _categories(domain: Domain) -> Sequence[Any]:
    return domain.categories if isinstance(domain, Categorical) else ()


def _is_misspelt(item: tuple[Any, Any]) -> bool:
    """Whether one entry looks like a grid whose name lost, gained or swapped a letter or two."""
    key, value = item
    if not isinstance(key, str) or abs(len(key) - len(_GRID)) > 2 or not isinstance(value, (list, tuple)):
        return False
    from difflib import SequenceMatcher

    return SequenceMatcher(None, key.lower(), _GRID).ratio() > 0.88


def _grid(node: dict[Any, Any], path: Path) -> Domain:
    where = joined(path)
    others = [key for key in node if key != _GRID]
    if _GRID not in node:
        raise SearchSpaceError(f"{where!r} is {{{others[0]!r}: [...]}}, almost a grid. Write grid_search([...]).")
    if others:
        raise SearchSpaceError(f"{where!r} has 'grid_search' beside {others}: a grid stands alone. Give each its own key.")
    values = node[_GRID]
    if isinstance(values, (set, frozenset)):
        raise SearchSpaceError(f"The grid of {where!r} is a set, which has no order of its own. Give a list.")
    try:
        return Categorical(values).grid()
    except SearchSpaceError:
        raise SearchSpaceError(f"{where!r} is a grid_search over {values!r:.200}: it needs a list of values.") from None


def _admits(domain: Domain, value: Any) -> bool:
    try:
        return bool(domain.is_valid(value))
    except (TypeError, ValueError):  # a comparison of unlike types, or of arrays
        return False


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # arrays do not compare to one answer
        return one is other


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)
