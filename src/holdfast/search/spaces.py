"""Search spaces as optimizers see them: a flat list of leaves, and the way back to configurations. All searchers share it.

    space = SearchSpace(param_space, "OptunaSearch")    # refuses by name what no optimizer can search
    for leaf in space.leaves:                           # one for each domain, in the space's order
        ask the library for a number                    # leaf.kind, leaf.low, leaf.high, leaf.log; or a place in [0, 1]
    values[leaf.name] = leaf.value(number)              # or leaf.at(place)
    made = space.config(values, seed_of(seed, trial_id))    # made.config is whole: constants, lists and functions included
    space.values(config)                                # the way back: adopted and evaluated configurations
    space.point(point)                                  # the way back for one of points_to_evaluate, which may be a part

A leaf is searched as a number between two bounds that both belong to it, in one of three kinds. "float": a real number. "int": a
whole number; so is whatever is quantised, by the number of its step, so that every value is one of the domain's. "choice": the
index of a category, whatever object that is. Gauss's law is searched by its quantile: a number even in (0, 1), whose
value is the law's inverse, so that an optimizer's even draw follows the law. A library that has such laws itself finds them in
`leaf.domain`.

A category that holds domains opens leaves of its own, which count only where it was chosen (`leaf.needs`). A library that
knows no conditions may search all of them: `config` takes what it needs. `sample_from` is no leaf: its functions are called when
the values are there, so a searcher whose space `has_functions` must not claim `own_chance`.

This module knows domains and places. It refuses to know of any library, and remembers nothing between two calls.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from copy import copy
from hashlib import blake2b
from operator import index
from typing import Any, NamedTuple

from holdfast.errors import SearchSpaceError
from holdfast.search.matching import index_of, matches
from holdfast.search.variants import Plan, Variant
from holdfast.space import Categorical, Domain, Float, Integer, check_space, uses_user_functions
from holdfast.space.laws import LogUniform, Normal, Quantized
from holdfast.space.variables import Path, as_domain, find_variables, joined

__all__ = ["Leaf", "Point", "SearchSpace", "holds_domains", "seed_of"]

_TAIL = 1e-12  # of Gauss's law on either side, 7 standard deviations out: not searched


def seed_of(seed: int, trial_id: str) -> int:
    """The seed of what `SearchSpace.config` draws for a trial, from the experiment's."""
    return int.from_bytes(blake2b(f"{seed}:{trial_id}".encode(), digest_size=8).digest(), "big")


def holds_domains(space: Any) -> bool:
    """Whether a user's `space=` is in Tune's own domains, so that `SearchSpace` is the way to read it."""
    return isinstance(space, dict) and any(True for _ in find_variables(space))


