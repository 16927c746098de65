"""The server: forks one process per attempt from an interpreter that has already loaded what the trainable needs.

It is told by the driver, over one socket, to start a worker (the worker's own socket comes along) or to kill one, and says
when a worker's process has ended, with all that was below it. It runs no code of the user's, starts no thread, and
knows nothing of what workers and driver say to each other.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from holdfast._worker.main import CLEAN_EXIT, begin_process, work
from holdfast._worker.processes import become_subreaper, end_descendants, reap
from holdfast._worker.protocol import Workplace, decode_place
from holdfast.engines.local.control import ENDED, KILL, ORDER, READY, START
from holdfast.engines.local.interpreter import python_command
from holdfast.engines.local.preload import load_all

__all__ = ["main", "spawned"]


def main(control: int, place: int, guardian: int, without: Sequence[str] = ()) -> None:
    """Serves until the driver or the guardian is gone.

    Args:
        control: The socket to the driver.
        place: An in-memory file with the encoded `Workplace`.
        guardian: The guardian's pid.
        without: Packages that are not loaded ahead.
    """
    try:
        guarded = os.pidfd_open(guardian)
    except ProcessLookupError:
        return
    workplace = _workplace(place)
    unfit = "" if workplace.spawn else load_all(workplace.preload, without)
    if unfit:
        _begin_again(control, place, guardian, workplace, [*without, unfit])
    _write_each_line_at_once()
    become_subreaper()
    _Server(socket.socket(fileno=control), place, workplace, guarded).serve()


def spawned(connection: int, place: int) -> None:
    """Runs as a worker in a fresh interpreter."""
    begin_process()
    _write_each_line_at_once()
    work(socket.socket(fileno=connection), _workplace(place))


def _write_each_line_at_once() -> None:
    """What a trial printed before it was killed is in its log."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _workplace(place: int) -> Workplace:
    return decode_place(os.pread(place, os.fstat(place).st_size, 0))


def _begin_again(control: int, place: int, guardian: int, workplace: Workplace, without: list[str]) -> NoReturn:
    """Some module starts threads that do not bear a fork when it is loaded: each worker loads it itself."""
    for descriptor in (control, place):
        os.set_inheritable(descriptor, True)
    command = python_command(workplace.sys_path, __name__, f"main({control}, {place}, {guardian}, {without!r})")
    os.execv(command[0], command)


class _Server:
    """The loop and the workers that it has started."""

    def __init__(self, control: socket.socket, place: int, workplace: Workplace, guarded: int) -> None:
        self._control = control
        self._place = place
        self._workplace = workplace
        self._guarded = guarded
        self._numbers: dict[int, int] = {}  # pid → the worker's number
        self._pids: dict[int, int] = {}
        self._bell, self._ring = os.pipe()
        for descriptor in (self._bell, self._ring):
            os.set_blocking(descriptor, False)

    def serve(self) -> None:
        """Serves until driver or guardian is gone; then ends all that is left."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ring, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()
        waiting = select.poll()
        for descriptor in (self._control.fileno(), self._bell, self._guarded):
            waiting.register(descriptor, select.POLLIN)
        self._say(READY, 0, os.getpid(), 0)
        while True:
            ready = {descriptor for descriptor, _ in waiting.poll()}
            if self._guarded in ready:
                break
            if self._bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
                self._bury(reap())
            if self._control.fileno() in ready and not self._obey():
                break
        end_descendants()

    def _obey(self) -> bool:
        """Does the driver's next order; False when the driver is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, ORDER.size, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return False
        if not data:
            return False
        verb, number, _, _, _ = ORDER.unpack(data)
        if verb == START:
            pid = self._spawn(descriptors[0]) if self._workplace.spawn else self._fork(descriptors[0])
            os.close(descriptors[0])
            self._numbers[pid], self._pids[number] = number, pid
        elif verb == KILL and number in self._pids:
            os.kill(self._pids[number], signal.SIGKILL)
        return True

    def _fork(self, connection: int) -> int:
        """A worker forked from this process; the child does not return."""
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            begin_process()
            self._control.close()
            for descriptor in (self._bell, self._ring, self._guarded, self._place):
                os.close(descriptor)
            work(socket.socket(fileno=connection), self._workplace)
        finally:  # whatever happens, the server's loop never runs in a child
            os._exit(1)

    def _spawn(self, connection: int) -> int:
        """A worker in a fresh interpreter."""
        descriptors = (connection, self._place)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        command = python_command(self._workplace.sys_path, __name__, f"spawned({connection}, {self._place})")
        pid = os.posix_spawn(command[0], command, os.environ)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return pid

    def _bury(self, dead: list[tuple[int, int, int]]) -> None:
        """Ends what dead workers left below them, then says that they are over."""
        while dead:
            workers = [one for one in dead if one[0] in self._numbers]
            more: list[tuple[int, int, int]] = []
            if any(os.waitstatus_to_exitcode(status) != CLEAN_EXIT for _, status, _ in workers):
                # Orphans come to this sub-reaper: whatever child of ours is no worker was below one that is dead.
                gone = {pid for pid, _, _ in workers}
                more = end_descendants(but=[pid for pid in self._numbers if pid not in gone])
            for pid, status, peak in workers:
                number = self._numbers.pop(pid)
                del self._pids[number]
                self._say(ENDED, number, pid, status, peak)
            dead = more

    def _say(self, verb: int, number: int, pid: int, status: int, peak: int = 0) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the driver is gone: the loop sees that next
            self._control.send(ORDER.pack(verb, number, pid, status, peak))
