"""Population based bandits: population based training that explores by a model instead of by chance.

The algorithm is that of Parker-Holder et al., "Provably Efficient Online Hyperparameter Optimization with Population-Based
Bandits", 2020 (Algorithm 1). Knows which hyperparameters have which bounds, and what steps of trials told; the model
itself is `holdfast.schedulers.bandit`. Refuses to know files and workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from holdfast.errors import ConfigError, WrongType
from holdfast.schedulers.bandit import Observation, suggested
from holdfast.schedulers.judging import number_of
from holdfast.schedulers.mutations import Config, copied
from holdfast.schedulers.pbt import PopulationBasedTraining
from holdfast.space import Float

__all__ = ["PB2"]


class PB2(PopulationBasedTraining):
    """Population based training whose new configurations come from a time-varying Gaussian process; see its class for the rest.

    Needs NumPy: `pip install 'holdfast[pb2]'`. The model rests on the newest 80 steps. Its generator is seeded by the
    experiment: the same rows in the same order give the same configurations, before and after a crash, on one machine with one
    version of NumPy.

    Args:
        time_attr, metric, mode, perturbation_interval, quantile_fraction, log_config, require_attrs, synch, custom_explore_fn:
            As for `PopulationBasedTraining`.
        hyperparam_bounds: Per key of the configuration `[lowest, highest]`, or a dictionary of such for a nested key. A key
            that a new trial lacks is drawn evenly between them; a whole number stays one.

    Raises:
        ConfigError: No bounds, or some that are none; NumPy is not installed.
        WrongType: They are something else.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        hyperparam_bounds: dict[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        _check_numpy()
        if not hyperparam_bounds:
            raise ConfigError("PB2 needs hyperparam_bounds, such as {'lr': [1e-5, 1e-2]}.")
        super().__init__(
            time_attr,
            metric,
            mode,
            perturbation_interval,
            hyperparam_mutations=_mutations(hyperparam_bounds, "hyperparam_bounds"),
            quantile_fraction=quantile_fraction,
            custom_explore_fn=custom_explore_fn,
            log_config=log_config,
            require_attrs=require_attrs,
            synch=synch,
        )
        self._bounds = dict(_leaves(hyperparam_bounds, ()))
        self._observations: list[Observation] = []
        self._scores: dict[str, float] = {}
        self._pending: dict[str, tuple[float, ...]] = {}
        self._generator: Any = None
        self._seed = 0

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._seed = int(spec.get("seed", 0))
        self._generator = None
        return super().set_search_properties(metric, mode, **spec)

    def _observe(self, trial: Any, time: float, score: float | None) -> None:
        point, before = self._point(trial.config), self._scores.pop(trial.trial_id, None)
        self._pending.pop(trial.trial_id, None)
        if score is None or not math.isfinite(score):
            return
        self._scores[trial.trial_id] = score
        if before is not None and point is not None:
            self._observations.append(Observation(time / self._interval, point, before, score - before))
            del self._observations[:-1000]

    def _explored(self, config: Config, trial_id: str, donor_id: str) -> Config:
        """The donor's configuration at the point that promises most from its score on."""
        import numpy

        if self._generator is None:
            self._generator = numpy.random.default_rng(self._seed)
        donor = self._population.of(donor_id)
        time = (0.0 if donor is None else donor.time) / self._interval + 1.0
        before = self._scores.get(donor_id, 0.0)
        self._pending = {one: point for one, point in self._pending.items() if self._is_live(one)}
        pending = list(self._pending.values())
        point = suggested(self._observations, time, before, pending, len(self._bounds), self._generator)
        self._scores[trial_id] = before
        self._pending[trial_id] = point
        return self._at(config, point)

    def _is_live(self, trial_id: str) -> bool:
        member = self._population.of(trial_id)
        return member is not None and member.live

    def _point(self, config: Config) -> tuple[float, ...] | None:
        """Where a configuration stands between the bounds; None where something is no number."""
        point = []
        for path, (low, high) in self._bounds.items():
            value: Any = config
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            number = number_of(value)
            if number is None or not math.isfinite(number):
                return None
            point.append(min(max((number - low) / (high - low), 0.0), 1.0))
        return tuple(point)

    def _at(self, config: Config, point: tuple[float, ...]) -> Config:
        new: Config = copied(config)
        for (path, (low, high)), share in zip(self._bounds.items(), point, strict=True):
            place = new
            for key in path[:-1]:
                place = place.setdefault(key, {})
            value = low + share * (high - low)
            whole = isinstance(place.get(path[-1]), int) and not isinstance(place.get(path[-1]), bool)
            place[path[-1]] = round(value) if whole else value
        return new


def _mutations(bounds: Any, what: str) -> dict[str, Any]:
    """The bounds as domains to draw a missing key from."""
    if not isinstance(bounds, Mapping):
        raise WrongType(f"{what} must be a dictionary of [lowest, highest], or of such dictionaries, not {bounds!r:.200}.")
    mutations: dict[str, Any] = {}
    for key, pair in bounds.items():
        where = f"{what}[{key!r}]"
        if isinstance(pair, Mapping):
            mutations[key] = _mutations(pair, where)
            continue
        if not isinstance(pair, (list, tuple)):
            raise WrongType(f"{where} is {pair!r:.200}: give [lowest, highest].")
        numbers = [number_of(edge) for edge in pair]
        if len(numbers) != 2 or any(edge is None or not math.isfinite(edge) for edge in numbers) or numbers[0] == numbers[1]:
            raise ConfigError(f"{where} is {pair!r:.200}: give two different numbers, [lowest, highest].")
        mutations[key] = Float(min(pair), max(pair)).uniform()
    return mutations


def _leaves(bounds: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[float, float]]]:
    for key, pair in bounds.items():
        if isinstance(pair, Mapping):
            yield from _leaves(pair, (*path, key))
        else:
            yield (*path, key), (float(min(pair)), float(max(pair)))


def _check_numpy() -> None:
    from importlib.util import find_spec

    if find_spec("numpy") is None:
        raise ConfigError("PB2 needs NumPy, which is not installed: pip install 'holdfast[pb2]'.")
