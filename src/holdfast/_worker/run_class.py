"""How a class trainable is run: set up, gone on with, one step after another, saved when it is time, cleaned up.

This module knows one attempt, and the instance that a process may keep for the next one. It does not know how a row reaches
the driver, or why the driver answers as it does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from holdfast import faults, session
from holdfast._core.events import AttemptEnded
from holdfast._worker.attempt import Attempt, AttemptSession, failure_of
from holdfast._worker.protocol import DriverGone
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, ReportRefused
from holdfast.trainable import base as life
from holdfast.trainable import can_save

__all__ = ["Desk", "Loads", "Rules", "run_class"]

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Loads(NamedTuple):
    """What is made in the worker and nowhere before, because making it runs the user's code."""

    trainable: Callable[[], type[life.Trainable]]
    config: Callable[[], dict[str, Any]]


class Rules(NamedTuple):
    """When a trial saves.

    Attributes:
        scratch: A directory below the trial's for `save_checkpoint` to write into; made when needed, removed after.
        frequency: A checkpoint with every so many iterations; 0: none.
        at_end: Whether the last row is to have a checkpoint.
        retries: How often loading a checkpoint is tried again.
        export_formats: What a trial that has ended well exports into its directory.
    """

    scratch: str
    frequency: int = 0
    at_end: bool = False
    retries: int = 0
    export_formats: Sequence[str] = ()


class Desk:
    """Holds the instance of this process, also between two attempts, and has it clean up when it is given up.

    Args:
        keep: Whether an instance may run one trial after another.
        patience_s: How long one cleanup may take.
        overdue: Called, in another thread, when it takes longer, with the end of the attempt that waits for it (None where
            none does); it is to end the process. None: the cleanup is waited for without end.
    """

    def __init__(
        self,
        *,
        keep: bool = False,
        patience_s: float = float("inf"),
        overdue: Callable[[AttemptEnded | None], None] | None = None,
    ) -> None:
        self.keep = keep
        self._patience_s = patience_s
        self._overdue = overdue
        self._instance: life.Trainable | None = None
        self._given: object = None

    def put(self, instance: life.Trainable, given: object) -> None:
        """Takes an instance that runs with these resources, in the place of the one before."""
        self._instance, self._given = instance, given

    def kept_for(self, given: object) -> life.Trainable | None:
        """The instance, where it runs with the same resources; one with others is given up."""
        if self._given != given:
            self.clear(None)
        return self._instance

    def clear(self, ended: AttemptEnded | None) -> None:
        """Has the instance clean up, and forgets it. What the user's cleanup raises is printed to the attempt's log."""
        instance, self._instance = self._instance, None
        if instance is None:
            return
        timer: threading.Timer | None = None
        if self._overdue is not None and self._patience_s != float("inf"):
            timer = threading.Timer(min(self._patience_s, threading.TIMEOUT_MAX), self._overdue, (ended,))
            timer.daemon = True
            timer.start()
        try:
            instance.stop()
        except BaseException:  # noqa: BLE001 - the border to the user's code; the attempt's end is decided, and this does not change it
            _print_failure("cleanup() failed; the trial's end is not changed by that:")
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()


class _ClassSession(AttemptSession):
    """What a class trainable may ask for while it runs."""

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint saved, or the one that the attempt began from."""
        return self._attempt.checkpoint()

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> NoReturn:
        """Refuses: a class trainable's rows are what `step` returns."""
        raise ReportRefused(
            "holdfast.report() is for function trainables. In a class trainable return the metrics from step(), and write the "
            "checkpoint in save_checkpoint(); {'should_checkpoint': True} in the metrics saves one with the row."
        )


def run_class(loads: Loads, attempt: Attempt, rules: Rules, desk: Desk) -> AttemptEnded:
    """Runs an instance to the end of the attempt.

    `cleanup` has run when it returns, save where the desk keeps the instance for the next attempt.

    Args:
        loads: Gives class and config; their errors count as the trainable's own.
        attempt: Where the rows go.
        rules: When the trial saves.
        desk: Where the instance of this process is.

    Raises:
        DriverGone: There is nobody left to report to. `cleanup` has run.
    """
    session.enter(_ClassSession(attempt))
    try:
        ended = _ran(loads, attempt, rules, desk)
        if not desk.keep or ended.outcome == "failed":
            desk.clear(ended)
    except DriverGone:
        desk.clear(None)
        raise
    finally:
        session.leave()
    return ended


def _ran(loads: Loads, attempt: Attempt, rules: Rules, desk: Desk) -> AttemptEnded:
    try:
        instance = _ready(loads, attempt, rules, desk)
        attempt.begin()
        return attempt.ended(_trained(instance, attempt, rules))
    except DriverGone:
        raise
    except BaseException as error:  # noqa: BLE001 - the border to the user's code: SystemExit too ends this attempt only
        return attempt.ended("failed", failure_of(error, __file__, life.__file__, contextlib.__file__))


