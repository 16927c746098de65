"""What a user says of a job: `TuneConfig`, `RunConfig`, `FailureConfig`, `CheckpointConfig`, `ResumeConfig`.

Plain values, checked when they are made. Each accepts Ray Tune's parameters; ours are keyword-only and at the end.
"""

from __future__ import annotations

import datetime
import enum
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from holdfast.errors import ConfigError, Deprecated

if TYPE_CHECKING:
    from holdfast.callback import Callback
    from holdfast.engines.base import Engine
    from holdfast.schedulers.base import TrialScheduler
    from holdfast.search.base import Searcher
    from holdfast.stopper.base import Stopper
    from holdfast.trial import Trial

__all__ = ["CheckpointConfig", "FailureConfig", "ResumeConfig", "RunConfig", "TuneConfig"]

_DEPRECATED = "DEPRECATED"


class _Shown:
    """Gives the configs a repr of what was set, and equality by value."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


def _whole(value: Any) -> int | None:
    """The value as an int where it is a whole number (of NumPy too, `2.0` too), else None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return operator.index(value) if hasattr(value, "__index__") else None


class TuneConfig(_Shown):
    """How the search goes.

    Args:
        mode: "min" or "max": what a better `metric` is.
        metric: The metric that scheduler, searcher and `get_best_result` go by; each row must hold it.
        search_alg: Where configurations come from; `BasicVariantGenerator` (random draws and grids) by default.
        scheduler: Which trials stop early; `FIFOScheduler` (none) by default.
        num_samples: How often the space is sampled; with grids, how often the whole grid is run. -1: until stopped.
        max_concurrent_trials: Upper bound of trials running at once, also after a restore.
        time_budget_s: Seconds (or a `timedelta`) that drivers may be in charge in all; downtime does not count.
        reuse_actors: Whether a worker process may run one trial after another.
        trial_name_creator: Gives a trial (`holdfast.Trial`) its display name.
        trial_dirname_creator: Gives a trial its directory's name; no "/" in it.
        chdir_to_trial_dir: Deprecated; set `RAY_CHDIR_TO_TRIAL_DIR=0` instead.
        seed: Makes the whole experiment repeatable. Drawn and recorded when not given.

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
        search_alg: Searcher | None = None,
        scheduler: TrialScheduler | None = None,
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
        samples = _whole(num_samples)
        if samples is None or samples < -1 or samples == 0:
            raise ConfigError(f"TuneConfig(num_samples={num_samples!r}): a positive whole number, or -1 for no end.")
        bound = None if max_concurrent_trials is None else _whole(max_concurrent_trials)
        if max_concurrent_trials is not None and (bound is None or bound < 0):
            raise ConfigError(
                f"TuneConfig(max_concurrent_trials={max_concurrent_trials!r}): a whole number, or None for no bound."
            )
        drawn_from = None if seed is None else _whole(seed)
        if seed is not None and (drawn_from is None or not -(2**63) <= drawn_from < 2**63):
            raise ConfigError(f"TuneConfig(seed={seed!r}): a whole number of 64 bits, or None to have one drawn.")
        if isinstance(time_budget_s, datetime.timedelta):
            time_budget_s = time_budget_s.total_seconds()
        if time_budget_s is not None and not (isinstance(time_budget_s, (int, float)) and time_budget_s > 0):
            raise ConfigError(f"TuneConfig(time_budget_s={time_budget_s!r}): a positive number of seconds, or a timedelta.")
        self.mode = mode
        self.metric = metric
        self.search_alg = search_alg
        self.scheduler = scheduler
        self.num_samples = samples
        self.max_concurrent_trials = bound
        self.time_budget_s = time_budget_s
        self.reuse_actors = bool(reuse_actors)
        self.trial_name_creator = trial_name_creator
        self.trial_dirname_creator = trial_dirname_creator
        self.chdir_to_trial_dir = _DEPRECATED
        self.seed = drawn_from


class FailureConfig(_Shown):
    """What a failed attempt costs.

    Args:
        max_failures: Failed attempts that a trial survives: 3 is up to four attempts, 0 none, -1 any number.
        fail_fast: True ends the experiment at the first trial that failed for good; "raise" also raises its exception.

    Raises:
        ConfigError: `fail_fast` together with `max_failures`, or a value that cannot be.
    """

    max_failures: int
    fail_fast: bool | str

    def __init__(self, max_failures: int = 0, fail_fast: bool | Literal["raise"] = False) -> None:
        budget = _whole(max_failures)
        if budget is None or budget < -1:
            raise ConfigError(f"FailureConfig(max_failures={max_failures!r}): 0, a positive whole number, or -1 for no bound.")
        if fail_fast not in (True, False, "raise"):
            raise ConfigError(f"FailureConfig(fail_fast={fail_fast!r}): True, False or 'raise'.")
        if fail_fast and max_failures:
            raise ConfigError("FailureConfig: fail_fast and max_failures exclude each other; give one of them.")
        self.max_failures = budget
        self.fail_fast = fail_fast


class CheckpointConfig(_Shown):
    """Which checkpoints of a trial are kept.

    The newest checkpoint is always kept, because the trial resumes from it.

    Args:
        num_to_keep: How many of the best; None keeps all.
        checkpoint_score_attribute: The metric by which they are ranked, nested ones as "a/b"; None ranks by age.
        checkpoint_score_order: "max" or "min".
        checkpoint_frequency: Of class trainables; 0 for functions.
        checkpoint_at_end: Of class trainables; None or False for functions.

    Raises:
        ConfigError: A value that cannot be.
    """

    num_to_keep: int | None
    checkpoint_score_attribute: str | None
    checkpoint_score_order: str
    checkpoint_frequency: int
    checkpoint_at_end: bool | None

    def __init__(
        self,
        num_to_keep: int | None = None,
        checkpoint_score_attribute: str | None = None,
        checkpoint_score_order: str | None = "max",
        checkpoint_frequency: int | None = 0,
        checkpoint_at_end: bool | None = None,
    ) -> None:
        keep = None if num_to_keep is None else _whole(num_to_keep)
        if num_to_keep is not None and (keep is None or keep <= 0):
            raise ConfigError(f"CheckpointConfig(num_to_keep={num_to_keep!r}): a positive whole number, or None to keep all.")
        if checkpoint_score_order not in ("max", "min"):
            raise ConfigError(f"CheckpointConfig(checkpoint_score_order={checkpoint_score_order!r}): 'max' or 'min'.")
        if not (checkpoint_score_attribute is None or isinstance(checkpoint_score_attribute, str)):
            raise ConfigError(
                f"CheckpointConfig(checkpoint_score_attribute={checkpoint_score_attribute!r}): the name of a metric."
            )
        frequency = _whole(checkpoint_frequency)
        if frequency is None or frequency < 0:
            raise ConfigError(f"CheckpointConfig(checkpoint_frequency={checkpoint_frequency!r}): 0 or a positive whole number.")
        self.num_to_keep = keep
        self.checkpoint_score_attribute = checkpoint_score_attribute
        self.checkpoint_score_order = checkpoint_score_order
        self.checkpoint_frequency = frequency
        self.checkpoint_at_end = checkpoint_at_end


def _check_log_files(asked: object) -> None:
    pair = isinstance(asked, (tuple, list)) and len(asked) == 2 and all(isinstance(name, str) for name in asked)
    if not (pair or isinstance(asked, (bool, str))):
        raise ConfigError(f"RunConfig(log_to_file={asked!r}): True, False, a file's name or a pair of names.")


class RunConfig(_Shown):
    """Where and how an experiment runs.

    Args:
        name: The experiment's name and its directory's; by default the trainable's with the date.
        storage_path: The directory that holds it; by default `HOLDFAST_RESULTS_DIR` or `~/holdfast_results`.
        storage_filesystem: Not supported yet; local paths only.
        failure_config: What a failed attempt costs.
        checkpoint_config: Which checkpoints are kept.
        sync_config: Not supported yet.
        verbose: 0 prints nothing, 1 the progress, 2 also each trial's end, 3 also each row.
        stop: When trials stop: a dictionary of bounds (`{"training_iteration": 10}`), a function of (trial_id,
            result), a `Stopper` or a list of them.
        callbacks: User code that hears what happens.
        progress_reporter: Not supported yet.
        log_to_file: Where trials' output goes, below the trial's directory: True for `stdout` and `stderr`, a name,
            or a pair of names. False keeps it in the experiment's `logs/`.
        local_dir: Deprecated; use `storage_path`.
        engine: "local", or an engine object.
        durability: "group": acknowledged rows survive any kill, and a power cut loses at most 0.1 s; "strict": nothing.

    Raises:
        ConfigError: A value that cannot be.
    """

    name: str | None
    storage_path: str | None
    storage_filesystem: None
    failure_config: FailureConfig
    checkpoint_config: CheckpointConfig
    sync_config: None
    verbose: int
    stop: Any
    callbacks: list[Callback]
    progress_reporter: None
    log_to_file: bool | str | tuple[str, str]
    local_dir: None
    engine: str | Engine | None
    durability: str

    def __init__(
        self,
        name: str | None = None,
        storage_path: str | os.PathLike[str] | None = None,
        storage_filesystem: Any = None,
        failure_config: FailureConfig | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        sync_config: Any = None,
        verbose: int | None = None,
        stop: Mapping[str, Any] | Stopper | Sequence[Stopper] | Callable[[str, Mapping[str, Any]], bool] | None = None,
        callbacks: Sequence[Callback] | None = None,
        progress_reporter: Any = None,
        log_to_file: bool | str | tuple[str, str] = False,
        local_dir: str | None = None,
        *,
        engine: str | Engine | None = None,
        durability: Literal["group", "strict"] = "group",
    ) -> None:
        if local_dir is not None:
            raise Deprecated("RunConfig(local_dir=...) is gone: use RunConfig(storage_path=...).")
        for what, given in (
            ("storage_filesystem", storage_filesystem),
            ("sync_config", sync_config),
            ("progress_reporter", progress_reporter),
        ):
            if given is not None:
                raise ConfigError(f"RunConfig({what}=...) is not supported yet: leave it out. Experiments live on local paths.")
        if durability not in ("group", "strict"):
            raise ConfigError(f"RunConfig(durability={durability!r}): 'group' or 'strict'.")
        _check_log_files(log_to_file)
        if verbose is not None and verbose not in (0, 1, 2, 3):
            raise ConfigError(f"RunConfig(verbose={verbose!r}): 0, 1, 2 or 3.")
        self.name = name
        self.storage_path = None if storage_path is None else os.fspath(storage_path)
        self.storage_filesystem = storage_filesystem
        self.failure_config = failure_config or FailureConfig()
        self.checkpoint_config = checkpoint_config or CheckpointConfig()
        self.sync_config = sync_config
        self.verbose = 1 if verbose is None else verbose
        self.stop = stop
        self.callbacks = list(callbacks or [])
        self.progress_reporter = progress_reporter
        self.log_to_file = log_to_file
        self.local_dir = None
        self.engine = engine
        self.durability = durability


class ResumeConfig(_Shown):
    """What a restored run does with the trials that it finds, by their state.

    Args:
        finished: Of trials that ended; SKIP by default.
        unfinished: Of trials that were pending, running or paused; RESUME by default. SKIP ends them with what they have.
        errored: Of trials that failed for good; SKIP by default. RESUME goes on from the newest checkpoint with a
            fresh budget of failures, RESTART begins anew in a new directory.
    """

    class ResumeType(enum.Enum):
        """What is done with a trial."""

        RESUME = "resume"
        RESTART = "restart"
        SKIP = "skip"

    finished: ResumeType
    unfinished: ResumeType
    errored: ResumeType

    def __init__(
        self,
        finished: ResumeType | str = ResumeType.SKIP,
        unfinished: ResumeType | str = ResumeType.RESUME,
        errored: ResumeType | str = ResumeType.SKIP,
    ) -> None:
        try:
            self.finished = self.ResumeType(finished)
            self.unfinished = self.ResumeType(unfinished)
            self.errored = self.ResumeType(errored)
        except ValueError as error:
            raise ConfigError(f"ResumeConfig: {error}; use ResumeConfig.ResumeType.RESUME, RESTART or SKIP.") from None
