"""`AxSearch`: Meta's Ax, which is Sobol's sequence first and then Bayesian optimization by BoTorch.

This module knows Ax's `Client` and its trials. It refuses to choose what Ax chooses well: the strategy.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.asking import Asked, AskingSearcher, finite
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, Point, SearchSpace, seed_of
from holdfast.search.variants import Variant
from holdfast.values import flatten

__all__ = ["AxSearch"]


class AxSearch(AskingSearcher):
    """Searches with Ax; `holdfast[ax]`, which brings torch.

    Args:
        space: A `param_space`, or a list of Ax's `RangeParameterConfig` and `ChoiceParameterConfig`; None for the experiment's.
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations that are suggested first.
        parameter_constraints: Such as "x3 >= x4" or "x3 + x4 <= 2".
        outcome_constraints: Bounds of other metrics, such as "latency <= 1.25"; a trial that lacks one counts as failed.
        ax_client: An `ax.api.client.Client` of the user's own, its experiment and objective configured: then no space, parameter
            constraints or further arguments, and `outcome_constraints` only name the metrics that it is told beside `metric`.
        **ax_kwargs: For `Client` (`random_seed`, by default from the experiment's seed; `storage_config`) and for its
            `configure_generation_strategy` (`method`, `initialization_budget`, ...).

    Raises:
        ConfigError: Ax is not installed, or an argument that cannot be.
    """

    has_own_chance = False  # BoTorch draws from torch's generator

    def __init__(
        self,
        space: Any = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        parameter_constraints: list[str] | None = None,
        outcome_constraints: list[str] | None = None,
        ax_client: Any = None,
        **ax_kwargs: Any,
    ) -> None:
        super().__init__(space if ax_client is None else ax_client, metric, mode, points_to_evaluate)
        client = load("ax", "ax", "AxSearch").Client
        if ax_client is not None:
            if not isinstance(ax_client, client):
                raise ConfigError(f"AxSearch(ax_client=...) is an ax.api.client.Client, not {type(ax_client).__name__}.")
            if space is not None or parameter_constraints or ax_kwargs:
                raise ConfigError("AxSearch(ax_client=...) has its space, constraints and settings; give no others.")
        self._parameter_constraints = list(parameter_constraints or ())
        self._outcome_constraints = list(outcome_constraints or ())
        self._bounded = [_bounded(constraint) for constraint in self._outcome_constraints]  # the metrics beside the objective
        self._arguments = dict(ax_kwargs)
        self._theirs = ax_client is not None
        self._client: Any = None
        self._names: list[str] = []  # of what Ax searches

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        self._configure([_parameter(leaf) for leaf in leaves], seed)

    def native(self, space: Any) -> SearchSpace | _Parameters:
        if self._theirs:
            self._client = space
        elif isinstance(space, (list, tuple)) and all(hasattr(parameter, "parameter_type") for parameter in space):
            self._configure(list(space), self._seed)
        else:
            raise SearchSpaceError(
                "AxSearch(space=...) takes a param_space, or a list of Ax's RangeParameterConfig and ChoiceParameterConfig, not "
                f"{space!r:.200}."
            )
        return _Parameters(self._names)

    def ask(self, fixed: Mapping[str, Any]) -> Asked | str | None:
        numbers = self._numbers(fixed)
        if numbers and len(numbers) == len(self._names):
            return Asked(self._attach(numbers), dict(fixed))
        from ax.exceptions.core import DataRequiredError, OptimizationComplete
        from ax.exceptions.generation_strategy import MaxParallelismReachedException

        try:
            with _quiet():
                made = self._client.get_next_trials(max_trials=1, fixed_parameters=numbers or None)
        except OptimizationComplete:
            return self.FINISHED
        except (DataRequiredError, MaxParallelismReachedException):
            return None
        for index, parameters in made.items():
            if not self._names:
                self._names += parameters
            return Asked(index, {**self._values(parameters), **fixed})
        return None

    def put(self, values: Mapping[str, Any]) -> Any:
        numbers = self._numbers(values)
        if isinstance(self._space, SearchSpace):
            # Ax searches a branch that was not chosen as well: any value does there, the middle as well as another.
            middles = {name: self._space.by_name[name] for name in self._names if name not in numbers}
            numbers |= {name: leaf.number(leaf.at(0.5)) for name, leaf in middles.items()}
        return self._attach(numbers) if numbers and len(numbers) == len(self._names) else None

    def tell(self, handle: Any, loss: float, result: Mapping[str, Any]) -> None:
        told = {str(self._metric): finite(result.get(str(self._metric)))} if self._theirs else {_OBJECTIVE: loss}
        told |= {name: finite(result.get(name)) for name in self._bounded}
        if None in told.values():
            self.fail(handle)
            return
        with _quiet():
            self._client.complete_trial(handle, raw_data=told)

    def fail(self, handle: Any) -> None:
        with _quiet():
            self._client.mark_trial_abandoned(handle)  # one that is "failed" would be suggested again

    def _configure(self, parameters: list[Any], seed: int) -> None:
        from ax.api.client import Client

        arguments = {"random_seed": seed_of(seed, "ax") % 2**31, **self._arguments}
        client = Client(**{name: arguments.pop(name) for name in ("random_seed", "storage_config") if name in arguments})
        with _quiet():
            client.configure_experiment(parameters=parameters, parameter_constraints=self._parameter_constraints or None)
            client.configure_optimization(objective=f"-{_OBJECTIVE}", outcome_constraints=self._outcome_constraints or None)
            client.configure_generation_strategy(**{"allow_exceeding_initialization_budget": True, **arguments})
        self._client = client
        self._names = [parameter.name for parameter in parameters]

    def _attach(self, numbers: Mapping[str, Any]) -> int:
        with _quiet():
            return int(self._client.attach_trial(parameters=dict(numbers)))

    def _values(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(self._space, SearchSpace):
            return dict(numbers)
        return {name: self._space.by_name[name].value(number) for name, number in numbers.items()}

    def _numbers(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What Ax searches for the values: of those leaves that it searches and that have one."""
        known = {name: values[name] for name in self._names if name in values}
        if not isinstance(self._space, SearchSpace):
            return known
        return {name: self._space.by_name[name].number(value) for name, value in known.items()}


_OBJECTIVE = "objective"  # what is told under it is to be small, whatever the user's metric is called


class _Parameters:
    """A space in Ax's own words: a configuration is name → value."""

    has_functions = False

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def config(self, values: Mapping[str, Any], seed: int = 0, template: dict[Any, Any] | None = None) -> Variant:
        return Variant(dict(values), flatten(dict(values)))

    def values(self, config: Any) -> dict[str, Any]:
        return {name: config[name] for name in self._names if name in config}

    def point(self, point: Any) -> Point:
        unknown = [name for name in point if name not in self._names] if isinstance(point, dict) else point
        if unknown and self._names:
            raise SearchSpaceError(f"points_to_evaluate holds {unknown!r:.200}, unknown to the space, which has {self._names}.")
        return Point(dict(point), {})


def _parameter(leaf: Leaf) -> Any:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if leaf.kind == "choice":
        indices = list(range(int(leaf.high) + 1))
        return ChoiceParameterConfig(name=leaf.name, values=indices, parameter_type="int", is_ordered=False)
    scaling = "log" if leaf.log else "linear"
    return RangeParameterConfig(name=leaf.name, bounds=(leaf.low, leaf.high), parameter_type=leaf.kind, scaling=scaling)


def _bounded(constraint: str) -> str:
    """The metric that an outcome constraint bounds."""
    found = re.match(r"\s*([^<>=\s]+)\s*[<>]=", constraint)
    if found is None:
        raise ConfigError(f"AxSearch(outcome_constraints=...) holds {constraint!r}: give such as 'latency <= 1.25'.")
    return found[1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Ax tells of each trial in its log, as we do in ours; its warnings stay."""
    before = [(handler, handler.level) for handler in logging.getLogger("ax").handlers]
    for handler, level in before:
        handler.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        for handler, level in before:
            handler.setLevel(level)
