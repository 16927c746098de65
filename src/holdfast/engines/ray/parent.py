"""The parent of a Ray worker's process: it waits for its end, ends all that was below it, and leaves word of how it ended.

What only a parent learns, the wait status, and what only a sub-reaper can do, ending the whole tree, it does. When the raylet
that wanted the worker is gone, which is to say that the node is lost, it ends the worker at once: a worker that nobody can reach
does not go on.

It imports next to nothing, knows no Ray and no attempt: a worker is called by the id that Ray gave it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable
from typing import NamedTuple

from holdfast._worker.processes import become_subreaper, end_descendants, parents, reap

__all__ = [
    "FORKS",
    "REPORTS",
    "TOKEN",
    "Report",
    "be_called",
    "called",
    "look_after",
    "pass_on_signals",
    "read_report",
    "report_path",
]

REPORTS = "HOLDFAST_RAY_REPORTS"
"""The variable that names the directory where word is left."""

TOKEN = "HOLDFAST_RAY_TOKEN"  # noqa: S105 - the name of a variable
"""The variable that says what the worker's `HOLDFAST_TOKEN` is to be."""

FORKS = "holdfast-forks"
"""What a fork server is called in `ps`."""

_PR_SET_PDEATHSIG = 1
_WORKER_ID = "--worker-id="
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Report(NamedTuple):
    """How a worker's process ended.

    Attributes:
        status: Its wait status.
        orphaned: Whether the raylet was gone first.
        peak: The most bytes of memory that it had.
    """

    status: int
    orphaned: bool
    peak: int


def report_path(folder: str, worker_id: str) -> str:
    """Where word of a worker is left."""
    return os.path.join(folder, f"{worker_id}.json")


def read_report(folder: str, worker_id: str) -> Report | None:
    """What was said of a worker; None while it lives, or where nobody was left to say it."""
    try:
        with open(report_path(folder, worker_id), encoding="utf-8") as file:
            return Report(*json.load(file))
    except FileNotFoundError:
        return None


def look_after(command: list[str], begin: Callable[[list[str]], object], started: int, raylet: int) -> bool:
    """Forks the worker and stays with it until it is over, with all that it left.

    Args:
        command: The worker's, as Ray made it.
        begin: Called with it in the worker's process, which is the leader of a group of its own.
        started: The process that Ray started, and thinks the worker is: when it is gone, so is the worker.
        raylet: Who started that.

    Returns:
        False, in the worker's process, when `begin` has returned; True in this one, when the worker is over.
    """
    os.setsid()
    become_subreaper()
    name = be_called("holdfast-parent")
    child = os.fork()
    if child == 0:
        _die_with_parent()
        os.setpgid(0, 0)
        be_called(name)
        os.environ["HOLDFAST_TOKEN"] = os.environ.get(TOKEN, "")
        begin(command)
        return False
    pass_on_signals(child)
    ours = os.pidfd_open(child)
    others = [os.pidfd_open(pid) for pid in (started, raylet) if os.path.exists(f"/proc/{pid}")]
    if len(others) == 2:
        select.select([ours, *others], [], [])
    orphaned = not _lives(raylet)
    if not select.select([ours], [], [], 0)[0]:
        os.kill(child, signal.SIGKILL)
        select.select([ours], [], [])
    dead = reap() + end_descendants()
    (status, peak) = next((status, peak) for pid, status, peak in dead if pid == child)
    _leave_word(command, Report(status, orphaned, peak))
    return True


def be_called(name: str) -> str:
    """Has `ps` and `top` show this process under a name, up to 15 letters; returns what it was before."""
    before = called(os.getpid())
    with open("/proc/self/comm", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(name)
    return before


def called(pid: int) -> str:
    """What `ps` shows a process as; empty where there is none."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def pass_on_signals(pid: int) -> None:
    """Has a process hear the signals that ask this one to end."""

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in _FORWARDED:
        signal.signal(number, pass_on)


def _lives(pid: int) -> bool:
    """Whether a process lives; one that is dead and not reaped does not."""
    return pid in parents()


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _leave_word(command: list[str], report: Report) -> None:
    folder = os.environ.get(REPORTS, "")
    names = [word.removeprefix(_WORKER_ID) for word in command if word.startswith(_WORKER_ID)]
    if not names or not os.path.isdir(folder):
        return  # the experiment's driver is gone, and its folder with it
    path = report_path(folder, names[0])
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(report, file)
    os.replace(f"{path}.new", path)