def _ready(loads: Loads, attempt: Attempt, rules: Rules, desk: Desk) -> life.Trainable:
    """The instance, at the trial's newest checkpoint."""
    order, context = attempt.order, attempt.context
    given = (order.resources, order.placement)
    seat = life.Seat(order.trial_id, order.name, context.get_trial_resources, context.get_trial_dir())
    config = loads.config()
    instance = desk.kept_for(given)
    if instance is None:
        instance = _new(loads, config, seat, desk, given)
    elif not life.reseated(instance, config, seat):
        raise ConfigError(
            f"TuneConfig(reuse_actors=True) needs {type(instance).__name__}.reset_config(new_config) to make the instance ready "
            "for another trial and return True; it returned False. Write it so, or leave reuse_actors out."
        )
    newest = attempt.checkpoint()
    for left in range(rules.retries, -1, -1):
        life.go_on_from(instance, order.iteration, order.time_total_s)
        if newest is None:
            break
        try:
            with newest.as_directory() as folder:
                life.load_from(instance, folder)
            break
        except Exception:
            if not left:
                raise
            _print_failure(f"load_checkpoint({newest.path!r}) failed and is tried again with a new instance, {left} times more:")
            desk.clear(None)
            instance = _new(loads, config, seat, desk, given)
    return instance


def _new(loads: Loads, config: dict[str, Any], seat: life.Seat, desk: Desk, given: object) -> life.Trainable:
    trainable: Any = loads.trainable()
    if not (isinstance(trainable, type) and issubclass(trainable, life.Trainable)):
        raise ConfigError(f"The experiment was submitted with a class trainable, and {trainable!r} is none.")
    instance = life.made(trainable, config, seat)
    desk.put(instance, given)
    return instance


def _trained(instance: life.Trainable, attempt: Attempt, rules: Rules) -> str:
    """Takes steps until the trial is over; returns the attempt's outcome."""
    able, warned = can_save(type(instance)), False
    while True:
        result = life.stepped(instance)
        life.told(instance, result)
        done = bool(result.get("done"))
        asked = bool(result.get("should_checkpoint"))
        due = asked or (rules.frequency and not instance.iteration % rules.frequency) or (done and rules.at_end)
        if not warned and attempt.context.preemption_notice():
            warned = due = True  # once: what is saved now is what the next machine begins from
        if asked and not able:
            _warn_of_saving(instance)
        saves = able and bool(due)
        if saves:
            with _saved(instance, attempt, rules) as checkpoint:
                answer = attempt.ask(result, checkpoint)
        else:
            answer = attempt.ask(result)
        over = done or answer.action != "CONTINUE"
        owed = answer.save or answer.action == "PAUSE" or (over and rules.at_end)
        if owed and able and not saves:
            faults.reach("before_end_checkpoint")
            with _saved(instance, attempt, rules) as checkpoint:
                attempt.commit(checkpoint)
            faults.reach("after_end_checkpoint")
        elif owed and not able and not over:
            _warn_of_saving(instance)
        if over and rules.export_formats and answer.action != "PAUSE":
            instance.export_model(rules.export_formats)
        if over:
            return "completed" if answer.action == "CONTINUE" else "stopped"


@contextlib.contextmanager
def _saved(instance: life.Trainable, attempt: Attempt, rules: Rules) -> Iterator[Checkpoint]:
    """Has the instance save itself into the scratch directory, which is gone again at the end."""
    try:
        os.mkdir(rules.scratch)
        life.save_into(instance, rules.scratch)
    except OSError as error:
        shutil.rmtree(rules.scratch, ignore_errors=True)
        if error.errno in _DISK_FULL:
            attempt.storage_failure = f"save_checkpoint() found the disk full: {error}. Free space there and restore."
        raise
    except BaseException:
        shutil.rmtree(rules.scratch, ignore_errors=True)
        raise
    try:
        yield Checkpoint(rules.scratch)
    finally:
        shutil.rmtree(rules.scratch, ignore_errors=True)


def _warn_of_saving(instance: life.Trainable) -> None:
    import warnings

    name = type(instance).__name__
    warnings.warn(
        f"A checkpoint of {name} was asked for, and {name} has no save_checkpoint(): nothing is saved, and a later attempt "
        "begins from the start. Write save_checkpoint() and load_checkpoint().",
        stacklevel=2,
    )


def _print_failure(what: str) -> None:
    import traceback

    print(f"holdfast: {what}", file=sys.stderr)  # noqa: T201 - stderr is the attempt's log
    traceback.print_exc()
