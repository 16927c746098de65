"""What follows the journal behind the report's path: the trials' files, the logs of a population, and the terminal."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from holdfast import settings
from holdfast._assembly.submission import JobSpec
from holdfast._assembly.working import Working
from holdfast._core.admission import request_of, together
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointCommitted,
    EpochStarted,
    Event,
    ExperimentCreated,
    JobExtended,
    Record,
    ResultReported,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import PAUSING, RUNNING, STOPPING
from holdfast._journal import Journal, read
from holdfast._projection.history import History, load_history
from holdfast._runtime.loop import Follower
from holdfast._runtime.roll import Roll
from holdfast.console import Console, ProgressReporter, make_console
from holdfast.logger.csv import CSVLoggerCallback
from holdfast.logger.files import TrialFiles
from holdfast.logger.json import JsonLoggerCallback
from holdfast.logger.policy import PolicyFiles
from holdfast.logger.tensorboard import TBXLoggerCallback
from holdfast.schedulers.base import TrialScheduler
from holdfast.storage.base import Storage
from holdfast.storage.mirror import Mirror
from holdfast.storage.posix import PosixStorage

__all__ = ["FilesFollower", "ReporterFollower", "ScreenFollower", "files_of", "screen_of"]


class FilesFollower:
    """Keeps `TrialFiles` up with the journal.

    Args:
        files: What writes.
        storage: Where the history is read from, if replay began behind a snapshot.
        state: The fold that everybody shares.
        history: Told all that is replayed, and what is heard up to the first tick; None where replay begins behind a snapshot.
        policy: The logs of a population, where there is one.
        working: Where all that is written, and what puts it to a store where that is elsewhere.
        artifacts: Whether a checkpoint has the artifacts of its trial put there.
    """

    def __init__(
        self,
        files: TrialFiles,
        storage: Storage,
        state: ExperimentState,
        history: History | None,
        policy: PolicyFiles | None = None,
        working: Working | None = None,
        *,
        artifacts: bool = False,
    ) -> None:
        self._policy = policy
        self._working = working
        self._mirror = working.mirror if working else None
        self._artifacts = artifacts
        self._files = files
        self._storage = storage
        self._state = state
        self._history = history
        self._busy = False

    def replayed(self, record: Record) -> None:
        """Takes in a record of an older driver."""
        if self._history is not None:
            self._history.hear(record, self._state)
            if self._policy is not None:
                self._policy.hear(record, self._state)

    def hear(self, record: Record) -> None:
        if self._history is not None:
            self._history.hear(record, self._state)
        if isinstance(record.event, EpochStarted):
            self._catch_up(record)
        elif self._policy is not None:
            self._policy.hear(record, self._state)
        if isinstance(record.event, JobExtended) and self._history is not None:
            self._files.catch_up(self._history, self._state)  # trials that had ended go on: their files are opened again
        self._files.hear(record, self._state)
        if self._mirror is not None:
            self._tell_mirror(self._mirror, record.event)
        self._busy = True

    def tick(self, now: float) -> bool:
        self._history = None  # the driver has taken over, and nothing is caught up with any more
        self._files.flush(now)
        if self._policy is not None:
            self._policy.flush()
        if self._mirror is not None:
            self._mirror.check()
        waiting, self._busy = self._busy, False
        return waiting

    def settle(self) -> None:
        """Nobody writes the files of an experiment that is finished on record: all of them must be there before."""
        self._files.flush()
        if self._policy is not None:
            self._policy.flush()
        if self._mirror is not None:
            self._mirror.finish()

    def close(self) -> None:
        self._files.close()
        if self._policy is not None:
            self._policy.flush()
            self._policy.close()
        if self._working is not None:
            self._working.finish()

    def _tell_mirror(self, mirror: Mirror, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            mirror.look_at(self._state.trial(event.trial_id).dirname)
        elif isinstance(event, AttemptEnded):
            mirror.settle("logs")
            mirror.settle(self._state.trial(event.trial_id).dirname)
        elif self._artifacts and (
            isinstance(event, CheckpointCommitted) or (isinstance(event, ResultReported) and event.saved is not None)
        ):
            mirror.settle(self._state.trial(event.trial_id).dirname)

    def _catch_up(self, record: Record) -> None:
        if self._history is None:
            told, self._history = load_history(self._storage)
            if told.position < record.position:  # this record is not written yet
                self._history.hear(record, self._state)
            if self._policy is not None:
                _tell_all(self._policy, self._storage)
        elif self._policy is not None:
            self._policy.hear(record, self._state)
        if self._policy is not None:
            self._policy.catch_up()
        self._files.catch_up(self._history, self._state)
        if self._mirror is not None:
            self._mirror.start()


def _tell_all(policy: PolicyFiles, storage: Storage) -> None:
    """Has the logs hear the whole journal, with a fold of its own."""
    state = ExperimentState()
    for record in read(storage):
        state.fold(record)
        policy.hear(record, state)


class ScreenFollower:
    """Keeps the terminal up with the journal."""

    def __init__(self, console: Console, state: ExperimentState) -> None:
        self._console = console
        self._state = state

    def hear(self, record: Record) -> None:
        self._console.hear(record, self._state)

    def tick(self, now: float) -> bool:
        self._console.tick(now)
        return False

    def settle(self) -> None:
        """A screen shows the end when it has come."""

    def close(self) -> None:
        self._console.close()


class ReporterFollower:
    """Lets a user's own reporter show progress. What it raises ends the driver, as what a callback raises does.

    Args:
        reporter: The user's own.
        roll: All trials as the reporter sees them.
        state: The fold that everybody shares.
        about: What the scheduler says of itself.
        subject: Metric, mode and number of trials; None and -1 where there is none.
    """

    def __init__(
        self,
        reporter: ProgressReporter,
        roll: Roll,
        state: ExperimentState,
        about: Callable[[], str],
        subject: tuple[str | None, str | None, int],
    ) -> None:
        self._reporter = reporter
        self._roll = roll
        self._state = state
        self._about = about
        self._subject = subject
        self._begun = self._closed = False

    def hear(self, record: Record) -> None:
        if not self._begun:
            self._begun = True
            metric, mode, total = self._subject
            total_samples = total if total >= 0 else None
            self._reporter.setup(record.wall - record.time, total_samples, metric, mode)

    def tick(self, now: float) -> bool:
        self._report(done=False)
        return False

    def settle(self) -> None:
        """As a screen."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._report(done=True)

    def _report(self, *, done: bool) -> None:
        if self._begun and self._reporter.should_report(self._roll, done=done):
            self._reporter.report(self._roll, done, self._about(), self._resources())

    def _resources(self) -> str:
        """What running trials were given, of all there is."""
        state = self._state
        if state.epoch is None:
            return ""
        running = [trial for trial in state.trials.values() if trial.state in (RUNNING, STOPPING, PAUSING)]
        taken = together(request_of(trial, state.policy) for trial in running)
        return "resources in use: " + ", ".join(
            f"{taken.get(kind, 0):g}/{has:g} {kind}" for kind, has in state.epoch.resources.items()
        )


