"""`Repeater`: each suggestion is tried several times, and the searcher learns their mean.

It knows which trials try the same suggestion, and what each of them ended with. It refuses to know why they differ.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from holdfast.errors import ConfigError
from holdfast.search.base import Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.search.wrapping import Wrapper

__all__ = ["TRIAL_INDEX", "Repeater"]

TRIAL_INDEX = "__trial_index__"


class _Group:
    """The trials of one suggestion; the first one stands for all before the searcher."""

    def __init__(self, first: str, config: dict[str, Any]) -> None:
        self.first = first
        self.config = config
        self.trials = [first]
        self.scores: dict[str, float] = {}  # NaN of one without a score

    def mean(self) -> float | None:
        """The mean of all scores that are finite numbers; None where there is none."""
        good = [score for score in self.scores.values() if math.isfinite(score)]
        return math.fsum(good) / len(good) if good else None


class Repeater(Wrapper):
    """Tries each suggestion of the searcher inside `repeat` times and tells it the mean of their metrics, once.

    Trials that fail, or whose metric is missing or no finite number, do not count into the mean; where none counts, the
    searcher hears that the suggestion failed. Rows on the way to the end are not passed on. Give a `num_samples` that is a
    multiple of `repeat`: an incomplete last group is never learned from.

    Attributes:
        searcher: The searcher inside.
        repeat: How often each suggestion is tried.
        set_index: Whether a trial's config says which one of its group it is, as `"__trial_index__"`, from 0.

    Args:
        searcher: The searcher inside, with one metric.
        repeat: How often each suggestion is tried.
        set_index: As the attribute.

    Raises:
        ConfigError: No positive number, no `Searcher`, several metrics, or a `BasicVariantGenerator`, which does not learn.
    """

    def __init__(self, searcher: Searcher, repeat: int = 1, set_index: bool = True) -> None:
        super().__init__(searcher)
        if isinstance(searcher, BasicVariantGenerator):
            raise ConfigError(
                "Repeater is for searchers that learn. To repeat random draws, put grid_search(list(range(n))) under a key of "
                "its own and use BasicVariantGenerator(constant_grid_search=True)."
            )
        if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
            raise ConfigError(f"Repeater(repeat={repeat!r}): a positive whole number.")
        self._check_metric()
        self.repeat = repeat
        self.set_index = set_index
        self._group: _Group | None = None
        self._of: dict[str, _Group] = {}  # the unfinished groups, by each of their trials

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        taken = super().set_search_properties(metric, mode, config, **spec)
        self._check_metric()
        self._group = None  # what an earlier experiment left unfinished stays so
        self._of.clear()
        return taken

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Never kept here: the searcher inside counts suggestions, not trials."""
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The suggestion that is being repeated, or a new one."""
        group = self._group
        if group is None or len(group.trials) >= self.repeat:
            config = self.searcher.suggest(trial_id)
            if not isinstance(config, dict):
                return config
            group = self._begin(trial_id, config)
        else:
            group.trials.append(trial_id)
            self._of[trial_id] = group
        config = copy.copy(group.config)
        if self.set_index:
            config[TRIAL_INDEX] = len(group.trials) - 1
        return config

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        """Takes a recorded configuration: of a group's first trial as the searcher's own, of the others as it stands."""
        config = {key: value for key, value in config.items() if key != TRIAL_INDEX}
        group = self._of.get(trial_id)
        if group is None:  # asked again, the searcher had nothing to give
            group = self._begin(trial_id, config)
        if trial_id == group.first:
            group.config = config
            super().adopt(trial_id, config)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rows on the way are not passed on."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False, **kwargs: Any) -> None:
        """Counts the trial; the last one of its group has the searcher hear the mean."""
        group = self._of.get(trial_id)
        if group is None or trial_id in group.scores:
            return
        group.scores[trial_id] = math.nan if error else self._score(result)
        if len(group.scores) < self.repeat:
            return
        for one in group.trials:
            del self._of[one]
        mean = group.mean()
        if mean is None:
            self.searcher.on_trial_complete(group.first, result=None, error=True)
        else:
            self.searcher.on_trial_complete(group.first, result={str(self.metric or "_metric"): mean}, error=False)

    def _begin(self, trial_id: str, config: dict[str, Any]) -> _Group:
        group = self._group = self._of[trial_id] = _Group(trial_id, config)
        return group

    def _score(self, result: dict[str, Any] | None) -> float:
        value = (result or {}).get(str(self.metric or "_metric"))
        try:
            return math.nan if value is None else float(value)
        except (TypeError, ValueError):
            return math.nan

    def _check_metric(self) -> None:
        if isinstance(self.metric, list):
            raise ConfigError(f"Repeater takes the mean of one metric; its searcher has several: {self.metric}.")

    def _own_state(self) -> dict[str, Any]:
        return copy.deepcopy({"group": self._group, "of": self._of})

    def _take_own_state(self, state: dict[str, Any]) -> None:
        state = copy.deepcopy(state)  # together: a group that is both is one object
        self._group = state["group"]
        self._of = state["of"]