class Leaf:
    """A place that an optimizer chooses for.

    Attributes:
        name: Unique in its space: `net/layers/0`; inside the second category of a choice `model[1]/width`.
        path: The keys and list indices of its place in a configuration.
        domain: The user's `Float`, `Integer` or `Categorical`.
        needs: (name of a choice, index) for each category that it stands in: it counts only where all were chosen.
        kind: "float", "int" or "choice": what number is searched.
        low, high: The number's bounds, both included; ints but for "float".
        log: Whether the number is to be searched on a logarithmic scale; then `low` is above 0.
        step: What the values are multiples of, or None.
    """

    __slots__ = ("_normal", "domain", "high", "kind", "log", "low", "name", "needs", "path", "step")

    def __init__(self, name: str, path: Path, domain: Domain, needs: tuple[tuple[str, int], ...], of: str) -> None:
        self.name = name
        self.path = path
        self.domain = domain
        self.needs = needs
        sampler = domain.get_sampler()
        self.step: float | None = None
        if isinstance(sampler, Quantized):
            self.step, sampler = sampler.q, sampler.sampler
        self._normal = sampler if isinstance(sampler, Normal) else None
        self.log = isinstance(sampler, LogUniform)
        self.kind, self.low, self.high = self._bounds(of)

    @property
    def by_quantile(self) -> bool:
        """Whether the searched number is a quantile of the domain's law."""
        return self._normal is not None

    def value(self, number: Any) -> Any:
        """The domain's value for a searched number; for a choice the index itself, as `SearchSpace.config` wants it."""
        if self.kind == "choice":
            return min(max(int(number), 0), int(self.high))
        if self._normal is not None:
            return self._of_quantile(number)
        number = min(max(number, self.low), self.high)
        if self.kind == "float":
            # As in `Float.draw`: the upper bound itself is not in the domain.
            number = float(number)
            return math.nextafter(number, self.low) if number >= self.high else number
        whole = index(round(number))  # a library's own integer becomes Python's
        if self.step is None:
            return whole
        value = whole * self.step
        if isinstance(self.domain, Integer):
            return int(value)
        assert isinstance(self.domain, Float)
        return min(max(float(value), self.domain.lower), self.domain.upper)

    def number(self, value: Any) -> Any:
        """The searched number that comes nearest to a value; within the bounds also where the value lies outside its domain.

        Raises:
            SearchSpaceError: The value is no number; for a choice: no index of a category.
        """
        try:
            if self._normal is not None:
                return min(max(_gauss(self._normal).cdf(value), self.low), self.high)
            if self.kind == "float":
                return min(max(float(value), self.low), self.high)
            steps = value if self.step is None or self.kind == "choice" else value / self.step
            return int(min(max(round(steps), self.low), self.high))
        except (TypeError, ValueError, OverflowError):
            raise SearchSpaceError(f"{self.name!r} is searched in {self.domain!r}, and {value!r} has no place there.") from None

    def at(self, place: float) -> Any:
        """The value at a place in [0, 1], for libraries that search only there; steps and categories have equal shares."""
        low, high = self._edges()
        if self.log:
            return self.value(math.exp(math.log(low) + place * (math.log(high) - math.log(low))))
        number = low + place * (high - low)
        return self.value(number if self.kind == "float" else min(math.floor(number + 0.5), self.high))

    def place(self, value: Any) -> float:
        """The place in [0, 1] of a value; for a step or category the middle of its share."""
        low, high = self._edges()
        number = self.number(value)
        if self.log:
            return (math.log(number) - math.log(low)) / (math.log(high) - math.log(low))
        return float((number - low) / (high - low))

    def _edges(self) -> tuple[float, float]:
        return (self.low, self.high) if self.kind == "float" else (self.low - 0.5, self.high + 0.5)

    def _bounds(self, of: str) -> tuple[str, float, float]:
        domain, step = self.domain, self.step
        if isinstance(domain, Categorical):
            return "choice", 0, len(domain.categories) - 1
        if isinstance(domain, Integer):
            if step is None or step == 1:
                return "int", domain.lower, domain.upper - 1
            return "int", int(-(-domain.lower // step)), int(domain.upper // step)
        assert isinstance(domain, Float)
        if self._normal is not None:
            return "float", _TAIL, 1 - _TAIL
        if not (math.isfinite(domain.lower) and math.isfinite(domain.upper)):
            raise SearchSpaceError(f"{self.name!r} is {domain!r}: {of} needs a lower and an upper bound, or randn(mean, sd).")
        if step is not None:
            return "int", round(domain.lower / step), round(domain.upper / step)
        return "float", float(domain.lower), float(domain.upper)

    def _of_quantile(self, number: Any) -> float:
        assert self._normal is not None
        value: float = _gauss(self._normal).inv_cdf(min(max(float(number), self.low), self.high))
        return value if self.step is None else float(round(value / self.step) * self.step)


class Point(NamedTuple):
    """A configuration that the user wants tried.

    Attributes:
        values: Leaf name → value, for the leaves that it fixes: what an optimizer is told.
        template: The space with the user's own values in their places, exactly as given, and the rest open: for `config`.
    """

    values: dict[str, Any]
    template: dict[Any, Any]


class SearchSpace:
    """A space made ready for an optimizer.

    Args:
        space: A `param_space`, nested as users write it.
        of: The searcher's name, for messages.

    Attributes:
        leaves: What is to be searched, in the space's order.
        has_functions: Whether `config` calls functions of the user's (`sample_from`).

    Raises:
        SearchSpaceError: It holds a grid, a domain class of the user's own, bounds that are none, or two places of one name.
    """

    def __init__(self, space: Any, of: str) -> None:
        self.space = check_space(space)
        self._of = of
        self.leaves = tuple(self._leaves(self.space, (), "", ()))
        self.by_name = {leaf.name: leaf for leaf in self.leaves}
        self.has_functions = uses_user_functions(self.space)
        if len(self.by_name) < len(self.leaves):
            names = [leaf.name for leaf in self.leaves]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise SearchSpaceError(f"Two places of the space are called {twice[0]!r} once their keys are joined. Rename one key.")

    def config(self, values: Mapping[str, Any], seed: int = 0, template: dict[Any, Any] | None = None) -> Variant:
        """The whole configuration of the leaves' values, and what of it was open.

        Args:
            values: Leaf name → value (a choice: its index), for all leaves that count; others may be there.
            seed: Of what `sample_from` functions return as domains; `random` and `numpy.random` are the caller's to set.
            template: `Point.template`, where a point of the user's is tried.

        Raises:
            SearchSpaceError: A user's function failed, or functions need each other in a circle.
        """
        space = self.space if template is None else template
        config = self._filled(space, "", values)
        if self.has_functions:
            config, resolved = Plan(config, seed=seed).variant(0)
        else:
            resolved = {}
        paths = [leaf.path for leaf in self.counting(values)]
        return Variant(config, {joined(path): _at(config, path) for path in paths if _has(config, path)} | resolved)

    def counting(self, values: Mapping[str, Any]) -> list[Leaf]:
        """The leaves that count where the choices have these values: all but those of categories that were not chosen."""
        return [leaf for leaf in self.leaves if _chosen(leaf, values)]

    def values(self, config: Any) -> dict[str, Any]:
        """Leaf name → value (a choice: its index) of each leaf that a configuration has a value for."""
        found: dict[str, Any] = {}
        for leaf in self.leaves:
            if not _has(config, leaf.path) or not _chosen(leaf, found):
                continue
            value = _at(config, leaf.path)
            if isinstance(leaf.domain, Categorical):
                value = index_of(leaf.domain.categories, value)
                if value is None:
                    continue
            elif not _is_number(value):
                continue
            found[leaf.name] = value
        return found

    def point(self, point: Any) -> Point:
        """Reads one of `points_to_evaluate`: nested, or with flattened keys (`net/width`); it may be a part.

        A value outside its domain is tried as it stands, with a warning; the optimizer is told the nearest one.

        Raises:
            SearchSpaceError: It is no dictionary, or names what the space has not.
        """
        if not isinstance(point, dict):
            raise SearchSpaceError(f"points_to_evaluate of {self._of} holds {point!r:.100}; each must be a dictionary.")
        nested = self._nested(point)
        open_still = next(find_variables(nested), None)
        if open_still is not None:
            raise SearchSpaceError(f"A point gives {joined(open_still.path)!r} no value but {open_still.domain!r}. Leave it out.")
        return Point(self.values(nested), self._laid(self.space, nested, ()))

    def _laid(self, node: Any, point: Any, path: Path) -> Any:
        """The space with a point's values in the places that the point names."""
        if not isinstance(node, Domain):
            if isinstance(node, dict) and isinstance(point, dict):
                unknown = [joined((*path, key)) for key in point if key not in node]
                if unknown:
                    raise SearchSpaceError(
                        f"points_to_evaluate names {unknown}, unknown to the space. Add them there, or drop them."
                    )
                laid = copy(node)
                laid.update((key, self._laid(node[key], value, (*path, key))) for key, value in point.items())
                return laid
            if type(node) in (list, tuple) and type(point) in (list, tuple) and len(node) == len(point):
                return type(node)(self._laid(node[i], value, (*path, i)) for i, value in enumerate(point))
        if not matches(node, point):
            text = f"points_to_evaluate gives {joined(path)!r} the value {point!r:.100}, which is not in {node!r:.200}"
            warnings.warn(f"{text}: it is tried as it stands, and {self._of} learns of the nearest, if any.", stacklevel=2)
        return point

    def _nested(self, point: dict[Any, Any]) -> dict[Any, Any]:
        """A point whose flattened keys stand in their places."""
        places = {joined(found.path): found.path for found in find_variables(self.space)}
        nested: dict[Any, Any] = {}
        for key, value in point.items():
            path = places.get(key) if key not in self.space else None
            if path is None or len(path) == 1:
                nested[key] = value
                continue
            node, space = nested, self.space
            for part in path[:-1]:
                space = space[part]
                if not isinstance(space, dict):
                    raise SearchSpaceError(f"A point gives {key!r}, one place of a list. Give the list as a whole.")
                node = node.setdefault(part, {})
            node[path[-1]] = value
        return nested

    def _leaves(self, node: Any, path: Path, name: str, needs: tuple[tuple[str, int], ...]) -> Iterator[Leaf]:
        domain = as_domain(node, path)
        if domain is None:
            items = node.items() if isinstance(node, dict) else enumerate(node) if type(node) in (list, tuple) else ()
            for key, value in items:
                yield from self._leaves(value, (*path, key), f"{name}/{key}" if name else str(key), needs)
            return
        if domain.is_function():
            return
        if domain.is_grid():
            raise SearchSpaceError(
                f"{name!r} is a grid_search: {self._of} chooses values, it does not walk grids. Use choice([...]), or leave "
                "search_alg out: the default BasicVariantGenerator walks grids."
            )
        if type(domain) not in (Float, Integer, Categorical):
            raise SearchSpaceError(
                f"{name!r} is a {type(domain).__name__}, a domain of your own, which {self._of} does not know. Use uniform, "
                "randint or choice there, or sample_from(...) if it need not be searched."
            )
        yield Leaf(name, path, domain, needs, self._of)
        if isinstance(domain, Categorical):
            for number, category in enumerate(domain.categories):
                yield from self._leaves(category, path, f"{name}[{number}]", (*needs, (name, number)))

    def _filled(self, node: Any, name: str, values: Mapping[str, Any]) -> Any:
        """A copy of the containers with a value in each leaf's place; functions stay."""
        kind = type(node)
        if isinstance(node, Domain):
            if node.is_function():
                return node
            try:
                value = values[name]
            except KeyError:
                raise SearchSpaceError(f"{self._of} gave no value for {name!r}.") from None
            if not isinstance(node, Categorical):
                return value
            return self._filled(node.categories[value], f"{name}[{value}]", values)
        if kind is dict or isinstance(node, dict):
            filled = {} if kind is dict else copy(node)
            for key, value in node.items():
                filled[key] = self._filled(value, f"{name}/{key}" if name else str(key), values)
            return filled
        if kind is list or kind is tuple:
            return kind(self._filled(value, f"{name}/{place}", values) for place, value in enumerate(node))
        return node


def _chosen(leaf: Leaf, values: Mapping[str, Any]) -> bool:
    return all(values.get(name) == chosen for name, chosen in leaf.needs)


def _gauss(law: Normal) -> Any:
    from statistics import NormalDist

    return NormalDist(law.mean, law.sd)


def _is_number(value: Any) -> bool:
    try:
        return bool(float(value) == float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _has(node: Any, path: Path) -> bool:
    for key in path:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _at(node: Any, path: Path) -> Any:
    for key in path:
        node = node[key]
    return node
