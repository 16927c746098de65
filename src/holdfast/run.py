"""`run` and `run_experiments`: Ray Tune's older entry points, translated into the parts that `Tuner` is made of.

Knows how their arguments are spelt as configs, and what `resume=` means. Refuses to know anything else: what a job is, and
how it is driven and restored, is said once, below.
"""

from __future__ import annotations

import copy
import datetime
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.analysis import ExperimentAnalysis
from holdfast.checkpoint import Checkpoint
from holdfast.config import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, TuneConfig
from holdfast.errors import ConfigError, TrialsFailed
from holdfast.experiment import Experiment, experiments_in
from holdfast.registry import trainable_named
from holdfast.resources import asked_for, asking, request_for
from holdfast.storage.opening import inside, whereabouts
from holdfast.trainable import Trainable

if TYPE_CHECKING:
    from holdfast._assembly.handle import Handle
    from holdfast.callback import Callback
    from holdfast.schedulers.base import TrialScheduler
    from holdfast.search.base import Searcher
    from holdfast.trial import Trial

__all__ = ["run", "run_experiments"]

_DEPRECATED = "DEPRECATED"
_RESUMED = {
    "ERRORED": ("resume", "resume"),
    "RESTART_ERRORED": ("resume", "restart"),
    "ERRORED_ONLY": ("skip", "resume"),
    "RESTART_ERRORED_ONLY": ("skip", "restart"),
}  # what becomes of unfinished and of failed trials


class _Shared(NamedTuple):
    """What `run` says of all its experiments alike."""

    metric: str | None = None
    mode: str | None = None
    search_alg: Any = None
    scheduler: Any = None
    verbose: int | None = None
    progress_reporter: Any = None
    fail_fast: Any = False
    resume: bool | str | None = None
    resume_config: ResumeConfig | None = None
    reuse_actors: bool = False
    raise_on_failed_trial: bool = True
    callbacks: Sequence[Callback] | None = None
    max_concurrent_trials: int | None = None