def files_of(
    journal: Journal,
    job: tuple[ExperimentCreated, JobSpec],
    state: ExperimentState,
    load: Callable[[str], Any],
    working: Working,
    *,
    from_start: bool,
) -> FilesFollower | None:
    """The follower that writes the trials' files; None where the experiment has no directory on this machine.

    Args:
        journal: The driver's.
        job: The birth record, and what was submitted. A file that one of the user's own logger callbacks writes is left to it.
        state: The fold that everybody shares.
        load: Brings back a stored object of a config.
        working: Where they are written.
        from_start: Whether replay begins at the first record.
    """
    (created, spec), storage, mirror = job, journal.storage, working.mirror
    if mirror is None and not isinstance(storage, PosixStorage):
        return None
    wanted = not settings.file_loggers_disabled()
    json, csv, tensorboard = (
        wanted and not any(isinstance(callback, kind) for callback in spec.run_config.callbacks)
        for kind in (JsonLoggerCallback, CSVLoggerCallback, TBXLoggerCallback)
    )
    in_charge = journal.in_charge if mirror is None else None  # a directory of this epoch alone is nobody else's
    files = TrialFiles(
        working.files,
        created.experiment_id,
        json=json,
        csv=csv,
        tensorboard=tensorboard and _tensorboard_wanted(quiet=not spec.run_config.verbose),
        load=load,
        in_charge=in_charge,
        wrote=None if mirror is None else _to_mirror(mirror),
    )
    logs = wanted and getattr(spec.tune_config.scheduler, "log_config", False)
    policy = PolicyFiles(working.files, in_charge) if logs else None
    sync = spec.run_config.sync_config
    artifacts = sync is not None and sync.sync_artifacts and sync.sync_artifacts_on_checkpoint
    history = History() if from_start else None
    return FilesFollower(files, storage, state, history, policy, working, artifacts=artifacts)


def _to_mirror(mirror: Mirror) -> Callable[[str, bool], None]:
    """Has the mirror put what `TrialFiles` wrote."""

    def wrote(dirname: str, final: bool) -> None:
        mirror.look_at(dirname, unsure=not mirror.started)
        if final:
            mirror.ended(dirname)

    return wrote


def _tensorboard_wanted(*, quiet: bool) -> bool:
    """Whether tensorboardX is installed: the sign that somebody looks at TensorBoard. Says once in a process if it is not."""
    installed = importlib.util.find_spec("tensorboardX") is not None
    if not installed and not quiet:
        _say_once(
            "holdfast: no files for TensorBoard are written: pip install 'holdfast[tensorboard]', "
            "or give RunConfig(callbacks=[TBXLoggerCallback()])."
        )
    return installed


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - who looks for the files in TensorBoard wants to know why there are none


def screen_of(spec: JobSpec, state: ExperimentState, total: int, roll: Roll, scheduler: TrialScheduler) -> Follower | None:
    """The follower that shows progress; None where nothing is to be shown.

    Args:
        spec: The job.
        state: The fold that everybody shares.
        total: How many trials there will be; -1 where nobody knows.
        roll: All trials, for a reporter of the user's own.
        scheduler: What it says of itself, such a reporter is told.
    """
    tune, run = spec.tune_config, spec.run_config
    if run.verbose == 0:
        return None
    if run.progress_reporter is not None:
        return ReporterFollower(run.progress_reporter, roll, state, scheduler.debug_string, (tune.metric, tune.mode, total))
    return ScreenFollower(make_console(run.verbose, metric=tune.metric, mode=tune.mode, total=total), state)
