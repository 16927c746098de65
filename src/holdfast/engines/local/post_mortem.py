"""Why a worker died: what is said of a process that ended without a word of its own."""

from __future__ import annotations

import os
import signal

from holdfast._core.commands import StartAttempt
from holdfast._core.events import Failure
from holdfast._worker.persist import remove_staging
from holdfast._worker.protocol import Workplace, staging_prefix
from holdfast._worker.surroundings import log_paths, trial_dir_of

__all__ = ["post_mortem"]

_LOG_TAIL = 4096


def post_mortem(place: Workplace, order: StartAttempt, pid: int, status: int | None) -> Failure:
    """Why the worker of an attempt died; removes its unfinished checkpoint, and its log if that is empty.

    Args:
        place: Where the engine works.
        order: The attempt that it ran.
        pid: Its process.
        status: Its wait status; None where the process that would know was lost.
    """
    remove_staging(trial_dir_of(place, order), staging_prefix(order.attempt, place.nonce))
    code = None if status is None else os.waitstatus_to_exitcode(status)
    if code is None:
        message = f"The worker process {pid} was ended because the process that had started it was lost"
    elif code < 0:
        message = f"The worker process {pid} was killed by signal {-code} ({_signal_name(-code)})"
    else:
        message = f"The worker process {pid} ended with exit code {code} without a word"
    return Failure(
        kind="worker",
        message=message,
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        log_tail=_log_tail(place, order),
    )


def _log_tail(place: Workplace, order: StartAttempt) -> str:
    path = log_paths(place, order)[1]
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _LOG_TAIL))
            tail = file.read().decode(errors="replace")
        if not size and place.log_to_file is None:
            os.unlink(path)
    except FileNotFoundError:
        return ""
    return tail


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time"
