"""Why a worker died: what is said of a process that ended without a word of its own."""

from __future__ import annotations

import os
import signal

from holdfast._core.commands import StartAttempt
from holdfast._core.events import Failure
from holdfast._core.ids import checkpoint_name
from holdfast._worker.persist import remove_staging
from holdfast._worker.protocol import Workplace, staging_prefix
from holdfast._worker.surroundings import log_paths, trial_dir_of
from holdfast.engines.local.worker import Worker

__all__ = ["post_mortem"]

_LOG_TAIL = 4096


def post_mortem(place: Workplace, order: StartAttempt, worker: Worker, status: int | None) -> Failure:
    """Why the worker of an attempt died; removes its unfinished or unnamed checkpoint, and its log if that is empty.

    A checkpoint that it completed before it could send the row is named by no record and never will be: its index was
    granted to this attempt alone.

    Args:
        place: Where the engine works.
        order: The attempt that it ran.
        worker: It, when all that it had sent is heard.
        status: Its wait status; None where the process that would know was lost.
    """
    pid, trial_dir = worker.pid, trial_dir_of(place, order)
    remove_staging(trial_dir, staging_prefix(order.attempt, place.nonce))
    remove_staging(trial_dir, checkpoint_name(worker.unnamed))
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
