"""A handle on one experiment on disk: run it, read its results. What `Tuner` is the face of."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast._assembly.driving import Choices, drive, engine_named
from holdfast._assembly.places import experiment_at
from holdfast._assembly.submission import JobSpec, Submitted, pickled, same_job, submit, trainable_name
from holdfast._core.events import EpochEnded, ExperimentCreated
from holdfast._core.experiment import ExperimentState
from holdfast._core.policy import Resume
from holdfast._core.trial import ERROR
from holdfast._journal import exists, last_of_ended
from holdfast._projection.failures import revived
from holdfast._projection.history import birth_of, load_state
from holdfast.config import ResumeConfig, RunConfig, TuneConfig
from holdfast.errors import ExperimentBusy, ExperimentExists, ExperimentInterrupted, InternalError, JobChanged, NotFitted
from holdfast.result import ResultGrid
from holdfast.storage.definitions import Definitions
from holdfast.storage.kind import check_local
from holdfast.storage.local import LocalStorage

if TYPE_CHECKING:
    from holdfast.engines.base import Engine

__all__ = ["Handle", "restored", "submitted"]

Trainable = Callable[..., Any]


class Handle:
    """One experiment on disk, and what this process may do with it.

    Args:
        submission: The experiment.
        trainable: The pickled trainable to run.
        resume: What happens to trials that are found.
        engine: A name, an engine, or None for what the environment says.
        takeover: Whether to take the experiment from a driver that seems to live.
        fresh: Whether it was made for a new experiment, so that there are no results before `run`.
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
    ) -> None:
        self.submission = submission
        self.storage = LocalStorage(submission.path)
        self._trainable = trainable
        self._resume = resume
        self._engine = engine
        self._takeover = takeover
        self._fresh = fresh
        self._spec = submission.spec
        self._callbacks = submission.spec.run_config.callbacks if submission.spec else None

    def run(self) -> ResultGrid:
        """Runs the experiment to its end; errors as in `Tuner.fit`."""
        created = self.submission.created
        if self.submission.taken:
            raise ExperimentExists(
                f"There is an experiment at {self.storage.root} already, and nothing is mixed into it. Go on with it: "
                f"Tuner.restore({self.storage.root!r}, trainable).fit(); or give this one another name; or delete that directory."
            )
        if birth_of(self.storage).experiment_id != created.experiment_id:
            raise ExperimentExists(
                f"Another Tuner was made for {self.storage.root} after this one, and its job took the place of this one's there. "
                "Run that one, or give each its own name."
            )
        check_local(self.storage.root)
        spec = self._take_spec(created)
        self._fresh = False
        if self._is_finished():
            return self._grid(spec)
        definitions = Definitions(self.storage)
        sha = definitions.store(self._trainable)
        choices = Choices(self._resume, self._trainable, {"trainable": sha}, engine_named(self._engine), self._takeover)
        try:
            outcome = drive(self.storage, created, spec, choices)
        except ExperimentBusy:
            raise  # nothing ended: another driver is at work
        except Exception as error:
            self._tell(spec, f"{type(error).__name__} ended the experiment")
            raise
        self._resume = Resume()  # asked for once; another fit() of this Tuner goes on plainly
        grid = self._grid(spec, outcome.state)
        if outcome.reason == "interrupted":
            self._tell(spec, f"signal {outcome.signal} ended the experiment")
            raise ExperimentInterrupted(self.storage.root, outcome.signal, grid)
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

    def replace_space(self, param_space: Any) -> None:
        """Puts the objects of a re-given space in the places of the stored ones; errors as in `same_job`."""
        created = self.submission.created
        self._spec = same_job(param_space, self._stored_spec(created), created)

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
        spec = Definitions(self.storage).fresh(created.definitions["job"])
        if not isinstance(spec, JobSpec):
            raise InternalError(f"the definition of the job at {self.storage.root} is no job")
        return spec

    def _is_finished(self) -> bool:
        """Whether nothing is left to run: the last driver said so, and no finished trial is to be taken up again.

        A driver that crashed behind the last row has not said so: it owes files, dropped checkpoints, the end on record.
        """
        last = last_of_ended(self.storage)
        if last is None or not isinstance(last.event, EpochEnded) or last.event.reason != "finished":
            return False
        resume = self._resume
        if resume.finished == "skip" and resume.errored == "skip":
            return True
        trials = load_state(self.storage).trials.values()
        return all((resume.errored if trial.state == ERROR else resume.finished) == "skip" for trial in trials)

    def _grid(self, spec: JobSpec, state: ExperimentState | None = None) -> ResultGrid:
        return ResultGrid(self.storage, spec.tune_config.metric, spec.tune_config.mode, state=state)

    def _first_error(self) -> Exception:
        for trial in load_state(self.storage).trials.values():
            if trial.state == ERROR and trial.failure is not None:
                return revived(trial.failure)
        raise InternalError("fail_fast ended the experiment and no trial is on record as failed")

    def _tell(self, spec: JobSpec, what: str) -> None:
        if spec.run_config.verbose:
            name = self.submission.created.trainable_name
            print(  # noqa: T201 - a stopped experiment says how it goes on
                f"holdfast: {what}. Go on with:\n  Tuner.restore({self.storage.root!r}, trainable={name}).fit()", file=sys.stderr
            )


def submitted(trainable: Trainable, param_space: Any, tune_config: TuneConfig, run_config: RunConfig) -> Handle:
    """A handle on a new experiment, on disk from now on; errors as in `submit`."""
    submission = submit(trainable, param_space, tune_config, run_config)
    return Handle(submission, pickled("the trainable", trainable), Resume(), run_config.engine)


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
    name = trainable_name(trainable)
    if name != created.trainable_name:
        raise JobChanged(
            f"The experiment at {storage.root} was submitted with the trainable {created.trainable_name!r}; this is {name!r}. "
            "Restore with the same one; if it was renamed, give it the attribute _name with the old name."
        )
    submission = Submitted(storage.root, created, None)
    handle = Handle(
        submission,
        pickled("the trainable", trainable),
        Resume(finished=resume.finished.value, unfinished=resume.unfinished.value, errored=resume.errored.value),
        engine,
        takeover=takeover,
        fresh=False,
    )
    if param_space is not None:
        handle.replace_space(param_space)
    return handle
