"""The parent of an actor's process: it waits for its end, ends all that was below it, and leaves word of how it ended.

Ray starts a worker through it (`py_executable` of the runtime environment). What only a parent learns, the wait status, and
what only a sub-reaper can do, ending the whole tree, it does. When the raylet that started it is gone, which is to say that
the node is lost, it ends the worker at once: a worker that nobody can reach does not go on.

It imports next to nothing, knows no Ray and no attempt: a worker is called by the id that Ray gave it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from typing import NamedTuple

from holdfast._worker.processes import become_subreaper, end_descendants, parents, reap

__all__ = ["REPORTS", "TOKEN", "Report", "main", "read_report", "report_path"]

REPORTS = "HOLDFAST_RAY_REPORTS"
"""The variable that names the directory where word is left."""

TOKEN = "HOLDFAST_RAY_TOKEN"  # noqa: S105 - the name of a variable
"""The variable that says what the worker's `HOLDFAST_TOKEN` is to be.

This process does not carry that itself: whoever ends what carries it must leave the one that ends what is below it.
"""

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


def main(command: list[str]) -> None:
    """Runs the command below this process and ends when it has ended, with all that it left.

    Ray kills what it has started when it thinks that the worker is gone, so this process only waits: another one, which Ray does
    not know, is the worker's parent.
    """
    started, raylet = os.getpid(), os.getppid()
    parent = os.fork()
    if parent == 0:
        os.setsid()
        _watch(command, started, raylet)
        os._exit(0)
    _pass_on_signals(parent)
    os.waitpid(parent, 0)


def _watch(command: list[str], started: int, raylet: int) -> None:
    """Is the worker's parent; ends it when what Ray has started, or the raylet, is gone."""
    become_subreaper()
    child = os.fork()
    if child == 0:
        _die_with_parent()
        os.setpgid(0, 0)
        os.environ["HOLDFAST_TOKEN"] = os.environ.get(TOKEN, "")
        os.execv(command[0], command)
    _pass_on_signals(child)
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


def _pass_on_signals(pid: int) -> None:
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


if __name__ == "__main__":
    main(sys.argv[1:])
