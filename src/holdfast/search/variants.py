"""Variants: whole configurations made of a search space, each reachable by its number alone.

This module knows the order of a grid, how `sample_from` functions that need each other are resolved, and from which numbers a
trial's chance is made. It remembers nothing between two trials but, with `constant` draws, those of the current sample.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from copy import copy
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

from holdfast.errors import SearchSpaceError
from holdfast.space import Categorical, Domain, Float, Integer, check_space
from holdfast.space.laws import Source
from holdfast.space.variables import Path, Variable, as_domain, find_variables, grid_size, joined, overridden, sort_key

__all__ = ["Plan", "Variant"]


class Variant(NamedTuple):
    """One configuration.

    Attributes:
        config: The resolved configuration; its containers are its own.
        evaluated: Flattened key → value, only for the keys that were variables.
    """

    config: dict[Any, Any]
    evaluated: dict[str, Any]


class _Chance:
    """Numbers in [0, 1) that are a function of a name: blocks of a hash of the name and a counter.

    Made in a tenth of the time that seeding a `random.Random` takes, and the same for every version of Python.
    """

    __slots__ = ("_blocks", "_left", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._blocks = 0
        self._left: list[int] = []

    def random(self) -> float:
        """The next number, of 53 random bits."""
        if not self._left:
            self._left = list(_EIGHT.unpack(blake2b(f"{self._name}:{self._blocks}".encode()).digest()))
            self._blocks += 1
        return (self._left.pop() >> 11) * 2.0**-53


_EIGHT = Struct("<8Q")


class Plan:
    """All variants of a space, in order: first those of the points, then those of each sample.

    Args:
        param_space: The space.
        num_samples: How many samples, points included; -1 for ever.
        points: Configurations, whole or partial, that take the place of the first samples.
        constant: Whether a sample's draws are the same for all of its grid.
        seed: Chance for trial k is made of (seed, k), whatever was drawn before; with `constant` of (seed, sample).
        first: The number of its first variant: how many an earlier plan has, which this one goes on from.
    """

    def __init__(
        self,
        param_space: Any,
        num_samples: int = 1,
        points: Sequence[dict[Any, Any]] = (),
        constant: bool = False,
        seed: int = 0,
        first: int = 0,
    ) -> None:
        space = check_space(param_space)
        self._templates = [_Template(overridden(space, point)) for point in points]
        self._template = _Template(space)
        self._starts = [first]
        self._first = first
        for template in self._templates:
            self._starts.append(self._starts[-1] + template.size)
        self._constant = constant
        self._seed = seed
        self._kept: tuple[int, dict[Path, Any]] = (-1, {})
        samples = max(num_samples - len(points), 0)
        #: The number behind its last variant, which with `first` 0 is how many there are; None for ever.
        self.total = None if num_samples < 0 else self._starts[-1] + samples * self._template.size

    def variant(self, number: int) -> Variant:
        """The variant with the given number, from `first` to `total - 1`; equal numbers give equal ones, in any order of asking.

        Raises:
            SearchSpaceError: A user's function failed, or functions need each other in a circle.
        """
        point = bisect_right(self._starts, number) - 1
        if point < len(self._templates):
            sample, template, index = point, self._templates[point], number - self._starts[point]
        else:
            template = self._template
            sample, index = divmod(number - self._starts[-1], template.size)
            sample += len(self._templates)
        if not self._constant:
            return template.resolved(index, self._chance(number, 0), {})
        if self._kept[0] != sample:
            self._kept = (sample, template.constants(self._chance(self._first + sample, 1)))
        return template.resolved(index, self._chance(number, 0), self._kept[1])

    def _chance(self, number: int, stream: int) -> Source:
        return _Chance(f"{self._seed}:{number}:{stream}")


class _Template:
    """A space made ready: its variables found once."""

    def __init__(self, space: dict[Any, Any]) -> None:
        self.space = space
        variables = list(find_variables(space))
        self.grids = sorted((found for found in variables if found.domain.is_grid()), key=lambda found: sort_key(found.path))
        self.draws = [found for found in variables if not found.domain.is_grid() and not found.domain.is_function()]
        self.functions = [found for found in variables if found.domain.is_function()]
        self.names = [(joined(found.path), found.path) for found in variables]
        self.size = grid_size(space)
        self.may_nest = any(map(_may_nest, variables))
        # Grids without grids inside are counted through like a number; the others are walked.
        self.flat = self.size == _product(len(_values(grid)) for grid in self.grids)

    def constants(self, chance: Source) -> dict[Path, Any]:
        """What can be drawn before the grid is known."""
        config = _fresh(self.space)
        drawn = {found.path: found.domain.draw(chance) for found in self.draws}
        for path, value in drawn.items():
            _put(config, path, _fresh(value))
        made, _ = _call(config, self.functions, chance)
        return {**drawn, **made}

    def resolved(self, index: int, chance: Source, known: dict[Path, Any]) -> Variant:
        """The variant at a place of the grid; `known` draws are taken instead of new ones."""
        config = _fresh(self.space)
        names = self.names
        index, again = self.fill(config, index, chance, known)
        for _ in range(_DEEPEST):
            if not again:
                return Variant(config, {name: _at(config, path) for name, path in names})
            # What was chosen holds variables itself.
            inner = _Template(config)
            names = names + [name for name in inner.names if name not in names]
            index, again = inner.fill(config, index, chance, {})
        raise SearchSpaceError(f"The search space is still open after {_DEEPEST} rounds. Does a sample_from return itself?")

    def fill(self, config: dict[Any, Any], index: int, chance: Source, known: dict[Path, Any]) -> tuple[int, bool]:
        """Fills each open place. Returns the place in the grids inside the values, and whether those hold variables."""
        index = self._set_grid(config, index)
        for path, domain in self.draws:
            value = known[path] if path in known else domain.draw(chance)
            _put(config, path, _fresh(value))
        if not self.functions:
            return index, self._is_open(config)
        for path, _ in self.functions:
            if path in known:
                _put(config, path, _fresh(known[path]))
        asked = [found for found in self.functions if found.path not in known]
        made, stuck = _call(config, asked, chance)
        again = self._is_open(config)
        if stuck and not made and len(asked) == len(self.names):
            circle = ", ".join(f"{name!r} needs {needs!r}" for name, needs in stuck.items())
            raise SearchSpaceError(f"sample_from functions need each other's values in a circle: {circle}. Merge them into one.")
        return index, again

    def _is_open(self, config: dict[Any, Any]) -> bool:
        """Whether a place that was filled holds variables."""
        if not self.may_nest:
            return False
        for _, path in self.names:
            value = _at(config, path)
            if isinstance(value, (dict, list, tuple, Domain)) and any(True for _ in find_variables(value)):
                return True
        return False

    def _set_grid(self, config: dict[Any, Any], index: int) -> int:
        """Puts the grid's values; the first grid varies fastest. Returns the place in the grids inside those values."""
        if self.flat:
            for grid in self.grids:
                values = _values(grid)
                index, at = divmod(index, len(values))
                _put(config, grid.path, _fresh(values[at]))
            return index
        chosen: list[Any] = []
        for chosen in _points(self.grids):
            inner = _product(grid_size(value) for value in chosen)
            if index < inner:
                break
            index -= inner
        for grid, value in zip(self.grids, chosen, strict=True):
            _put(config, grid.path, _fresh(value))
        return index


