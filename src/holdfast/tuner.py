"""The face: `Tuner` submits a job, runs it, and brings it back after whatever happened."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.config import ResumeConfig, RunConfig, TuneConfig
from holdfast.errors import ConfigError, ExperimentNotFound, NotOnInstance

if TYPE_CHECKING:
    from holdfast._assembly.handle import Handle
    from holdfast.engines.base import Engine
    from holdfast.result import ResultGrid

__all__ = ["Tuner"]

Trainable = Callable[..., Any] | str


def _restore(
    path: str | os.PathLike[str],
    trainable: Trainable,
    resume_unfinished: bool = True,
    resume_errored: bool = False,
    restart_errored: bool = False,
    param_space: dict[str, Any] | None = None,
    storage_filesystem: Any = None,
    *,
    resume_config: ResumeConfig | None = None,
    engine: str | Engine | None = None,
    takeover: bool = False,
) -> Tuner:
    """Brings an experiment back. Only reads; the experiment is claimed in `fit()`, which then goes on with it.

    Args:
        path: The experiment's directory: `<storage_path>/<name>`.
        trainable: The trainable, of the same name, or a name that it is registered under; changed code is accepted and put
            on record. What trials are given stays as submitted.
        resume_unfinished: Go on with trials that were pending, running or paused, from their newest checkpoints;
            False ends them with what they have.
        resume_errored: Go on with failed trials from their newest checkpoints, with a fresh budget of failures.
        restart_errored: Begin failed trials anew, in a new directory.
        param_space: The space as submitted, to replace objects in it; not needed otherwise.
        storage_filesystem: As in `RunConfig`; the path then has no scheme.
        resume_config: All three choices at once, finished trials included; takes the place of the three flags.
        engine: The engine to run on; by default the one that the environment names.
        takeover: Take the experiment even if its driver seems to live; what that one does from then on is void.

    Raises:
        ExperimentNotFound: The path holds no experiment.
        ConfigError: Arguments that exclude each other.
        JobChanged: Another trainable's name, or another space.
        JournalError: The journal is damaged where it was durable.
    """
    from holdfast._assembly.handle import restored

    if resume_errored and restart_errored:
        raise ConfigError("Tuner.restore: resume_errored and restart_errored exclude each other; give one of them.")
    kind = ResumeConfig.ResumeType
    chosen = resume_config or ResumeConfig(
        unfinished=kind.RESUME if resume_unfinished else kind.SKIP,
        errored=kind.RESUME if resume_errored else kind.RESTART if restart_errored else kind.SKIP,
    )
    handle = restored(path, trainable, param_space, storage_filesystem, chosen, engine, takeover=takeover)
    return Tuner(_handle=handle)


def _extend(
    path: str | os.PathLike[str],
    trainable: Trainable,
    *,
    num_samples: int = 0,
    stop: Any = None,
    time_budget_s: float | datetime.timedelta | None = None,
    param_space: dict[str, Any] | None = None,
    new_space: dict[str, Any] | None = None,
    from_scratch_ok: bool = False,
    storage_filesystem: Any = None,
    engine: str | Engine | None = None,
    takeover: bool = False,
) -> Tuner:
    """Asks more of an experiment, finished or not, than was submitted. Only reads; `fit()` puts it on record and goes on.

    From that record on it is the job: after a crash at any later moment `Tuner.restore(path, trainable)` completes it as
    extended. Asked for twice it is given twice, so a script that may be run again calls `restore` once this is done.

    Trials that the old stop rule or budget of time had ended go on from their newest checkpoints, unless their newest row has
    reached the new bounds already. Those that ended by themselves (the function returned, `report(done=True)`), by the
    scheduler's decision (ASHA's `max_t` too), by `holdfast stop PATH TRIAL` or with an error (`restore` those first) stay
    as they are. The searcher and scheduler are the same, with all that they know; what they heard of a trial's end stands.

    Args:
        path: The experiment's directory: `<storage_path>/<name>`.
        trainable: As for `restore`.
        num_samples: How many samples more; where the space has grids each is tried over all of them.
        stop: The stop rule that takes the place of the old one, as in `RunConfig`. A Stopper or function begins without a
            memory of the rows so far.
        time_budget_s: The whole time that drivers may take, what is spent included.
        param_space: The space as submitted, to replace objects in it; not needed otherwise.
        new_space: The space that the new samples are drawn from: the same keys, other domains and values. OptunaSearch takes
            other bounds; searchers whose model cannot follow refuse.
        from_scratch_ok: Whether trials that are to go on and have no checkpoint may begin from scratch, their rows redone.
        storage_filesystem: As in `RunConfig`; the path then has no scheme.
        engine: As for `restore`.
        takeover: As for `restore`.

    Raises:
        ConfigError: It asks for nothing, for less, or for what the searcher cannot do; or no trial would go on and none come.
        NothingToGoOnFrom: Trials are to go on that have no checkpoint (left); names them.
        ExperimentNotFound, JobChanged, JournalError: As for `restore`.
    """
    from holdfast._assembly.extending import Wish
    from holdfast._assembly.handle import restored

    handle = restored(path, trainable, param_space, storage_filesystem, ResumeConfig(), engine, takeover=takeover)
    handle.extend(Wish(num_samples, stop, time_budget_s, new_space, from_scratch_ok))
    return Tuner(_handle=handle)


class _OfTheClass:
    """A way to an experiment on disk: of the class and never of an instance, which has a job already."""

    def __init__(self, name: str, function: Callable[..., Tuner]) -> None:
        self._name = name
        self._function = function

    def __get__(self, instance: Tuner | None, owner: type[Tuner]) -> Callable[..., Tuner]:
        if instance is not None:
            raise NotOnInstance(f"{self._name} is called on the class: Tuner.{self._name}(path, trainable).")
        return self._function


class Tuner:
    """An experiment: a trainable, a space of configurations, and how to search it.

    As soon as a Tuner is made its job is on disk: a driver killed at any moment after that can be restored.

    Args:
        trainable: A function of the config that calls `holdfast.report`, a subclass of `holdfast.Trainable`, or a name that
            one is registered under (`register_trainable`).
        param_space: The search space: a dictionary, nested at will, of values, domains and grids.
        tune_config: How the search goes.
        run_config: Where and how the experiment runs.

    Raises:
        ConfigError: An argument that cannot be (`SearchSpaceError` for the space); nothing was written.
        NotSerializable: A part that cannot be pickled, by name; nothing was written.
        ExperimentExists: The directory holds foreign files; nothing was written.
        JobChanged: `RunConfig(if_exists="resume")`, and the experiment of that name is another job; nothing was written.
        StorageError: The directory cannot be written to.
    """

    def __init__(
        self,
        trainable: Trainable | None = None,
        param_space: dict[str, Any] | None = None,
        tune_config: TuneConfig | None = None,
        run_config: RunConfig | None = None,
        *,
        _handle: Handle | None = None,
    ) -> None:
        if _handle is None:
            from holdfast._assembly.handle import submitted

            if trainable is None:
                raise ConfigError("Tuner needs a trainable: a function of the config that calls holdfast.report.")
            _handle = submitted(trainable, param_space, tune_config or TuneConfig(), run_config or RunConfig())
        self._handle = _handle

    restore = _OfTheClass("restore", _restore)
    extend = _OfTheClass("extend", _extend)

    def fit(self) -> ResultGrid:
        """Runs the experiment to its end; on a finished one it runs nothing and returns the same results.

        Returns:
            ResultGrid: All trials, failed ones too: a failed trial raises nothing here.

        Raises:
            ExperimentInterrupted: Ctrl+C, SIGTERM or SIGUSR1; carries the results so far.
            ExperimentExists: The name belongs to an experiment that was there before.
            ExperimentBusy: Another driver is at work on the experiment.
            Fenced: Another driver took the experiment over meanwhile.
            StorageError: The disk refuses.
            JournalError: The journal is damaged where it was durable.
            Exception: What a plug-in or callback raised; with `fail_fast="raise"` also a trial's own exception.
                After each of these the experiment can be restored.
        """
        return self._handle.run()

    def get_results(self) -> ResultGrid:
        """The results on record. Only reads, also beside a live driver.

        Raises:
            NotFitted: This Tuner was made for a new experiment and `fit` was not called yet.
        """
        return self._handle.results()

    @classmethod
    def can_restore(cls, path: str | os.PathLike[str], storage_filesystem: Any = None) -> bool:
        """Whether `path` is the directory of an experiment. Only reads."""
        from holdfast._assembly.places import experiment_at

        try:
            experiment_at(path, storage_filesystem)
        except ExperimentNotFound:
            return False
        return True
