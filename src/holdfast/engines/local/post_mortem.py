"""Why a worker died: what is said of a process that ended without a word of its own.

Knows wait statuses, the kernel's account of processes that it killed for want of memory, and logs. It does not know who is told.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from holdfast._core.commands import StartAttempt
from holdfast._core.events import Failure
from holdfast._worker.logs import tail_of
from holdfast._worker.persist import remove_staging
from holdfast._worker.protocol import Workplace, staging_prefix
from holdfast._worker.surroundings import log_paths, trial_dir_of
from holdfast.engines.local.machine import oom_kills
from holdfast.engines.local.memory import Use, in_bytes

__all__ = ["Death", "OomKills", "post_mortem"]

_LOG_TAIL = 4096


class Death(NamedTuple):
    """How a worker's process ended.

    Attributes:
        pid: Its process.
        status: Its wait status; None where the process that would know was lost.
        use: What its tree was seen to use, where it was watched.
        unexplained: Whether nobody here killed it, and the kernel has killed somebody for want of memory.
    """

    pid: int
    status: int | None
    use: Use | None = None
    unexplained: bool = False


class OomKills:
    """Tells, when a worker was killed and nobody here did it, whether the kernel did because memory ran out."""

    def __init__(self) -> None:
        self._accounted = oom_kills()

    def another(self, status: int | None) -> bool:
        """Whether the kernel has killed one more than was accounted for; then this death is."""
        if status is None or not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return False
        if oom_kills() <= self._accounted:
            return False
        self._accounted += 1
        return True


def post_mortem(place: Workplace, order: StartAttempt, death: Death) -> Failure:
    """Why the worker of an attempt died; removes its unfinished checkpoint, and its log if that is empty.

    Args:
        place: Where the engine works.
        order: The attempt that it ran.
        death: What is known of its end.
    """
    remove_staging(trial_dir_of(place, order), staging_prefix(order.attempt, place.nonce))
    pid, code = death.pid, None if death.status is None else os.waitstatus_to_exitcode(death.status)
    kind, use = "worker", death.use
    if use is not None and use.over:
        kind = "oom"
        message = (
            f"The attempt used {in_bytes(use.over)} of memory and is given {in_bytes(use.limit)} ('memory': {use.limit}): its "
            "processes were killed. Give trials more with with_resources(), or have them use less"
        )
    elif death.unexplained:
        kind = "oom"
        message = f"The worker process {pid} was killed by the kernel: the memory of this machine or control group ran out"
    elif code is None:
        message = f"The worker process {pid} was ended because the process that had started it was lost"
    elif code < 0:
        message = f"The worker process {pid} was killed by signal {-code} ({_signal_name(-code)})"
    else:
        message = f"The worker process {pid} ended with exit code {code} without a word"
    return Failure(
        kind=kind,
        message=message,
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        log_tail=_log_tail(place, order),
    )


def _log_tail(place: Workplace, order: StartAttempt) -> str:
    path = log_paths(place, order)[1]
    try:
        tail = tail_of(path, _LOG_TAIL)
        if not tail and place.log_to_file is None:
            os.unlink(path)
    except FileNotFoundError:
        return ""
    return tail


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time"