_DEEPEST = 100


def _product(numbers: Any) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def _may_nest(found: Variable) -> bool:
    """Whether a variable's value may hold variables itself."""
    domain = found.domain
    if isinstance(domain, Categorical):
        return any(isinstance(value, (dict, list, tuple, Domain)) for value in domain.categories)
    return not isinstance(domain, (Float, Integer))


def _values(grid: Variable) -> list[Any]:
    assert isinstance(grid.domain, Categorical)
    return grid.domain.categories


def _points(grids: list[Variable]) -> Iterator[list[Any]]:
    if not grids:
        yield []
        return
    for later in _points(grids[1:]):
        for value in _values(grids[0]):
            yield [value, *later]


def _fresh(node: Any) -> Any:
    """A copy of the containers; what they hold is shared."""
    kind = type(node)
    if kind is dict or kind is _SoFar:
        return {key: _fresh(value) for key, value in dict.items(node)}
    if kind is list:
        return [_fresh(value) for value in node]
    if kind is tuple:
        return tuple(map(_fresh, node))
    if isinstance(node, dict):
        new = copy(node)
        for key, value in node.items():
            new[key] = _fresh(value)
        return new
    return node


def _put(node: Any, path: Path, value: Any) -> Any:
    """Sets the value at a path and returns the node, which is another one where tuples had to be made anew."""
    key = path[0]
    if len(path) > 1:
        value = _put(node[key], path[1:], value)
    if type(node) is tuple:
        return (*node[:key], value, *node[key + 1 :])
    node[key] = value
    return node


