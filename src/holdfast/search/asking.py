"""What the searchers that ask a library have in common: metric, space, points to try first, and who is told what.

This module knows the order of things: points before the library's own suggestions, each trial told once, each value a finite
number that is to be small. It refuses to know the library: a derived class begins it, asks it and tells it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.base import Searcher
from holdfast.search.spaces import Leaf, Point, SearchSpace, holds_domains, seed_of
from holdfast.search.variants import Variant
from holdfast.space.variables import find_variables

__all__ = ["Asked", "AskingSearcher", "NativeSpace", "finite"]


class Asked(NamedTuple):
    """What a library suggests.

    Attributes:
        handle: What the library is told about later; it must pickle.
        values: Leaf name → value, as `SearchSpace.config` takes them.
    """

    handle: Any
    values: Mapping[str, Any]


class NativeSpace(Protocol):
    """What a library's own kind of space can do: the same as `SearchSpace`."""

    has_functions: bool

    def config(self, values: Mapping[str, Any], seed: int = 0, template: dict[Any, Any] | None = None) -> Variant:
        """The configuration of the values."""

    def values(self, config: Any) -> dict[str, Any]:
        """The way back, as far as there is one."""

    def point(self, point: Any) -> Point:
        """One of `points_to_evaluate`."""


class AskingSearcher(Searcher):
    """Base of the searchers that ask a library. It optimizes one metric.

    After a crash it comes back from its pickle, which holds what the library knows, or from the beginning: then it is told and
    asked everything again, and answers the same. A trial without a finite number for its metric counts as failed.

    Attributes:
        last_evaluated: Flattened key → value of the last suggestion, for the keys that were open.

    Args:
        space: A `param_space` of the searcher's own, or what the library itself takes; None for the experiment's.
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations, whole or partial, that are suggested first.

    Raises:
        ConfigError: Several metrics, or points that are no list.
    """

    has_own_chance = True  # of a derived class: whether the library draws from generators that the searcher seeds

    def __init__(self, space: Any, metric: Any, mode: Any, points_to_evaluate: Sequence[dict[str, Any]] | None) -> None:
        name = type(self).__name__
        if isinstance(metric, (list, tuple)) or isinstance(mode, (list, tuple)):
            raise ConfigError(f"{name} optimizes one metric, not {metric!r}. OptunaSearch takes several.")
        super().__init__(metric, mode)
        if mode is not None and mode not in ("min", "max"):
            raise ConfigError(f"{name}(mode={mode!r}): 'min' or 'max'.")
        if isinstance(points_to_evaluate, (dict, str)):
            raise ConfigError(f"{name}(points_to_evaluate=...) takes a list of configurations, not {points_to_evaluate!r:.100}.")
        self.last_evaluated: dict[str, Any] = {}
        self._given = space
        self._points_given = list(points_to_evaluate or ())
        self._points: list[Point] = []
        self._space: SearchSpace | NativeSpace | None = None
        self._idle = False  # where nothing is open, the library is not asked
        self._seed = 0
        self._handles: dict[str, Any] = {}  # of the trials that the library waits for
        self._elsewhere: list[tuple[dict[str, Any], float]] = []  # evaluated points that came before the space was known

    # What a derived class does.

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        """Begins the library's search over leaves that have more than one value."""
        raise NotImplementedError

    def native(self, space: Any) -> SearchSpace | NativeSpace:
        """Begins the library's search in the user's own `space`, which is not in Tune's domains.

        Raises:
            SearchSpaceError: The library does not take it.
        """
        raise NotImplementedError

    def ask(self, fixed: Mapping[str, Any]) -> Asked | str | None:
        """Asks for a suggestion in which some leaves, or all, have the values that they are given.

        None when there is none before something was told, `FINISHED` when there will be none.
        """
        raise NotImplementedError

    def put(self, values: Mapping[str, Any]) -> Any:
        """The handle of a suggestion that the library did not make itself; None where it can learn nothing from it."""
        raise NotImplementedError

    def tell(self, handle: Any, loss: float, result: Mapping[str, Any]) -> None:
        """Tells what became of a suggestion: a finite number, the smaller the better, and the row that it is from."""
        raise NotImplementedError

    def fail(self, handle: Any) -> None:
        """Tells that a suggestion came to nothing."""
        raise NotImplementedError

    # What all of them do.

    @property
    def own_chance(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Whether all chance comes from its own generator: not where `sample_from` calls functions of the user's."""
        return self.has_own_chance and not (self._space is not None and self._space.has_functions)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Takes metric, mode, space and the experiment's `seed`. A searcher that was restored goes on with what it knows.

        Raises:
            ConfigError: Metric or mode are missing, or other ones than its own.
            SearchSpaceError: A space that the library cannot search.
        """
        self._take_objective(metric, mode)
        while self._handles:  # of an earlier experiment: nobody will tell of them
            self.fail(self._handles.popitem()[1])
        has_variables = any(True for _ in find_variables(config))
        if self._space is not None:
            return not has_variables or (isinstance(self._space, SearchSpace) and _same_space(self._space, self._open(config)))
        if self._given is not None and has_variables:
            return False
        self._seed = int(spec.get("seed") or 0)
        self._begin(config)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        space = self._ready()
        point = self._points[0] if self._points else None
        fixed = {} if point is None else {**point.values, **self._only_values()}
        asked = Asked(None, {}) if self._idle else self.ask(fixed)
        if not isinstance(asked, Asked):
            return asked
        if point is not None:
            del self._points[0]
        made = space.config(
            {**asked.values, **self._only_values()}, seed_of(self._seed, trial_id), None if point is None else point.template
        )
        if not self._idle:
            self._handles[trial_id] = asked.handle
        self.last_evaluated = made.evaluated
        return made.config

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        """Takes a recorded configuration as the library's own suggestion, in place of the one that it made when asked again."""
        old = self._handles.pop(trial_id, None)
        if old is not None:
            self.fail(old)
        values = self._ready().values(config)
        handle = self.put(values) if self._is_whole(values) and not self._idle else None
        if handle is not None:
            self._handles[trial_id] = handle

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._handles:
            return
        handle = self._handles.pop(trial_id)
        loss = None if error or result is None else self._loss(result.get(str(self._metric)))
        if loss is None or result is None:
            self.fail(handle)
        else:
            self.tell(handle, loss, result)

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learns from a configuration that was tried elsewhere; not from one that failed, was pruned, or has no finite value."""
        if error or pruned or finite(value) is None:
            return
        if self._space is None:
            self._elsewhere.append((dict(parameters), float(value)))
            return
        values, loss = self._space.values(parameters), self._loss(value)
        handle = self.put(values) if self._is_whole(values) and not self._idle else None
        if handle is None or loss is None:
            raise SearchSpaceError(
                f"{type(self).__name__} cannot learn from {parameters!r:.200}: it must have a value for each key that is "
                f"searched ({[leaf.name for leaf in self._leaves()]})."
            )
        self.tell(handle, loss, {str(self._metric): value})

    def get_state(self) -> dict[str, Any]:
        """All that it remembers, as one pickle: of the library's and the user's own objects too."""
        import cloudpickle

        return {"pickle": cloudpickle.dumps(self)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` gave. It is unpickled: give only what you trust."""
        import pickle

        vars(self).update(vars(pickle.loads(state["pickle"])))

    def _take_objective(self, metric: str | None, mode: str | None) -> None:
        for what, own, given in (("metric", self._metric, metric), ("mode", self._mode, mode)):
            if own and given and own != given:
                raise ConfigError(
                    f"{what} is {given!r} in TuneConfig and {own!r} in {type(self).__name__}; leave it out of one of the two."
                )
        self._mode = self._mode or mode
        self._metric = self._metric or metric or "_metric"
        if self._mode is None:
            raise ConfigError(f"{type(self).__name__} needs a mode, 'min' or 'max': TuneConfig(metric=..., mode=...).")

    def _ready(self) -> SearchSpace | NativeSpace:
        if self._space is None:
            if self._given is None:
                raise SearchSpaceError(
                    f"{type(self).__name__} has no search space yet: call set_search_properties(metric, mode, param_space) "
                    "first, or give it a space of its own."
                )
            self._take_objective(None, None)
            self._begin({})
        assert self._space is not None
        return self._space

    def _begin(self, config: dict[str, Any]) -> None:
        given = config if self._given is None else self._given
        if self._given is None or holds_domains(given):
            space = self._open(given)
            searched = tuple(leaf for leaf in space.leaves if leaf.low < leaf.high)
            self._idle = not searched
            if searched:
                self.begin(searched, self._seed)
            self._space = space
        else:
            self._space = self.native(given)
        self._points = [self._space.point(point) for point in self._points_given]
        elsewhere, self._elsewhere = self._elsewhere, []
        for parameters, value in elsewhere:
            self.add_evaluated_point(parameters, value)

    def _open(self, space: Any) -> SearchSpace:
        return SearchSpace(space, type(self).__name__)

    def _leaves(self) -> tuple[Leaf, ...]:
        return self._space.leaves if isinstance(self._space, SearchSpace) else ()

    def _only_values(self) -> dict[str, Any]:
        """Of the leaves that have one value only, and are not searched."""
        return {leaf.name: leaf.value(leaf.low) for leaf in self._leaves() if leaf.low == leaf.high}

    def _is_whole(self, values: Mapping[str, Any]) -> bool:
        """Whether each leaf that counts has a value."""
        return not isinstance(self._space, SearchSpace) or all(leaf.name in values for leaf in self._space.counting(values))

    def _loss(self, value: Any) -> float | None:
        number = finite(value)
        return None if number is None else number if self._mode == "min" else -number


def finite(value: Any) -> float | None:
    """A metric as a finite float; None for NaN, the infinities, a missing one and what is no number."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _same_space(one: SearchSpace, other: SearchSpace) -> bool:
    return [(leaf.name, repr(leaf.domain)) for leaf in one.leaves] == [(leaf.name, repr(leaf.domain)) for leaf in other.leaves]
