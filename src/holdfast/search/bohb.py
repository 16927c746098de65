"""`TuneBOHB`: Bayesian optimization on several budgets, by two kernel densities.

Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018, Algorithm 2. This module
knows which configuration had which loss on which budget, and which budget to believe. The densities are
`holdfast.search.density`'s, the budgets a scheduler's (`HyperBandForBOHB`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.asking import Asked, AskingSearcher
from holdfast.search.density import Axis, best_of
from holdfast.search.libraries import load
from holdfast.search.spaces import Leaf, SearchSpace, seed_of

__all__ = ["TuneBOHB"]

_SETTINGS = {
    "min_points_in_model": None,
    "top_n_percent": 15,
    "num_samples": 64,
    "random_fraction": 1 / 3,
    "bandwidth_factor": 3,
    "min_bandwidth": 1e-3,
}


class TuneBOHB(AskingSearcher):
    """Searches by BOHB's model; `holdfast[bohb]`, which is NumPy.

    A trial's budget is its `training_iteration`: every row is an observation on its budget. The model is made of the largest
    budget on which enough configurations were observed; what was observed on smaller ones counts no more then. It belongs with
    `HyperBandForBOHB(max_t=...)`, and learns under any scheduler. A value that is NaN or infinite, and the failure of a trial on
    the budget after its last row, are worse than any number; a row without a number teaches nothing.

    After a crash it answers as it would have: all chance is made of the seed and the suggestion's number.

    Args:
        space: A `param_space`; None for the experiment's.
        bohb_config: Settings by name: `min_points_in_model` (N_min, at least and by default one more than there are
            hyperparameters), `top_n_percent` (15: how many are good), `num_samples` (64: how many places are compared),
            `random_fraction` (1/3: how many suggestions are random), `bandwidth_factor` (3), `min_bandwidth` (1e-3).
        metric: What is optimized; `TuneConfig(metric=...)` may say it instead.
        mode: "min" or "max".
        points_to_evaluate: Configurations that are suggested first.
        seed: Of all chance; None: the experiment's seed.
        max_concurrent: How many trials may run at once; 0 means any number. Those that rest at a milestone do not count.

    Raises:
        ConfigError: NumPy is not installed, or an argument that cannot be.
    """

    def __init__(
        self,
        space: dict[str, Any] | None = None,
        bohb_config: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[dict[str, Any]] | None = None,
        seed: int | None = None,
        max_concurrent: int = 0,
    ) -> None:
        super().__init__(space, metric, mode, points_to_evaluate)
        load("numpy", "bohb", "TuneBOHB")
        if max_concurrent < 0:
            raise ConfigError(f"TuneBOHB(max_concurrent={max_concurrent!r}): 0 or more.")
        self.max_concurrent = max_concurrent
        self._settings = _checked(bohb_config or {})
        self.own_seed = seed
        self._chance = 0
        self._searched: tuple[Leaf, ...] = ()
        self._resting: dict[str, None] = {}
        self._places: list[list[float] | None] = []  # of each suggestion by its number; None for one that came to nothing
        self._least = 0  # N_min: how many points a density is made of at least
        self._observed = _Observed()

    def begin(self, leaves: tuple[Leaf, ...], seed: int) -> None:
        self._chance = seed if self.own_seed is None else self.own_seed
        self._searched = leaves
        self._least = max(self._settings["min_points_in_model"] or 0, len(leaves) + 1)
        self._observed.enough = self._least + 2

    def native(self, space: Any) -> SearchSpace:
        raise SearchSpaceError(
            f"TuneBOHB(space=...) takes a param_space such as {{'lr': loguniform(1e-4, 1e-1)}}, not {type(space).__name__}."
        )

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        self._resting.clear()
        return super().set_search_properties(metric, mode, config, **spec)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if 0 < self.max_concurrent <= len(self._handles) - len(self._resting):
            return None
        return super().suggest(trial_id)

    def ask(self, fixed: Mapping[str, Any]) -> Asked:
        import numpy as np

        chance = np.random.Generator(np.random.PCG64(seed_of(self._chance, f"bohb/{len(self._places)}")))
        modelled = chance.random() >= self._settings["random_fraction"]
        places = self._of_model(chance) if modelled else None
        if places is None:
            places = [float(place) for place in chance.random(len(self._searched))]
            values = {leaf.name: leaf.at(place) for leaf, place in zip(self._searched, places, strict=True)}
        else:
            values = {leaf.name: _value(leaf, place) for leaf, place in zip(self._searched, places, strict=True)}
        values.update(fixed)
        assert isinstance(self._space, SearchSpace)
        counting = {leaf.name for leaf in self._space.counting(values)}
        return Asked(self.put({name: value for name, value in values.items() if name in counting}), values)

    def put(self, values: Mapping[str, Any]) -> int:
        self._places.append([_place(leaf, values[leaf.name]) if leaf.name in values else math.nan for leaf in self._searched])
        return len(self._places) - 1

    def tell(self, handle: int, loss: float, result: Mapping[str, Any]) -> None:
        self._observed.add(handle, _budget(result), loss)

    def fail(self, handle: int) -> None:
        if handle not in self._observed.reached:
            self._places[handle] = None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        handle, budget, loss = self._handles.get(trial_id), _budget(result), _loss(result.get(str(self._metric)), self._mode)
        if handle is not None and budget is not None and loss is not None:
            self._observed.add(handle, budget, loss)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._resting.pop(trial_id, None)
        handle = self._handles.get(trial_id)
        if handle is not None and error:
            self._observed.add(handle, self._observed.reached.get(handle, 0.0) + 1, math.inf)
        elif result:
            self.on_trial_result(trial_id, result)
        super().on_trial_complete(trial_id, result, error)

    def on_pause(self, trial_id: str) -> bool:
        """Hears that a trial rests at a milestone; its place is free."""
        if trial_id in self._handles:
            self._resting[trial_id] = None
        return True

    def on_unpause(self, trial_id: str) -> None:
        """Hears that a trial that rested goes on."""
        self._resting.pop(trial_id, None)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        self.max_concurrent = max_concurrent
        return True

    def _of_model(self, chance: Any) -> list[float] | None:
        """The model's next place; None while there are not enough observations on any budget."""
        import numpy as np

        observed = self._observed.believed()
        finite = _finite(observed)
        if finite < self._observed.enough:
            return None
        ranked = sorted(observed, key=lambda handle: (observed[handle], handle))
        goods = min(max(self._least, int(self._settings["top_n_percent"] * len(ranked) / 100)), finite)
        bads = max(self._least, len(ranked) - goods)
        places = np.array([self._places[handle] for handle in ranked], dtype=float)
        return best_of(
            places[:goods],
            places[-bads:],
            [Axis(int(leaf.high) + 1 if leaf.kind == "choice" else 0) for leaf in self._searched],
            chance,
            samples=self._settings["num_samples"],
            factor=self._settings["bandwidth_factor"],
            least=self._settings["min_bandwidth"],
        )


