"""How a function trainable is run: its session, its reports, its end.

This module knows one attempt. It does not know how a row reaches the driver, or what the driver does with it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import GeneratorType
from typing import Any, NoReturn

from holdfast import session
from holdfast._core.events import AttemptEnded
from holdfast._worker.attempt import Attempt, AttemptSession, failure_of
from holdfast._worker.rows import as_row
from holdfast.checkpoint import Checkpoint
from holdfast.errors import StorageError

__all__ = ["FunctionSession", "run_function"]

_STOP_SIGNAL = signal.SIGURG


class FunctionSession(AttemptSession):
    """What a function trainable reports to. Any thread of the process may report; one report is under way at a time."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._lock = threading.Lock()
        self._stopped = False

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint reported, or the one that the attempt began from."""
        try:
            return self._attempt.checkpoint()
        except StorageError:
            self._stop()  # the attempt says why it ends

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> None:
        """Sends a row and waits for its answer. See `holdfast.report`."""
        with self._lock:
            if self._stopped:
                raise session.StopTrial
            try:
                answer = self._attempt.ask(metrics, checkpoint)
            except StorageError:
                self._stop()  # the attempt says why it ends
            if answer.action != "CONTINUE":
                self._stop()

    def _stop(self) -> NoReturn:
        """Ends the attempt: raises `StopTrial` here and, from a helper thread, in the main thread as well."""
        self._stopped = True
        main = threading.main_thread()
        if threading.current_thread() is not main and main.ident is not None:
            signal.pthread_kill(main.ident, _STOP_SIGNAL)
        raise session.StopTrial


def run_function(load: Callable[[], tuple[Any, Any]], attempt: Attempt) -> AttemptEnded:
    """Runs the function that `load` gives, with the config that it gives, to its end.

    Args:
        load: Returns the function and the config; its errors count as the function's own.
        attempt: What the function's reports go to.
    """
    reports = FunctionSession(attempt)
    try:
        with _Running(reports):
            function, config = load()
            _report_all(function(config), reports)
    except session.StopTrial:
        return attempt.ended("stopped")
    except BaseException as error:  # noqa: BLE001 - the border to the user's code: SystemExit too ends this attempt only
        return attempt.ended("failed", failure_of(error, __file__))
    return attempt.ended("completed")


class _Running:
    """While it is entered, the process's session is the attempt's, and a stop in a helper thread reaches the main thread."""

    def __init__(self, attempt: FunctionSession) -> None:
        self._attempt = attempt
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(_STOP_SIGNAL, self._interrupt)
        session.enter(self._attempt)

    def __exit__(self, *_: object) -> None:
        session.leave()
        if self._before is not None:
            signal.signal(_STOP_SIGNAL, self._before)

    def _interrupt(self, *_: object) -> None:
        raise session.StopTrial


def _report_all(returned: Any, attempt: FunctionSession) -> None:
    """Reports what a function returned, or what a generator yields."""
    if not isinstance(returned, GeneratorType):
        row = as_row(returned)
        if row is not None:
            attempt.report(row)
        return
    try:
        for value in returned:
            row = as_row(value)
            if row is not None:
                attempt.report(row)
    finally:
        returned.close()
