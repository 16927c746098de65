"""A handle on one experiment on disk: run it, read its results. What `Tuner` is the face of."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast._assembly.again import given_again
from holdfast._assembly.driving import Choices, drive
from holdfast._assembly.engines import engine_named
from holdfast._assembly.extending import Asked, Wish, asked_for
from holdfast._assembly.places import existing, experiment_at, parent_of
from holdfast._assembly.plugging import callbacks_of_environment
from holdfast._assembly.requests import warn_of_another
from holdfast._assembly.same import same_job
from holdfast._assembly.submission import JobSpec, More, Submitted, pickled, plain_name, submit, trainable_name
from holdfast._assembly.tracking import DUE
from holdfast._core.events import EpochEnded, ExperimentCreated
from holdfast._core.experiment import ExperimentState
from holdfast._core.policy import Resume
from holdfast._core.trial import ERROR
from holdfast._journal import exists, last_of_ended
from holdfast._projection.failures import revived
from holdfast._projection.history import birth_of, load_state
from holdfast._runtime.signals import exit_code
from holdfast.callback import Callback
from holdfast.config import ResumeConfig, RunConfig, TuneConfig
from holdfast.errors import (
    ConfigError,
    ExperimentBusy,
    ExperimentExists,
    ExperimentInterrupted,
    InternalError,
    JobChanged,
    NotFitted,
)
from holdfast.objects import references_in, supplying
from holdfast.registry import names_of, trainable_named
from holdfast.result import ResultGrid
from holdfast.storage.definitions import Definitions
from holdfast.storage.opening import open_storage
from holdfast.values import Reference

if TYPE_CHECKING:
    from holdfast.engines.base import Engine

__all__ = ["Handle", "restored", "submitted"]

Trainable = Callable[..., Any] | str


class Handle:
    """One experiment on disk, and what this process may do with it.

    Args:
        submission: The experiment.
        trainable: The pickled trainable to run.
        resume: What happens to trials that are found.
        engine: A name, an engine, or None for what the environment says.
        takeover: Whether to take the experiment from a driver that seems to live.
        fresh: Whether it was made for a new experiment, so that there are no results before `run`.
        holds: The trainable itself: what `put` keeps for it lives as long as the handle.
    """

    def __init__(
        self,
        submission: Submitted,
        trainable: bytes,
        resume: Resume,
        engine: str | Engine | None,
        *,
        takeover: bool = False,
        fresh: bool = True,
        holds: Any = None,
    ) -> None:
        self.submission = submission
        self.storage = open_storage(submission.path)
        self._trainable = trainable
        self._resume = resume
        self._engine = engine
        self._takeover = takeover
        self._fresh = fresh
        self._holds = holds
        self._more: Asked | None = None
        self._spec = submission.spec
        self._references = references_in(submission.spec.param_space) if submission.spec else {}
        self._callbacks = submission.spec.run_config.callbacks if submission.spec else None

    def run(self) -> ResultGrid:
        """Runs the experiment to its end; errors as in `Tuner.fit`."""
        created = self.submission.created
        if self.submission.taken:
            raise ExperimentExists(
                f"There is an experiment at {self.storage.root} already, and nothing is mixed into it. Go on with it: "
                f"Tuner.restore({self.storage.uri!r}, trainable).fit(), or RunConfig(if_exists='resume'), or "
                "run(..., resume=True); or give this one another name, or RunConfig(if_exists='new'); or remove what is there: "
                f"holdfast rm {self.storage.uri}"
            )
        if birth_of(self.storage).experiment_id != created.experiment_id:
            raise ExperimentExists(
                f"Another Tuner was made for {self.storage.root} after this one, and its job took the place of this one's there. "
                "Run that one, or give each its own name."
            )
        spec = self._take_spec(created)
        self._fresh = False
        if self._is_finished():
            return self._grid(spec)
        self._refuse_lost(spec)
        spec = _heard_by(spec, callbacks_of_environment())
        definitions = Definitions(self.storage, created.definitions.values())
        sha = definitions.store(self._trainable)
        if self._more is not None:
            definitions.store(self._more.job)
        extension = None if self._more is None else self._more.extension
        engine = engine_named(self._engine)
        choices = Choices(self._resume, self._trainable, {"trainable": sha}, engine, self._takeover, extension=extension)
        try:
            patient = open_storage(self.storage.uri, patience_s=spec.run_config.storage_timeout_s)
            outcome = drive(patient, created, spec, choices)
        except ExperimentBusy:
            raise  # nothing ended: another driver is at work
        except BaseException as error:  # also Ctrl+C where it is left to Python, and sys.exit() in a callback
            self._tell(spec, f"{type(error).__name__} ended the experiment")
            raise
        self._resume, self._more = Resume(), None  # asked for once; another fit() of this Tuner goes on plainly
        grid = self._grid(spec, outcome.state)
        if outcome.reason == "interrupted":
            self._tell(spec, f"signal {outcome.signal} ended the experiment")
            code = exit_code(outcome.signal, requeue=spec.run_config.exit_on_preemption)
            raise ExperimentInterrupted(self.storage.uri, outcome.signal, grid, code)
        if outcome.reason == "failures":
            self._tell(spec, "so many attempts failed that stop_after_failures ended the experiment")
        if outcome.reason == "fail_fast":
            self._tell(spec, "a trial failed and fail_fast ended the experiment")
            if spec.run_config.failure_config.fail_fast == "raise":
                raise self._first_error()
        return grid

    def results(self) -> ResultGrid:
        """The results on record; errors as in `Tuner.get_results`."""
        if self._fresh or not exists(self.storage):
            raise NotFitted(
                "There are no results yet: call fit() first, or Tuner.restore(path, trainable) for an experiment on disk."
            )
        return self._grid(self._stored_spec(self.submission.created))

    def take_space(self, param_space: Any) -> None:
        """Puts the objects of a re-given space in the places of the stored ones; errors as in `same_job`.

        Raises:
            ConfigError: None is given, and the space has references, which nothing else can bring back.
        """
        created = self.submission.created
        spec = self._stored_spec(created)
        if param_space is not None:
            spec = same_job(param_space, spec, created)
            self._references = references_in(spec.param_space)
        elif _lost(spec) and not self._is_finished():  # asked last: it reads the journal's end
            self._refuse_lost(spec)
        self._spec = spec

    def extend(self, wish: Wish) -> None:
        """Asks for more in the next `run`; errors as in `asked_for`."""
        with supplying(self._references):
            self._more = asked_for(self.storage, self.submission.created, wish)

    def _refuse_lost(self, spec: JobSpec) -> None:
        lost = _lost(spec)
        if lost:
            raise ConfigError(
                f"param_space of the experiment at {self.storage.root} has references at {lost}, and what they led to was in the "
                "memory of a driver. Put those objects again and give the same space with the new references: "
                f"Tuner.restore({self.storage.uri!r}, trainable, param_space=...)."
            )

    def given_again(self, tune_config: TuneConfig, run_config: RunConfig, more: More) -> None:
        """Takes this run's callbacks and verbosity; `JobChanged` where something else differs from what was submitted."""
        spec = self._spec or self._stored_spec(self.submission.created)
        self._spec = given_again(spec, tune_config, run_config, more)
        self._callbacks = self._spec.run_config.callbacks

    def _take_spec(self, created: ExperimentCreated) -> JobSpec:
        """The user's own objects the first time; later, and in another process, fresh ones from the disk.

        A plug-in that has been through a run remembers it, and the replay would tell it everything twice. Callbacks
        are not replayed: the user's own instances stay.
        """
        spec, self._spec = self._spec, None
        if spec is None:
            spec = self._stored_spec(created)
            if self._callbacks is not None:
                spec.run_config.callbacks = self._callbacks
        return spec

    def _stored_spec(self, created: ExperimentCreated) -> JobSpec:
        with supplying(self._references):
            spec = Definitions(self.storage).fresh(created.definitions["job"])
        if not isinstance(spec, JobSpec):
            raise InternalError(f"the definition of the job at {self.storage.root} is no job")
        return spec

    def _is_finished(self) -> bool:
        """Whether nothing is left to run: the last driver said so, nobody asks for more or for finished trials to go on.

        A driver that crashed behind the last row has not said so: it owes files, dropped checkpoints, the end on record. One that
        ended with trackers behind owes them the rest.
        """
        last = None if self._more is not None else last_of_ended(self.storage)
        if last is None or not isinstance(last.event, EpochEnded) or last.event.reason != "finished":
            return False
        if self.storage.exists(DUE):
            return False
        resume = self._resume
        if resume.finished == "skip" and resume.errored == "skip":
            return True
        trials = load_state(self.storage).trials.values()
        return all((resume.errored if trial.state == ERROR else resume.finished) == "skip" for trial in trials)

    def _grid(self, spec: JobSpec, state: ExperimentState | None = None) -> ResultGrid:
        tune = spec.tune_config
        return ResultGrid(self.storage, tune.metric, tune.mode, state=state, references=self._references)

    def _first_error(self) -> Exception:
        for trial in load_state(self.storage).trials.values():
            if trial.state == ERROR and trial.failure is not None:
                return revived(trial.failure)
        raise InternalError("fail_fast ended the experiment and no trial is on record as failed")

    def _tell(self, spec: JobSpec, what: str) -> None:
        if spec.run_config.verbose:
            name = self.submission.created.trainable_name
            print(  # noqa: T201 - a stopped experiment says how it goes on
                f"holdfast: {what}. Go on with:\n  Tuner.restore({self.storage.uri!r}, trainable={name}).fit()", file=sys.stderr
            )


