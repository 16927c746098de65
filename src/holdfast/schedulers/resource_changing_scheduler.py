"""Changing what running trials are given: free CPUs and GPUs go to the trials that are left.

Knows trials, what each is given and what there is in all. Refuses to know how well trials do, which another scheduler
judges, and which machine gives what.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.errors import ConfigError, WrongType
from holdfast.resources import PlacementGroupFactory
from holdfast.schedulers.base import TrialScheduler
from holdfast.schedulers.fifo import FIFOScheduler
from holdfast.schedulers.judging import number_of

__all__ = ["DistributeResources", "DistributeResourcesToTopJob", "ResourceChangingScheduler"]

Amounts = dict[str, float]
_TINY = 1e-9
_NOTHING_SAVED = (
    "ResourceChangingScheduler changes what {} is given, and it has saved no checkpoint: it begins again each time. "
    "Report checkpoints, or define save_checkpoint() in a class."
)


def _same(one: PlacementGroupFactory, other: PlacementGroupFactory) -> bool:
    """Whether two lie the same way; amounts made of sums and differences may differ by a rounding error."""
    if len(one.bundles) != len(other.bundles) or one.head_bundle_is_empty != other.head_bundle_is_empty:
        return False
    pairs = zip(one.bundles, other.bundles, strict=True)
    return one.strategy == other.strategy and all(
        a.keys() == b.keys() and all(abs(a[kind] - b[kind]) <= _TINY for kind in a) for a, b in pairs
    )


def _reported(row: dict[str, Any], metric: str) -> float | None:
    """A number from a row, which may be nested."""
    value: Any = row.get(metric)
    if value is None and "/" in metric:
        value = row
        for key in metric.split("/"):
            value = value.get(key) if isinstance(value, dict) else None
    return number_of(value)


def _amounts(given: Mapping[str, float] | None, what: str) -> Amounts:
    amounts = {}
    for kind, amount in (given or {}).items():
        number = number_of(amount)
        if number is None or isinstance(amount, bool) or not math.isfinite(number) or number < 0:
            raise ConfigError(f"{what}={given!r}: {amount!r} is no amount of {kind!r}; give a number, 0 or more.")
        if number:
            amounts[kind] = number
    return _kinds(amounts)


def _kinds(amounts: Mapping[str, float]) -> Amounts:
    """The amounts with the kinds as placement groups write them."""
    shown = {"cpu": "CPU", "gpu": "GPU"}
    return {shown.get(kind, kind): amount for kind, amount in amounts.items()}


def _less(amounts: Mapping[str, float], taken: Mapping[str, float]) -> Amounts:
    return {kind: amount - taken.get(kind, 0.0) for kind, amount in amounts.items()}


def _times(step: Amounts, amounts: Mapping[str, float]) -> int:
    """How often a step can be made of the amounts."""
    return max(min(math.floor(amounts.get(kind, 0.0) / size + _TINY) for kind, size in step.items()), 0)


class DistributeResources:
    """Shares what is free evenly among the trials that have not ended; each keeps at least what it began with.

    What does not divide goes to the earlier trials. All that the living trials hold never exceeds what there is, so a trial
    grows only when the others have shrunk. Subclass it and override `__call__` for a rule of your own.

    Args:
        add_bundles: Give more in new bundles, each like an `increase_by`; otherwise the trial's bundles grow.
        increase_by: The step by which a trial grows, such as `{"CPU": 1, "GPU": 0.5}`. By default one CPU, and one GPU, each by
            itself, where the trial has some to begin with (together where bundles are added).
        increase_by_times: At most so many steps; below 1: any number. Without effect without `increase_by`.
        reserve_resources: What is left free, such as `{"CPU": 1}`.

    Raises:
        ConfigError: An amount is none.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: dict[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: dict[str, float] | None = None,
    ) -> None:
        self.add_bundles = add_bundles
        self.increase_by = _amounts(increase_by, "increase_by")
        self.increase_by_times = increase_by_times
        self.reserve_resources = _amounts(reserve_resources, "reserve_resources")

    def __call__(
        self, tune_controller: Any, trial: Any, result: dict[str, Any], scheduler: ResourceChangingScheduler
    ) -> PlacementGroupFactory | None:
        """What the trial is to be given from now on; None leaves it as it is.

        Args:
            tune_controller: The scheduler's view.
            trial: The trial that has just reported.
            result: Its row, flattened.
            scheduler: Who asks.
        """
        live = tune_controller.get_live_trials()
        base = scheduler.base_of(trial)
        steps = self._steps(base)
        if not steps:
            return None
        total = _less(_kinds(tune_controller.total_resources()), self.reserve_resources)
        others = [one for one in live if one.trial_id != trial.trial_id]
        free = total
        for one in others:
            free = _less(free, one.placement_group_factory.required_resources)
        wanted = []
        for step in steps:
            spare = total
            for one in live:
                spare = _less(spare, scheduler.base_of(one).required_resources)
            share = self._share(_times(step, spare), live, trial, scheduler)
            most = self.increase_by_times if self.increase_by and self.increase_by_times >= 1 else share
            wanted.append((step, min(share, most, _times(step, _less(free, base.required_resources)))))
        return self._grown(base, wanted)

    def _share(self, steps: int, live: list[Any], trial: Any, scheduler: ResourceChangingScheduler) -> int:
        """How many of all steps are this trial's."""
        place = next((n for n, one in enumerate(live) if one.trial_id == trial.trial_id), len(live))
        return steps // max(len(live), 1) + (place < steps % max(len(live), 1))

    def _steps(self, base: PlacementGroupFactory) -> list[Amounts]:
        """The steps by which a trial may grow, each counted by itself."""
        if self.increase_by:
            return [self.increase_by]
        kinds = [kind for kind in ("CPU", "GPU") if base.required_resources.get(kind)]
        return [dict.fromkeys(kinds, 1.0)] if kinds and self.add_bundles else [{kind: 1.0} for kind in kinds]

    def _grown(self, base: PlacementGroupFactory, wanted: list[tuple[Amounts, int]]) -> PlacementGroupFactory:
        bundles = [dict(bundle) for bundle in base.bundles]
        for step, times in wanted:
            if self.add_bundles:
                bundles += [dict(step) for _ in range(times)]
                continue
            for number, bundle in enumerate(bundles):
                mine = times // len(bundles) + (number < times % len(bundles))
                for kind, amount in step.items():
                    bundle[kind] = bundle.get(kind, 0.0) + amount * mine
        bundles = [{kind: amount for kind, amount in bundle.items() if amount} for bundle in bundles]
        return PlacementGroupFactory([{}, *bundles] if base.head_bundle_is_empty else bundles, base.strategy)


