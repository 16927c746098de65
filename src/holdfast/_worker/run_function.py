"""How a function trainable is run: its rows, its checkpoints, its end.

This module knows one attempt and a `Channel` to the driver. It does not know processes, sockets or what the driver does
with a row.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import GeneratorType
from typing import Any, NoReturn

from holdfast import session
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, Failure, ResultReported, Saved
from holdfast._core.ids import checkpoint_name
from holdfast._worker import persist
from holdfast._worker.protocol import Channel
from holdfast._worker.rows import as_row, encode_row
from holdfast.checkpoint import Checkpoint
from holdfast.clock import Clock, SystemClock
from holdfast.errors import StorageError

__all__ = ["FunctionSession", "run_function"]

_LARGEST_EXCEPTION = 256 * 1024
_LARGEST_TRACEBACK = 64 * 1024
_STOP_SIGNAL = signal.SIGURG


class FunctionSession:
    """One attempt's reports. Any thread of the process may report; one report is under way at a time."""

    def __init__(
        self,
        order: StartAttempt,
        channel: Channel,
        context: session.TuneContext,
        staging_prefix: str,
        clock: Clock | None = None,
    ) -> None:
        self.context = context
        self.storage_failure = ""
        self._order = order
        self._channel = channel
        self._staging_prefix = staging_prefix
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._since_restore = 0
        self._next_index = order.grant
        self._stopped = False
        self._began = self._last = self._clock.monotonic()
        self._newest: Checkpoint | None = None
        if order.resume is not None:
            self._newest = Checkpoint(os.path.join(context.get_trial_dir(), checkpoint_name(order.resume.index)))

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint reported, or the one that the attempt began from."""
        return self._newest

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> None:
        """Sends a row and waits for its answer. See `holdfast.report`."""
        with self._lock:
            if self._stopped:
                raise session.StopTrial
            encoded = encode_row(metrics)
            saved = None if checkpoint is None else self._save(checkpoint)
            action = self._channel.ask(self._row(encoded, bool(metrics.get("done")), saved))
            if action != "CONTINUE":
                self._stop()

    def _row(self, encoded: bytes, done: bool, saved: Saved | None) -> ResultReported:
        order, now = self._order, self._clock.monotonic()
        passed, self._last = now - self._last, now
        self._since_restore += 1
        return ResultReported(
            order.trial_id,
            order.attempt,
            order.number + self._since_restore,
            encoded,
            order.iteration + self._since_restore,
            passed,
            order.time_total_s + now - self._began,
            now - self._began,
            self._since_restore,
            self._clock.wall(),
            done,
            saved,
        )

    def _save(self, checkpoint: Checkpoint) -> Saved:
        index, trial_dir = self._next_index, self.context.get_trial_dir()
        try:
            saved = persist.save(checkpoint.path, trial_dir, index, f"{self._staging_prefix}{index}")
        except StorageError as error:
            self.storage_failure = str(error)
            self._stop()
        self._next_index += 1
        self._newest = Checkpoint(os.path.join(trial_dir, checkpoint_name(index)))
        return saved

    def _stop(self) -> NoReturn:
        """Ends the attempt: raises `StopTrial` here and, from a helper thread, in the main thread as well."""
        self._stopped = True
        main = threading.main_thread()
        if threading.current_thread() is not main and main.ident is not None:
            signal.pthread_kill(main.ident, _STOP_SIGNAL)
        raise session.StopTrial


def run_function(load: Callable[[], tuple[Any, Any]], attempt: FunctionSession, order: StartAttempt) -> AttemptEnded:
    """Runs the function that `load` gives, with the config that it gives, to its end.

    Args:
        load: Returns the function and the config; its errors count as the function's own.
        attempt: The session that the function reports to.
        order: Which attempt this is.
    """

    def ended(outcome: str, failure: Failure | None = None) -> AttemptEnded:
        return AttemptEnded(order.trial_id, order.attempt, outcome, failure)

    outcome, failure = "completed", None
    try:
        with _Running(attempt):
            function, config = load()
            _report_all(function(config), attempt)
    except session.StopTrial:
        outcome = "stopped"
    except BaseException as error:  # noqa: BLE001 - the border to the user's code: SystemExit too ends this attempt only
        failure = _failure(error)
    if attempt.storage_failure:
        failure = Failure("storage", attempt.storage_failure)
    return ended("failed", failure) if failure else ended(outcome)


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


def _failure(error: BaseException) -> Failure:
    import traceback

    text = "".join(traceback.format_exception(type(error), error, _users_part(error)))
    return Failure(
        kind="code",
        message=f"{type(error).__name__}: {error}"[:1000],
        traceback=text[-_LARGEST_TRACEBACK:],
        exception=_pickled(error),
    )


def _users_part(error: BaseException) -> Any:
    """The traceback without this module's own frames at its top."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _pickled(error: BaseException) -> bytes:
    """The exception pickled, without its traceback; empty where it does not survive the journey."""
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(data)
    except Exception:  # noqa: BLE001 - the border to the user's classes: pickling runs their code
        return b""
    return data if len(data) <= _LARGEST_EXCEPTION else b""