class _Observed:
    """The losses of suggestions on each budget.

    Attributes:
        enough: How many finite ones a budget needs to be believed.
        reached: Suggestion → the largest budget that it was observed on.
    """

    def __init__(self) -> None:
        self.enough = 0
        self.reached: dict[int, float] = {}
        self._by_budget: dict[float, dict[int, float]] = {}
        self._elsewhere: dict[int, float] = {}
        self._largest = -math.inf  # with enough observations

    def add(self, number: int, budget: float | None, loss: float) -> None:
        """Notes a suggestion's loss; with no budget it was evaluated elsewhere, and counts on each.

        Once a budget has enough, what was observed on smaller ones is let go.
        """
        if budget is None:
            self._elsewhere[number] = loss
            return
        self.reached[number] = max(budget, self.reached.get(number, -math.inf))
        if budget < self._largest:
            return
        self._by_budget.setdefault(budget, {})[number] = loss
        if budget > self._largest and _finite(self._on(budget)) >= self.enough:
            self._largest = budget
            self._by_budget = {at: losses for at, losses in self._by_budget.items() if at >= budget}

    def believed(self) -> dict[int, float]:
        """Suggestion → loss on the largest budget with enough observations; before there is one, what is from elsewhere."""
        return self._on(self._largest)

    def _on(self, budget: float) -> dict[int, float]:
        return {**self._elsewhere, **self._by_budget.get(budget, {})}


def _finite(losses: Mapping[int, float]) -> int:
    return sum(map(math.isfinite, losses.values()))


def _loss(value: Any, mode: Any) -> float | None:
    """A metric as what is to be small: infinite where it is not finite, None where it is no number."""
    if isinstance(value, (str, bytes)) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return math.inf
    return number if mode == "min" else -number


def _budget(result: Mapping[str, Any]) -> float | None:
    budget = result.get("training_iteration")
    return float(budget) if isinstance(budget, (int, float)) and math.isfinite(budget) else None


def _value(leaf: Leaf, place: float) -> Any:
    return leaf.value(place) if leaf.kind == "choice" else leaf.at(place)


def _place(leaf: Leaf, value: Any) -> float:
    return float(leaf.number(value)) if leaf.kind == "choice" else leaf.place(value)


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(given) - set(_SETTINGS))
    if unknown:
        raise ConfigError(
            f"TuneBOHB(bohb_config=...) has no setting {', '.join(unknown)}. There are {', '.join(sorted(_SETTINGS))}."
        )
    settings = {**_SETTINGS, **given}
    if not 0 < settings["top_n_percent"] < 100 or not 0 <= settings["random_fraction"] <= 1 or settings["num_samples"] < 1:
        raise ConfigError(
            f"TuneBOHB(bohb_config={given!r}): top_n_percent lies between 0 and 100, random_fraction in [0, 1], and num_samples "
            "is 1 or more."
        )
    if not settings["bandwidth_factor"] > 0 or not 0 < settings["min_bandwidth"] < 0.5:
        raise ConfigError(f"TuneBOHB(bohb_config={given!r}): bandwidth_factor is above 0, min_bandwidth between 0 and 0.5.")
    return settings