def _lost(spec: JobSpec) -> list[str]:
    """The places of references in the space that lead nowhere."""
    return [place for place, it in references_in(spec.param_space).items() if type(it) is Reference]


def submitted(
    trainable: Trainable, param_space: Any, tune_config: TuneConfig, run_config: RunConfig, more: More | None = None
) -> Handle:
    """A handle on a new experiment, on disk from now on; with `if_exists="resume"` on the one that is there.

    The trainable may be a registered name. Errors as in `submit`, or as in `restored`.

    Raises:
        JobChanged: The experiment that is to go on is another job.
    """
    name = trainable if isinstance(trainable, str) else ""
    itself: Any = trainable_named(name) if name else trainable
    more = more or More()
    there = _to_resume(run_config)
    if there:
        handle = restored(there, trainable, param_space, None, ResumeConfig(), run_config.engine, takeover=False)
        handle.given_again(tune_config, run_config, more)
        return handle
    submission = submit(itself, param_space, tune_config, run_config, more._replace(name=name or more.name))
    return Handle(submission, pickled("the trainable", itself), Resume(), run_config.engine, holds=itself)


def _to_resume(run_config: Any) -> str:
    """Where the experiment is that a new one of its name is to go on with; empty where there is none."""
    if not isinstance(run_config, RunConfig) or run_config.if_exists != "resume" or not run_config.name:
        return ""
    return existing(parent_of(run_config.storage_path), run_config.name)


