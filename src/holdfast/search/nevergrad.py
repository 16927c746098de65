"""`NevergradSearch`: any of Nevergrad's optimizers.

This module knows Nevergrad's parametrization and its candidates. It refuses to know what an optimizer does with them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.asking import Asked, AskingSearcher
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, Point, SearchSpace
from holdfast.search.variants import Variant
from holdfast.values import flatten

__all__ = ["NevergradSearch"]

# cma is loaded in the middle of a search, or of being unpickled, and warns where matplotlib is missing that it cannot draw, which
# nobody asks of it. Loaded here, it has said so before either.
with warnings.catch_warnings(), suppress(ModuleNotFoundError):
    warnings.filterwarnings("ignore", message="Could not import matplotlib", category=UserWarning)
    import cma  # noqa: F401


class NevergradSearch(AskingSearcher):
    """Searches with one of Nevergrad's optimizers; `holdfast[nevergrad]`.

    Args:
        optimizer: The name of an optimizer, its class (`nevergrad.optimizers.CMA`), or an instance that has its parametrization
            already; None: "OnePlusOne", which takes any space and any number of trials at once.
        optimizer_kwargs: What the class is made with. `budget` is the experiment's `num_samples` (100 where that is endless) and
            `num_workers` 4 if not given. An optimizer that thinks of one trial at a time gives one at a time.
        space: A `param_space`, or a Nevergrad parameter whose value is a dictionary (`p.Dict`, `p.Instrumentation` by keyword);
            None for the experiment's, or the instance's.
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations that are suggested first.

    Raises:
        ConfigError: Nevergrad is not installed, there is no such optimizer, or a space beside an instance, which has its own.
    """

    def __init__(
        self,
        optimizer: Any = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        space: Any = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        ng = load("nevergrad", "nevergrad", "NevergradSearch")
        made = isinstance(optimizer, ng.optimizers.base.Optimizer)
        if made and (space is not None or optimizer_kwargs):
            raise ConfigError("NevergradSearch(optimizer=<instance>) has its space and arguments; give no others.")
        super().__init__(optimizer.parametrization if made else space, metric, mode, points_to_evaluate)
        if isinstance(optimizer, str) and optimizer not in ng.optimizers.registry:
            raise ConfigError(f"Nevergrad has no optimizer {optimizer!r}; nevergrad.optimizers.registry lists those that it has.")
        if not (optimizer is None or made or isinstance(optimizer, str) or callable(optimizer)):
            raise ConfigError(f"NevergradSearch(optimizer={optimizer!r}): a name, a class, or an instance.")
        self._optimizer: Any = optimizer if made else None
        named = optimizer is None or isinstance(optimizer, str)
        self._kind = ng.optimizers.registry[optimizer or "OnePlusOne"] if named else optimizer
        self._arguments = dict(optimizer_kwargs or {})
        self._worst = 0.0

    @property
    def own_chance(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Not with the user's own optimizer or parameter, whose chance may come from NumPy's global generator."""
        return super().own_chance and not isinstance(self._space, _Parameter)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        if self._space is None:
            samples = int(spec.get("num_samples") or 0)
            self._arguments.setdefault("budget", samples if samples > 0 else 100)
        return super().set_search_properties(metric, mode, config, **spec)

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        import nevergrad as ng
        import numpy as np

        parameter = ng.p.Dict(**{leaf.name: _parameter(leaf) for leaf in leaves})
        parameter.random_state = np.random.RandomState(seed % 2**32)
        self._make(parameter)

    def native(self, space: Any) -> SearchSpace | _Parameter:
        import nevergrad as ng

        if not isinstance(space, ng.p.Parameter) or not isinstance(_config(space), dict):
            raise SearchSpaceError(
                f"NevergradSearch takes a param_space, or a Nevergrad parameter whose value is a dictionary, not {space!r:.200}."
            )
        self._make(space)
        return _Parameter(space)

    def ask(self, fixed: Mapping[str, Any]) -> Asked | None:
        if self._is_sequential() and self._handles:
            return None  # it would wait for the answer inside its `ask`
        if fixed and isinstance(self._space, SearchSpace) and not self._optimizer.parametrization.value.keys() - fixed.keys():
            return Asked(self.put(fixed), dict(fixed))
        candidate = self._optimizer.ask()
        if fixed and self._is_sequential():
            self.fail(candidate)
        if not isinstance(self._space, SearchSpace):
            if fixed:
                candidate = self._spawned({**_config(candidate), **fixed})
            return Asked(candidate, _config(candidate))
        leaves = self._space.by_name
        values = {name: leaves[name].value(number) for name, number in candidate.value.items()}
        if fixed:
            values = {**values, **fixed}
            candidate = self.put(values)
        return Asked(candidate, values)

    def put(self, values: Mapping[str, Any]) -> Any:
        if not isinstance(self._space, SearchSpace):
            return self._spawned(values)
        leaves, searched = self._space.by_name, self._optimizer.parametrization.value
        if searched.keys() - values.keys():  # a branch that was not chosen: any value does, the middle as well as another
            values = {**{name: leaves[name].at(0.5) for name in searched}, **values}
        return self._spawned({name: leaves[name].number(values[name]) for name in searched})

    def tell(self, handle: Any, loss: float, result: Mapping[str, Any]) -> None:
        import nevergrad as ng

        self._worst = max(self._worst, loss)
        try:
            self._optimizer.tell(handle, loss)
        except ng.errors.TellNotAskedNotSupportedError:
            pass  # this optimizer learns from nothing but its own suggestions, and this one was a point or adopted

    def fail(self, handle: Any) -> None:
        """Nevergrad has no word for a failure. Most optimizers wait for no answer; one that does hears of the worst so far."""
        if self._is_sequential():
            self.tell(handle, self._worst, {})

    def _is_sequential(self) -> bool:
        """Whether the optimizer, or the one that it has chosen, thinks of one trial at a time."""
        chosen = (self._optimizer, getattr(self._optimizer, "optim", None))
        return any(getattr(one, "no_parallelization", False) for one in chosen)

    def _make(self, parameter: Any) -> None:
        if self._optimizer is None:
            self._arguments.setdefault("budget", 100)
            self._arguments.setdefault("num_workers", 1 if getattr(self._kind, "no_parallelization", False) else 4)
            self._optimizer = self._kind(parametrization=parameter, **self._arguments)

    def _spawned(self, value: Mapping[str, Any]) -> Any:
        """A candidate with the given value."""
        parameter = self._optimizer.parametrization
        new = dict(value)
        return parameter.spawn_child(new_value=new if isinstance(parameter.value, dict) else ((), new))