def _at(node: Any, path: Path) -> Any:
    for key in path:
        node = node[key]
    return node


# Functions of the configuration so far.


class _NotYet(Exception):
    """A function asked for a value that is not resolved yet."""


class _SoFar(dict[Any, Any]):
    """The configuration as a `sample_from` function sees it: a copy, in which open places cannot be read.

    It also answers to `spec.config.x`: `config` is the whole, and keys can be read as attributes.
    """

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        try:
            value = super().__getitem__(key)
        except KeyError:
            if key == "config":
                return self
            raise
        if type(value) is _Open:
            raise _NotYet(value.name)
        return value

    def __getattr__(self, name: str) -> Any:
        if name == "config":
            return self
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the configuration has no key {name!r}") from None

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 - it must go through __getitem__

    def __iter__(self) -> Iterator[Any]:
        self._need_all()
        return super().__iter__()

    def keys(self) -> Any:
        self._need_all()
        return super().keys()

    def values(self) -> Any:
        self._need_all()
        return super().values()

    def items(self) -> Any:
        self._need_all()
        return super().items()

    def copy(self) -> Any:
        self._need_all()
        return dict(self)

    def _need_all(self) -> None:
        for value in super().values():
            if type(value) is _Open:
                raise _NotYet(value.name)


class _Open:
    """Marks a place that is not resolved yet."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def _so_far(node: Any, path: Path = ()) -> Any:
    if as_domain(node) is not None:
        return _Open(joined(path))
    if isinstance(node, dict):
        return _SoFar((key, _so_far(value, (*path, key))) for key, value in node.items())
    if type(node) in (list, tuple):
        values = [_so_far(value, (*path, index)) for index, value in enumerate(node)]
        # Lists are read as a whole: one open place closes it.
        return next((value for value in values if type(value) is _Open), None) or type(node)(values)
    return node


def _call(config: dict[Any, Any], functions: list[Variable], chance: Source) -> tuple[dict[Path, Any], dict[str, str]]:
    """Calls the functions, each when what it needs is there; returns what they made, and for the others what they lack."""
    made: dict[Path, Any] = {}
    waiting = functions
    while waiting:
        stuck: dict[str, str] = {}
        later = []
        for found in waiting:
            try:
                value = found.domain.draw(chance, _so_far(config))
            except _NotYet as missing:
                stuck[joined(found.path)] = str(missing)
                later.append(found)
                continue
            except Exception as error:  # the user's function; the key says which
                raise SearchSpaceError(
                    f"The sample_from function of {joined(found.path)!r} failed: {type(error).__name__}: {error}."
                ) from error
            if grid_size(value) != 1:
                raise SearchSpaceError(f"The sample_from function of {joined(found.path)!r} returned a grid. Return a value.")
            made[found.path] = value
            _put(config, found.path, _fresh(value))
        if len(later) == len(waiting):
            return made, stuck
        waiting = later
    return made, {}