def restored(
    path: str | os.PathLike[str],
    trainable: Trainable,
    param_space: Any,
    storage_filesystem: Any,
    resume: ResumeConfig,
    engine: str | Engine | None,
    *,
    takeover: bool,
) -> Handle:
    """A handle on an experiment that is there already; errors as in `Tuner.restore`."""
    storage = experiment_at(path, storage_filesystem)
    created = birth_of(storage)
    given = trainable
    if isinstance(given, str):
        trainable = trainable_named(given)
    own, known = trainable_name(trainable), [plain_name(name) for name in names_of(trainable)]
    if created.trainable_name not in (own, *known):
        raise JobChanged(
            f"The experiment at {storage.root} was submitted with the trainable {created.trainable_name!r}; this is "
            f"{(given if isinstance(given, str) else own)!r}. Restore with the same one; if it was renamed, give it the "
            "attribute _name with the old name, and if that is a registered name, call register_trainable first."
        )
    if isinstance(trainable, type) != created.policy.cleans_up:
        kinds = ("a class", "a function") if created.policy.cleans_up else ("a function", "a class")
        raise JobChanged(
            f"The experiment at {storage.root} was submitted with {kinds[0]} as trainable; {own!r} is {kinds[1]} now. Restore "
            "with the same kind: what one saved the other cannot load."
        )
    warn_of_another(trainable, created.policy)
    submission = Submitted(storage.uri, created, None)
    handle = Handle(
        submission,
        pickled("the trainable", trainable),
        Resume(finished=resume.finished.value, unfinished=resume.unfinished.value, errored=resume.errored.value),
        engine,
        takeover=takeover,
        fresh=False,
        holds=trainable,
    )
    handle.take_space(param_space)
    return handle


def _heard_by(spec: JobSpec, more: list[Callback]) -> JobSpec:
    """The job with further callbacks, which belong to this run alone: the user's own `RunConfig` stays as it is."""
    if not more:
        return spec
    run = copy.copy(spec.run_config)
    run.callbacks = [*run.callbacks, *more]
    return spec._replace(run_config=run)