class _Parameter:
    """The user's own parameter: values are configurations."""

    has_functions = False

    def __init__(self, parameter: Any) -> None:
        self._keys = list(_config(parameter))

    def config(self, values: Mapping[str, Any], seed: int = 0, template: dict[Any, Any] | None = None) -> Variant:
        return Variant(dict(values), flatten(dict(values)))

    def values(self, config: Any) -> dict[str, Any]:
        return {key: config[key] for key in self._keys if key in config}

    def point(self, point: Any) -> Point:
        unknown = sorted(set(point) - set(self._keys)) if isinstance(point, dict) else point
        if unknown:
            raise SearchSpaceError(f"points_to_evaluate holds {unknown!r:.200}, unknown to the parameter: it has {self._keys}.")
        return Point(dict(point), {})


def _config(parameter: Any) -> Any:
    """The configuration that a parameter's value is: of an `Instrumentation` what is given by keyword."""
    value = parameter.value
    if isinstance(value, tuple) and len(value) == 2 and value[0] == () and isinstance(value[1], dict):
        return dict(value[1])
    return dict(value) if isinstance(value, dict) else value


def _parameter(leaf: Leaf) -> Any:
    import nevergrad as ng

    if leaf.kind == "choice":
        return ng.p.Choice(list(range(int(leaf.high) + 1)))
    scalar = ng.p.Log(lower=leaf.low, upper=leaf.high) if leaf.log else ng.p.Scalar(lower=leaf.low, upper=leaf.high)
    return scalar.set_integer_casting() if leaf.kind == "int" else scalar
