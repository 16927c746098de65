"""A searcher around another one: what `ConcurrencyLimiter`, `Repeater` and `SearchGenerator` have in common.

It knows how to pass everything through, and how the memory of the searcher inside is kept with its own. It refuses to know
what the searcher inside thinks.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import ConfigError
from holdfast.search.base import Metric, Searcher, introduce, memory_of, remind

__all__ = ["Wrapper"]


class Wrapper(Searcher):
    """Passes everything on to the searcher inside; derive from it and override what is to be otherwise.

    After a crash it comes back as the searcher inside does: with its pickle or state, and what was heard since.

    Attributes:
        searcher: The searcher inside.

    Args:
        searcher: The searcher inside.

    Raises:
        ConfigError: It is no `Searcher`.
    """

    def __init__(self, searcher: Searcher) -> None:
        if not isinstance(searcher, Searcher):
            raise ConfigError(f"{type(self).__name__} goes around a holdfast Searcher, not {searcher!r}.")
        super().__init__()
        self.searcher = searcher
        self.own_seed = searcher.own_seed

    @property
    def metric(self) -> Metric:
        """What is optimized."""
        return self.searcher.metric

    @property
    def mode(self) -> Metric:
        """Whether the metric is to be small ("min") or large ("max")."""
        return self.searcher.mode

    @property
    def instant(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Whether the searcher inside answers without thinking."""
        return self.searcher.instant

    @property
    def own_chance(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Whether all chance of the searcher inside comes from its own generator."""
        return self.searcher.own_chance

    @property
    def last_evaluated(self) -> dict[str, Any] | None:
        """What the searcher inside says of its last suggestion, if it does."""
        return getattr(self.searcher, "last_evaluated", None)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return introduce(self.searcher, metric, mode, config, **spec)

    def extend(self, num_samples: int, space: dict[str, Any] | None) -> bool:
        return self.searcher.extend(num_samples, space)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self.searcher.suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.searcher.on_trial_complete(trial_id, result=result, error=error)

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        self.searcher.adopt(trial_id, config)

    def on_pause(self, trial_id: str) -> Any:
        """Tells the searcher inside that a trial rests, where it wants to know. True: its place is free."""
        return getattr(self.searcher, "on_pause", _nothing)(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Tells the searcher inside that a trial goes on, where it wants to know."""
        getattr(self.searcher, "on_unpause", _nothing)(trial_id)

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        self.searcher.add_evaluated_point(parameters, value, error, pruned, intermediate_values)

    def add_evaluated_trials(self, trials_or_analysis: Any, metric: str) -> None:
        self.searcher.add_evaluated_trials(trials_or_analysis, metric)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        return self.searcher.set_max_concurrency(max_concurrent)

    def get_state(self) -> dict[str, Any]:
        """All that both remember."""
        return {"own": self._own_state(), "searcher": memory_of(self.searcher)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` gave, and gives the searcher inside its part."""
        self._take_own_state(state["own"])
        remind(self.searcher, state["searcher"])

    def _own_state(self) -> dict[str, Any]:
        """What the wrapper itself remembers, without the searcher inside."""
        return {}

    def _take_own_state(self, state: dict[str, Any]) -> None:
        """Takes what `_own_state` gave."""


def _nothing(trial_id: str) -> None:
    """For searchers that do not want to know."""
