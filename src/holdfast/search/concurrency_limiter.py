"""`ConcurrencyLimiter`: how many trials of a searcher may live at once.

It knows which trials of its searcher live and, with `batch`, what those that ended reported. It refuses to know what runs: a
paused trial lives.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import ConfigError
from holdfast.search.base import Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.search.wrapping import Wrapper

__all__ = ["ConcurrencyLimiter"]


class ConcurrencyLimiter(Wrapper):
    """Asks the searcher inside for another trial only while fewer than `max_concurrent` of its trials live.

    A searcher that keeps such a bound by itself (`set_max_concurrency` returns True) is left to do so. A paused trial keeps its
    place, unless the searcher's `on_pause(trial_id)` returns True.

    Attributes:
        searcher: The searcher inside.
        max_concurrent: How many trials may live at once.
        batch: Whether trials come in batches.

    Args:
        searcher: The searcher inside.
        max_concurrent: How many of its trials may live at once.
        batch: Whether the searcher hears of the ends of a batch of `max_concurrent` trials together, in the order in which
            they were suggested, when the last of them has ended; until then it is not asked for more than the batch.

    Raises:
        ConfigError: No positive number, no `Searcher`, or a `BasicVariantGenerator`, which has a bound of its own.
    """

    def __init__(self, searcher: Searcher, max_concurrent: int, batch: bool = False) -> None:
        super().__init__(searcher)
        if isinstance(searcher, BasicVariantGenerator):
            raise ConfigError(
                "ConcurrencyLimiter is for searchers that learn. A bound for random search and grids: "
                "BasicVariantGenerator(max_concurrent=...), or TuneConfig(max_concurrent_trials=...)."
            )
        if not isinstance(max_concurrent, int) or isinstance(max_concurrent, bool) or max_concurrent < 1:
            raise ConfigError(f"ConcurrencyLimiter(max_concurrent={max_concurrent!r}): a positive whole number.")
        self.batch = batch
        self._live: dict[str, bool] = {}  # in the order of suggestion; False for one that is paused and gave its place away
        self._ended: dict[str, tuple[dict[str, Any] | None, bool]] = {}  # of the batch
        self._set_bound(max_concurrent)

    def _set_bound(self, max_concurrent: int) -> None:
        self.max_concurrent = max_concurrent
        # In batches the searcher's own bound would be in the way: it hears of no end before the last.
        self._left_to_it = not self.batch and self.searcher.set_max_concurrency(max_concurrent)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Begins an experiment: trials of an earlier one hold no places any more."""
        self._live.clear()
        self._ended.clear()
        return super().set_search_properties(metric, mode, config, **spec)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Takes another bound, and keeps it."""
        self._set_bound(max_concurrent)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The searcher's suggestion; None while all places are taken."""
        if not self._left_to_it and sum(self._live.values()) >= self.max_concurrent:
            return None
        suggestion = self.searcher.suggest(trial_id)
        if isinstance(suggestion, dict):
            self._live[trial_id] = True
        return suggestion

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        self._live[trial_id] = True
        super().adopt(trial_id, config)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self._live:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Passes the end on; with `batch` when all trials that live have ended."""
        if trial_id not in self._live or trial_id in self._ended:
            return
        if not self.batch:
            del self._live[trial_id]
            super().on_trial_complete(trial_id, result=result, error=error)
            return
        self._ended[trial_id] = (result, error)
        if len(self._ended) == len(self._live):
            ended, self._ended = self._ended, {}
            batch, self._live = self._live, {}
            for one in batch:
                super().on_trial_complete(one, result=ended[one][0], error=ended[one][1])

    def on_pause(self, trial_id: str) -> bool:
        """Hears that a trial was paused; its place is free only if the searcher's own `on_pause` returns True."""
        free = super().on_pause(trial_id) is True
        if free and trial_id in self._live:
            self._live[trial_id] = False
        return free

    def on_unpause(self, trial_id: str) -> None:
        """Hears that a paused trial goes on: it has its place again, beyond the bound if that was given to another."""
        super().on_unpause(trial_id)
        if trial_id in self._live:
            self._live[trial_id] = True

    def _own_state(self) -> dict[str, Any]:
        return {"live": dict(self._live), "ended": dict(self._ended)}

    def _take_own_state(self, state: dict[str, Any]) -> None:
        self._live = dict(state["live"])
        self._ended = dict(state["ended"])
