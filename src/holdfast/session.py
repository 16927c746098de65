"""What a running trial says and asks: `report`, `get_checkpoint`, `get_context`.

This module knows that a process may have one session at a time, and who may use it (any thread of the trial, not its
child processes). It does not know how a report travels: `Session` is the port that whoever runs the trial fills in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from holdfast import settings
from holdfast.errors import ReportRefused

if TYPE_CHECKING:
    from holdfast._core.policy import Placement
    from holdfast.checkpoint import Checkpoint
    from holdfast.resources import PlacementGroupFactory

__all__ = ["Session", "StopTrial", "TuneContext", "current", "enter", "get_checkpoint", "get_context", "leave", "report"]


class StopTrial(BaseException):
    """Raised by `report` in a trial that has been told to stop or pause.

    It is no `Exception`, so that `except Exception` lets it pass and `finally` blocks run. Let it go through; a trial
    that catches it gets it again at its next report.
    """


class TuneContext:
    """Where a trial runs; `get_context()` returns one."""

    def __init__(
        self,
        *,
        experiment_name: str,
        trial_name: str,
        trial_id: str,
        trial_dir: str,
        trial_resources: Mapping[str, float],
        storage: str,
        placement: Placement | None = None,
    ) -> None:
        self._experiment_name = experiment_name
        self._trial_name = trial_name
        self._trial_id = trial_id
        self._trial_dir = trial_dir
        self._trial_resources = dict(trial_resources)
        self._placement = placement
        self._storage = storage

    def get_experiment_name(self) -> str:
        """The experiment's name, which is also its directory's."""
        return self._experiment_name

    def get_trial_name(self) -> str:
        """The trial's display name."""
        return self._trial_name

    def get_trial_id(self) -> str:
        """The trial's id, the same over all its attempts."""
        return self._trial_id

    def get_trial_dir(self) -> str:
        """The absolute path of the trial's directory, the same over all its attempts."""
        return self._trial_dir

    def get_trial_resources(self) -> PlacementGroupFactory:
        """What the trial was given; `.required_resources` is a dictionary such as `{"CPU": 1.0}`."""
        from holdfast.resources import PlacementGroupFactory

        return PlacementGroupFactory.of(self._trial_resources, self._placement)

    def get_storage(self) -> str:
        """The absolute path of the experiment's directory."""
        return self._storage

    def preemption_notice(self) -> bool:
        """Whether this machine is about to be taken away, as far as somebody has said so: a trial then does well to save.

        It is said by a file, at the path that `HOLDFAST_PREEMPTION_FILE` names on that machine. Nothing else follows from it: the
        trial goes on until it ends. Each call looks; without the variable it is always False.
        """
        path = settings.preemption_file()
        return bool(path) and os.path.exists(path)

    def get_metadata(self) -> dict[str, Any]:
        """Always empty: a trial has no metadata of its own."""
        return {}

    def get_world_size(self) -> int:
        """Always 1: a trial is one worker."""
        return 1

    def get_local_world_size(self) -> int:
        """Always 1."""
        return 1

    def get_world_rank(self) -> int:
        """Always 0."""
        return 0

    def get_local_rank(self) -> int:
        """Always 0."""
        return 0

    def get_node_rank(self) -> int:
        """Always 0."""
        return 0


class Session(Protocol):
    """The port: what runs a trial's code answers these."""

    context: TuneContext

    @property
    def attempt(self) -> int:
        """Which attempt to run the trial this is, from 1."""

    @property
    def iteration(self) -> int:
        """The `training_iteration` of the newest row, of the one resumed from where there is none yet."""

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        """Brings a row, with its checkpoint, to the driver; returns when the decision is to go on, else raises `StopTrial`."""

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint of the trial, or None."""


class _Place:
    """The one session of this process, and the process that it belongs to."""

    session: Session | None = None
    pid: int = 0
    warned: bool = False


def enter(session: Session) -> None:
    """Makes `session` the one that this process's trial talks to, until `leave`."""
    _Place.session = session
    _Place.pid = os.getpid()


def current() -> Session | None:
    """The session of this process, for what stands between a trial's code and what runs it; None outside a trial."""
    return _Place.session if _Place.pid == os.getpid() else None


def leave() -> None:
    """Ends the session of this process."""
    _Place.session = None


def _current(name: str) -> Session | None:
    """The session of this process; None (and one warning) outside a trial.

    Raises:
        ReportRefused: In a child process of a trial, forked or started anew.
    """
    session = _Place.session
    if session is not None and _Place.pid == os.getpid():
        return session
    if session is not None or settings.token():
        raise ReportRefused(
            f"holdfast.{name}() was called in a child process of a trial. Only the trial's own process (any of its "
            "threads) may call it: send the values there first, through a queue or the return value."
        )
    if not _Place.warned:
        _Place.warned = True
        import warnings

        warnings.warn(
            f"holdfast.{name}() was called outside a trial: it does nothing here and returns None. "
            "Call it in a function that is run by Tuner.fit().",
            stacklevel=3,
        )
    return None


def report(metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> None:
    """Reports a row of metrics, optionally with a checkpoint, and waits for the decision on it.

    Args:
        metrics: The row. NumPy and torch scalars become Python's, other picklable values are kept, and
            `{"done": True}` ends the trial.
        checkpoint: A directory to keep (`Checkpoint.from_directory`); it is copied before this returns and may be
            changed or deleted after.

    Raises:
        ReportRefused: The row is no dictionary, cannot be pickled or is larger than 16 MiB; or this is a child process of the
            trial. Nothing was recorded, and the trial may go on.
        StopTrial: The trial is to stop or pause. It is no `Exception`: let it pass.

    When it returns, row and checkpoint survive the death of any process. Outside a trial it warns once and does nothing.
    """
    session = _current("report")
    if session is not None:
        session.report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """The newest checkpoint that this trial reported, also before a crash, pause or restore; None if there is none.

    Raises:
        ReportRefused: In a child process of a trial. Outside a trial it warns once and returns None.
    """
    session = _current("get_checkpoint")
    return None if session is None else session.checkpoint()


def get_context() -> TuneContext | None:
    """Where the trial runs: its id, name, directory and resources.

    Raises:
        ReportRefused: In a child process of a trial. Outside a trial it warns once and returns None.
    """
    session = _current("get_context")
    return None if session is None else session.context