def run(  # noqa: D417 - alike ones are told in one line
    run_or_experiment: str | Callable[..., Any] | type | Experiment | Sequence[Experiment],
    name: str | None = None,
    metric: str | None = None,
    mode: str | None = None,
    stop: Any = None,
    time_budget_s: float | datetime.timedelta | None = None,
    config: dict[str, Any] | None = None,
    resources_per_trial: Any = None,
    num_samples: int = 1,
    storage_path: str | os.PathLike[str] | None = None,
    storage_filesystem: Any = None,
    search_alg: Searcher | str | None = None,
    scheduler: TrialScheduler | str | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    log_to_file: bool | str | tuple[str, str] = False,
    trial_name_creator: Callable[[Trial], str] | None = None,
    trial_dirname_creator: Callable[[Trial], str] | None = None,
    sync_config: Any = None,
    export_formats: Sequence[str] | None = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    restore: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Callback] | None = None,
    max_concurrent_trials: int | None = None,
    keep_checkpoints_num: int | None = None,
    checkpoint_score_attr: str | None = None,
    checkpoint_freq: int = 0,
    checkpoint_at_end: bool = False,
    chdir_to_trial_dir: Any = _DEPRECATED,
    local_dir: str | None = None,
) -> ExperimentAnalysis:
    """Runs an experiment to its end, as `Tuner(...).fit()` does.

    Args:
        run_or_experiment: The trainable (itself, or a name that it is registered under); or an `Experiment` or a list of them,
            run one after another, whose own arguments are then said in them and not here.
        name, storage_path, storage_filesystem, stop, verbose, log_to_file: As in `RunConfig`.
        callbacks, progress_reporter, sync_config, checkpoint_config: As in `RunConfig`.
        metric, mode, search_alg, scheduler, num_samples, time_budget_s: As in `TuneConfig`.
        max_concurrent_trials, reuse_actors, trial_name_creator, trial_dirname_creator: As in `TuneConfig`.
        max_failures, fail_fast: As in `FailureConfig`.
        config: The search space.
        resources_per_trial: As for `with_resources`.
        export_formats: Given to a class trainable's `export_model` when a trial ends well. A process killed between a trial's
            last row and its end exports nothing.
        restore: A checkpoint (or its directory) that each trial begins from: functions get it from `get_checkpoint()`, classes
            load it, counters go on from it.
        resume: True or "LOCAL": go on with the experiment of this name, which must be there. "AUTO": if it is there, else begin
            it. With "+ERRORED" failed trials go on as well, with "+RESTART_ERRORED" they begin anew; with "+ERRORED_ONLY" and
            "+RESTART_ERRORED_ONLY" all other unfinished ones are ended with what they have. All other arguments are as when it
            was submitted, or left out.
        resume_config: In the place of those suffixes; needs `resume`.
        raise_on_failed_trial: Whether to raise at the end where trials failed for good.
        keep_checkpoints_num, checkpoint_score_attr, checkpoint_freq, checkpoint_at_end: Deprecated: use `checkpoint_config`.
        chdir_to_trial_dir, local_dir: Deprecated; raises.

    Returns:
        ExperimentAnalysis: All trials.

    Raises:
        TrialsFailed: Trials failed for good; a `TuneError` that carries the analysis.
        ExperimentExists: The name belongs to an experiment, and `resume` was not given.
        ExperimentNotFound: There is nothing to resume.
        JobChanged: Another job than the one that is resumed.
        ConfigError: An argument that cannot be; nothing was written.
        ExperimentInterrupted, StorageError, Exception: As `Tuner.fit`. After each of these `resume=True` goes on.
    """
    given = dict(locals())
    shared = _Shared(**{field: given[field] for field in _Shared._fields})
    TuneConfig(chdir_to_trial_dir=chdir_to_trial_dir)  # refuses
    if isinstance(run_or_experiment, (Experiment, list, tuple)):
        _refuse_beside_experiments(given)
        return _run_all(experiments_in(run_or_experiment), shared)
    trainable: Any = run_or_experiment
    old = (keep_checkpoints_num, checkpoint_score_attr, checkpoint_freq, checkpoint_at_end)
    given["checkpoint_config"] = _checkpoints(checkpoint_config, *old)
    own = {field: given[field] for field in _OF_AN_EXPERIMENT}
    return _run_all([Experiment(run=trainable, **own)], shared)


def run_experiments(
    experiments: Experiment | Sequence[Experiment] | Mapping[str, Mapping[str, Any]],
    scheduler: TrialScheduler | str | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    concurrent: bool = True,
    callbacks: Sequence[Callback] | None = None,
) -> list[Trial]:
    """Runs experiments to their ends, one after another; `resume` and errors as in `run`.

    Args:
        experiments: An `Experiment`, a list of them, or a dictionary of name → {"run": trainable, ...}.
        scheduler: Each experiment gets a copy of its own.
        verbose: As in `RunConfig`.
        progress_reporter: As in `RunConfig`.
        resume: As in `run`.
        resume_config: As in `run`.
        reuse_actors: As in `TuneConfig`.
        raise_on_failed_trial: Whether to raise at the end where trials failed for good.
        concurrent: Without effect: the trials of one experiment take the whole machine.
        callbacks: As in `RunConfig`.

    Returns:
        The trials of all.
    """
    given = dict(locals())
    shared = _Shared(**{field: given[field] for field in _Shared._fields if field in given})
    return _run_all(experiments_in(experiments), shared).trials


_OF_AN_EXPERIMENT = tuple(name for name in Experiment.__init__.__annotations__ if name not in ("run", "return"))


