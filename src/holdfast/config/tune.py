"""`TuneConfig`: how the search goes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.config.checks import Shown, whole
from holdfast.errors import ConfigError, Deprecated

if TYPE_CHECKING:
    from holdfast.schedulers.base import TrialScheduler
    from holdfast.search.base import Searcher
    from holdfast.trial import Trial

__all__ = ["TuneConfig"]

_DEPRECATED = "DEPRECATED"


class TuneConfig(Shown):
    """How the search goes.

    Args:
        mode: "min" or "max": what a better `metric` is.
        metric: The metric that scheduler, searcher and `get_best_result` go by; each row must hold it.
        search_alg: Where configurations come from; `BasicVariantGenerator` (random draws and grids) by default. A name is
            looked up by `create_searcher`.
        scheduler: Which trials stop early; `FIFOScheduler` (none) by default. A name is looked up by `create_scheduler`.
        num_samples: How often the space is sampled; with grids, how often the whole grid is run. -1: until stopped.
        max_concurrent_trials: Upper bound of trials running at once, also after a restore.
        time_budget_s: Seconds (or a `timedelta`) that drivers may be in charge in all; downtime does not count.
        reuse_actors: Whether a worker process may run one trial after another.
        trial_name_creator: Gives a trial (`holdfast.Trial`) its display name.
        trial_dirname_creator: Gives a trial its directory's name; no "/" in it.
        chdir_to_trial_dir: Deprecated; set `RAY_CHDIR_TO_TRIAL_DIR=0` instead.
        seed: Makes the whole experiment repeatable. Where it is not given, the searcher's own seed (`random_state`, a seeded
            Optuna sampler) takes its place; else one is drawn. It is on record.

    Raises:
        ConfigError: A value that cannot be.
    """

    mode: str | None
    metric: str | None
    search_alg: Searcher | None
    scheduler: TrialScheduler | None
    num_samples: int
    max_concurrent_trials: int | None
    time_budget_s: float | None
    reuse_actors: bool
    trial_name_creator: Callable[[Trial], str] | None
    trial_dirname_creator: Callable[[Trial], str] | None
    chdir_to_trial_dir: str
    seed: int | None

    def __init__(
        self,
        mode: str | None = None,
        metric: str | None = None,
        search_alg: Searcher | str | None = None,
        scheduler: TrialScheduler | str | None = None,
        num_samples: int = 1,
        max_concurrent_trials: int | None = None,
        time_budget_s: float | datetime.timedelta | None = None,
        reuse_actors: bool = False,
        trial_name_creator: Callable[[Trial], str] | None = None,
        trial_dirname_creator: Callable[[Trial], str] | None = None,
        chdir_to_trial_dir: Any = _DEPRECATED,
        *,
        seed: int | None = None,
    ) -> None:
        if chdir_to_trial_dir != _DEPRECATED:
            raise Deprecated("TuneConfig(chdir_to_trial_dir=...) is gone: set the environment variable RAY_CHDIR_TO_TRIAL_DIR=0.")
        if mode not in (None, "min", "max"):
            raise ConfigError(f"TuneConfig(mode={mode!r}): mode is 'min' or 'max'.")
        if metric is not None and not (isinstance(metric, str) and metric):
            raise ConfigError(f"TuneConfig(metric={metric!r}): the name of one metric.")
        samples = whole(num_samples)
        if samples is None or samples < -1 or samples == 0:
            raise ConfigError(f"TuneConfig(num_samples={num_samples!r}): a positive whole number, or -1 for no end.")
        bound = None if max_concurrent_trials is None else whole(max_concurrent_trials)
        if max_concurrent_trials is not None and (bound is None or bound < 0):
            raise ConfigError(
                f"TuneConfig(max_concurrent_trials={max_concurrent_trials!r}): a whole number, or None for no bound."
            )
        drawn_from = None if seed is None else whole(seed)
        if seed is not None and (drawn_from is None or not -(2**63) <= drawn_from < 2**63):
            raise ConfigError(f"TuneConfig(seed={seed!r}): a whole number of 64 bits, or None to have one drawn.")
        if isinstance(time_budget_s, datetime.timedelta):
            time_budget_s = time_budget_s.total_seconds()
        if time_budget_s is not None and not (isinstance(time_budget_s, (int, float)) and time_budget_s > 0):
            raise ConfigError(f"TuneConfig(time_budget_s={time_budget_s!r}): a positive number of seconds, or a timedelta.")
        self.mode = mode
        self.metric = metric
        self.search_alg = _named_searcher(search_alg)
        self.scheduler = _named_scheduler(scheduler)
        self.num_samples = samples
        self.max_concurrent_trials = bound
        self.time_budget_s = time_budget_s
        self.reuse_actors = bool(reuse_actors)
        self.trial_name_creator = trial_name_creator
        self.trial_dirname_creator = trial_dirname_creator
        self.chdir_to_trial_dir = _DEPRECATED
        self.seed = drawn_from


def _named_searcher(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    from holdfast.search import create_searcher

    return create_searcher(given)


def _named_scheduler(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    from holdfast.schedulers import create_scheduler

    return create_scheduler(given)