class DistributeResourcesToTopJob(DistributeResources):
    """Gives all that is free to the trial that does best; each keeps at least what it began with.

    Args:
        add_bundles, increase_by, increase_by_times, reserve_resources: As for `DistributeResources`.
        metric: What decides; None takes that of the scheduler around.
        mode: "min" or "max"; None takes that of the scheduler around.

    Raises:
        ConfigError: An amount is none, or no such mode.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: dict[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: dict[str, float] | None = None,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(add_bundles, increase_by, increase_by_times, reserve_resources)
        if mode not in (None, "min", "max"):
            raise ConfigError(f"mode must be 'min' or 'max', not {mode!r}.")
        self.metric = metric
        self.mode = mode

    def _share(self, steps: int, live: list[Any], trial: Any, scheduler: ResourceChangingScheduler) -> int:
        metric, mode = self.metric or scheduler.metric, self.mode or scheduler.mode
        if not metric or not mode:
            raise ConfigError(
                f"DistributeResourcesToTopJob has metric={metric!r} and mode={mode!r}. "
                "Give both to it, or to TuneConfig(metric=..., mode=...)."
            )
        best, top = None, -math.inf
        for one in live:
            value = _reported(one.last_result, metric)
            score = -math.inf if value is None or not math.isfinite(value) else -value if mode == "min" else value
            if score > top:
                best, top = one, score
        return steps if best is not None and best.trial_id == trial.trial_id else 0


Allocation = Callable[[Any, Any, "dict[str, Any]", "ResourceChangingScheduler"], "PlacementGroupFactory | None"]


class ResourceChangingScheduler(TrialScheduler):
    """Changes what trials are given while they run; another scheduler decides everything else.

    At each row that the other scheduler lets go on, the allocation function is asked. If it answers with something new, the
    trial is paused and goes on from its newest checkpoint with that; a trial without checkpoints begins again, so save
    often. What a trial is given is on record, and the same after a crash. `get_trial_resources()` in a trial's context says
    what it has.

    Args:
        base_scheduler: Who decides; by default all run to their end.
        resources_allocation_function: Is called with (view, trial, flattened row, this scheduler), and returns a
            `PlacementGroupFactory`, or None for no change. The view has `get_live_trials()` and `total_resources()`, the
            scheduler `base_trial_resources`. None instead of a function changes nothing.

    Raises:
        WrongType: One of them is something else.
    """

    def __init__(
        self,
        base_scheduler: TrialScheduler | None = None,
        resources_allocation_function: Allocation | None = DistributeResources(),  # noqa: B008 - Ray Tune's signature; it is never changed
    ) -> None:
        if base_scheduler is not None and not isinstance(base_scheduler, TrialScheduler):
            raise WrongType(f"base_scheduler is {base_scheduler!r}: give a scheduler.")
        if resources_allocation_function is not None and not callable(resources_allocation_function):
            raise WrongType(f"resources_allocation_function is {resources_allocation_function!r}: give a function, or None.")
        self._base = base_scheduler or FIFOScheduler()
        self._allocate = resources_allocation_function
        self._began_with: dict[str, PlacementGroupFactory] = {}
        self._first: PlacementGroupFactory | None = None
        self._mode: str | None = None
        self._changed: set[str] = set()
        self._warned = False
        ours = resources_allocation_function is None or type(resources_allocation_function).__module__ == __name__
        ours = ours and type(self._base).__module__.startswith("holdfast.")  # what a user's class inherits says nothing of it
        self.own_chance = ours and self._base.own_chance

    @property
    def metric(self) -> str | None:
        """The metric that decides."""
        return self._base.metric

    @property
    def mode(self) -> str | None:
        """Which way is better, as far as `TuneConfig` or the other scheduler says."""
        return self._mode or self._base.mode

    @property
    def base_trial_resources(self) -> PlacementGroupFactory | None:
        """What the first trial began with; None before there is one."""
        return self._first

    @property
    def log_config(self) -> bool:
        """Whether the other scheduler wants its policy logged."""
        return bool(getattr(self._base, "log_config", False))

    @property
    def required(self) -> tuple[str, ...]:
        """The keys without which a row is refused."""
        return tuple(getattr(self._base, "required", ()))

    def base_of(self, trial: Any) -> PlacementGroupFactory:
        """What a trial began with."""
        return self._began_with.get(trial.trial_id) or trial.placement_group_factory

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._mode = mode
        return self._base.set_search_properties(metric, mode, **spec)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._began_with.setdefault(trial.trial_id, trial.placement_group_factory)
        self._first = self._first or self._began_with[trial.trial_id]
        self._base.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = self._base.on_trial_result(tune_controller, trial, result)
        if self._allocate is None or decision not in (self.CONTINUE, self.NOOP):
            return decision
        resources = self._allocate(tune_controller, trial, result, self)
        if resources is None:
            return decision
        if not isinstance(resources, PlacementGroupFactory):
            raise ConfigError(f"resources_allocation_function answered {resources!r}; give a PlacementGroupFactory or None.")
        if _same(resources, trial.placement_group_factory):
            return decision
        if trial.trial_id in self._changed and trial.checkpoint is None and not self._warned:
            self._warned = True
            warnings.warn(_NOTHING_SAVED.format(trial), stacklevel=2)
        self._changed.add(trial.trial_id)
        tune_controller.save_trial(trial)
        tune_controller.update_trial_resources(trial, resources)
        return self.PAUSE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._base.on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._base.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._base.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return self._base.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return f"(ResourceChangingScheduler) {self._base.debug_string()}"