def _run_all(experiments: list[Experiment], shared: _Shared) -> ExperimentAnalysis:
    alone = len(experiments) == 1
    handles = [_handle(one, shared if alone else _copied(shared)) for one in experiments]
    for handle in handles:
        handle.run()
    analysis = ExperimentAnalysis(
        [handle.storage.uri for handle in handles], default_metric=shared.metric, default_mode=shared.mode
    )
    failed = [trial.trial_id for trial in analysis.trials if trial.status == trial.ERROR]
    if failed and shared.raise_on_failed_trial:
        raise TrialsFailed(failed, analysis)
    return analysis


def _copied(shared: _Shared) -> _Shared:
    """The same with plug-ins of its own: one that has been through an experiment remembers it."""
    return shared._replace(search_alg=copy.deepcopy(shared.search_alg), scheduler=copy.deepcopy(shared.scheduler))


def _handle(experiment: Experiment, shared: _Shared) -> Handle:
    """The experiment on disk: a new one, or the one that is there."""
    from holdfast._assembly.handle import restored, submitted
    from holdfast._assembly.places import existing, parent_of
    from holdfast._assembly.submission import More

    trainable = _trainable(experiment)
    tune, run_config = _tune_config(experiment, shared), _run_config(experiment, shared)
    more = More(begin_from=_begin_from(experiment.restore), export_formats=_formats(experiment.export_formats, trainable))
    how, resume = _resuming(shared.resume, shared.resume_config)
    if how:
        if not experiment.name:
            raise ConfigError(f"resume={shared.resume!r} needs name=: the experiment to go on with is <storage_path>/<name>.")
        parent = parent_of(experiment.storage_path)
        path = existing(parent, experiment.name)
        if path or how == "LOCAL":
            path = path or inside(parent, experiment.name)  # which says that there is none
            handle = restored(path, trainable, experiment.config, None, resume, None, takeover=False)
            handle.given_again(tune, run_config, more)
            return handle
    if more.begin_from and not os.path.isdir(more.begin_from):
        raise ConfigError(f"restore={more.begin_from!r}: there is no such checkpoint; give the directory of one.")
    return submitted(trainable, experiment.config, tune, run_config, more)


def _trainable(experiment: Experiment) -> Any:
    """The trainable, or its registered name, with its resources where the experiment gives some."""
    given, asked = experiment.run, experiment.resources_per_trial
    if asked is None:
        return given
    from holdfast._assembly.requests import says_itself

    name = given if isinstance(given, str) else ""
    itself: Any = trainable_named(given) if isinstance(given, str) else given
    says = isinstance(itself, type) and issubclass(itself, Trainable) and says_itself(itself)
    if says or asked_for(itself) is not None:
        raise ConfigError(
            f"resources_per_trial={asked!r}: the trainable says itself what it needs (with_resources or "
            "default_resource_request). Leave one of the two out."
        )
    return asking(itself, asked if callable(asked) else request_for(asked), name)


def _tune_config(experiment: Experiment, shared: _Shared) -> TuneConfig:
    return TuneConfig(
        mode=shared.mode,
        metric=shared.metric,
        search_alg=shared.search_alg,
        scheduler=shared.scheduler,
        num_samples=experiment.num_samples,
        max_concurrent_trials=shared.max_concurrent_trials,
        time_budget_s=experiment.time_budget_s,
        reuse_actors=shared.reuse_actors,
        trial_name_creator=experiment.trial_name_creator,
        trial_dirname_creator=experiment.trial_dirname_creator,
    )


def _run_config(experiment: Experiment, shared: _Shared) -> RunConfig:
    return RunConfig(
        name=experiment.name,
        storage_path=experiment.storage_path,
        storage_filesystem=experiment.storage_filesystem,
        failure_config=FailureConfig(max_failures=experiment.max_failures, fail_fast=shared.fail_fast),
        checkpoint_config=experiment.checkpoint_config,
        sync_config=experiment.sync_config,
        verbose=shared.verbose,
        stop=experiment.stop,
        callbacks=shared.callbacks,
        progress_reporter=shared.progress_reporter,
        log_to_file=experiment.log_to_file,
        local_dir=experiment.local_dir,
    )


def _resuming(resume: bool | str | None, config: ResumeConfig | None) -> tuple[str, ResumeConfig]:
    """Whether to resume ("", "LOCAL" or "AUTO"), and what becomes of the trials."""
    if not resume:
        if config is not None:
            raise ConfigError("resume_config says how to resume; give resume=True or resume='AUTO' as well.")
        return "", ResumeConfig()
    text = "LOCAL" if resume is True else str(resume)
    how, *suffixes = (f"LOCAL+{text}" if text in _RESUMED else text).split("+")
    if how not in ("LOCAL", "AUTO") or len(suffixes) > 1 or any(suffix not in _RESUMED for suffix in suffixes):
        raise ConfigError(
            f"resume={resume!r}: True, 'LOCAL' or 'AUTO', alone or followed by one of "
            f"{', '.join('+' + name for name in _RESUMED)}."
        )
    if suffixes and config is not None:
        raise ConfigError(f"resume={resume!r} and resume_config both say what becomes of the trials; give one of them.")
    if not suffixes:
        return how, config or ResumeConfig()
    unfinished, errored = _RESUMED[suffixes[0]]
    return how, ResumeConfig(unfinished=unfinished, errored=errored)


def _begin_from(restore: str | os.PathLike[str] | Checkpoint | None) -> str:
    if restore is None:
        return ""
    return restore.path if isinstance(restore, Checkpoint) else whereabouts(restore)


def _formats(formats: Sequence[str] | None, trainable: Any) -> tuple[str, ...]:
    if not formats:
        return ()
    itself = trainable_named(trainable) if isinstance(trainable, str) else trainable
    if not isinstance(itself, type):
        raise ConfigError("export_formats are for class trainables, which have export_model(); a function exports by itself.")
    return (formats,) if isinstance(formats, str) else tuple(formats)


def _checkpoints(
    config: CheckpointConfig | None, keep: int | None, attribute: str | None, frequency: int, at_end: bool
) -> CheckpointConfig | None:
    """The checkpoint config, also where it is spelt in the old way ("min-loss": the least `loss` is best)."""
    if keep is None and attribute is None and not frequency and not at_end:
        return config
    if config is not None:
        raise ConfigError(
            "checkpoint_config and keep_checkpoints_num, checkpoint_score_attr, checkpoint_freq or checkpoint_at_end are given: "
            "say it all in checkpoint_config."
        )
    warnings.warn(
        "run(keep_checkpoints_num=, checkpoint_score_attr=, checkpoint_freq=, checkpoint_at_end=) are deprecated: use "
        "checkpoint_config=CheckpointConfig(...).",
        DeprecationWarning,
        stacklevel=3,
    )
    smallest = attribute is not None and attribute.startswith("min-")
    return CheckpointConfig(
        num_to_keep=keep,
        checkpoint_score_attribute=attribute[len("min-") :] if attribute and smallest else attribute,
        checkpoint_score_order="min" if smallest else "max",
        checkpoint_frequency=frequency,
        checkpoint_at_end=at_end or None,
    )


def _refuse_beside_experiments(given: Mapping[str, Any]) -> None:
    """Refuses what an `Experiment` says itself, and what is said of one in the old way."""
    import inspect

    usual = {name: it.default for name, it in inspect.signature(run).parameters.items()}
    own = (*_OF_AN_EXPERIMENT, "keep_checkpoints_num", "checkpoint_score_attr", "checkpoint_freq", "checkpoint_at_end")
    wrong = [name for name in own if given[name] != usual[name]]
    if wrong:
        raise ConfigError(f"run(experiment, {', '.join(wrong)}): say that in the Experiment itself.")


class _AlsoAFunction(ModuleType):
    """Lets `holdfast.run(...)` be called as well where somebody has imported this module by its name before."""

    def __call__(self, *args: Any, **kwargs: Any) -> ExperimentAnalysis:
        return run(*args, **kwargs)


sys.modules[__name__].__class__ = _AlsoAFunction
