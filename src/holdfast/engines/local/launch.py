"""The driver's hold on its guardian: how it is started, how it is let go.

This module knows one process and two sockets. It does not know attempts.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections import deque

from holdfast._worker.protocol import Workplace, encode_place
from holdfast.engines.local.control import ORDER
from holdfast.engines.local.guardian import NOTHING_RAN
from holdfast.engines.local.interpreter import python_command

__all__ = ["Guardian"]


class Guardian:
    """A running guardian with its server.

    Attributes:
        lifeline: Readable when the guardian is gone; the guardian ends everything when this end closes.
        control: The server's socket.

    Both are watched by the given epoll.
    """

    def __init__(self, workplace: Workplace, environment: dict[str, str], token: str, epoll: select.epoll) -> None:
        self.lifeline, held = socket.socketpair()
        self.control, serving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        place = os.memfd_create("holdfast")
        log = os.open(_log_path(workplace), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            _write(place, encode_place(workplace))
            descriptors = f"{held.fileno()}, {serving.fileno()}, {place}"
            call = f"main({descriptors}, {os.getpid()}, {workplace.experiment_dir!r}, {workplace.nonce!r})"
            self._process = subprocess.Popen(
                python_command(workplace.sys_path, "holdfast.engines.local.guardian", call),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=workplace.working_dir,
                env={
                    **dict.fromkeys(workplace.threads, "1"),  # what the server loads has one thread; a trial gives it more
                    **environment,
                    "HOLDFAST_TOKEN": token,
                    "TUNE_ORIG_WORKING_DIR": workplace.working_dir,
                },
                pass_fds=(held.fileno(), serving.fileno(), place),
                start_new_session=True,
            )
        except BaseException:
            self.lifeline.close()
            self.control.close()
            raise
        finally:
            held.close()
            serving.close()
            os.close(place)
            os.close(log)
        self._log = _log_path(workplace)
        self._ended = False
        self._waiting: deque[tuple[int, int, socket.socket | None]] = deque()
        self.control.setblocking(False)
        self._epoll = epoll
        epoll.register(self.lifeline, select.EPOLLIN)
        epoll.register(self.control, select.EPOLLIN)

    def order(self, verb: int, number: int, connection: socket.socket | None = None) -> None:
        """Tells the server to start (with the worker's socket, which is closed here) or kill a worker.

        What the server has no room for waits; then `control` is watched for room too, and `flush` sends it.
        """
        self._waiting.append((verb, number, connection))
        if not self._sent():
            self._epoll.modify(self.control, select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        """Sends the orders that wait."""
        if self._sent():
            self._epoll.modify(self.control, select.EPOLLIN)

    def _sent(self) -> bool:
        """Sends what the server has room for; True when no order waits."""
        while self._waiting:
            verb, number, connection = self._waiting[0]
            data = ORDER.pack(verb, number, 0, 0, 0)
            try:
                if connection is None:
                    self.control.send(data)
                else:
                    socket.send_fds(self.control, [data], [connection.fileno()])
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True  # the server is gone: the lifeline says so next, and these orders go with it
            self._waiting.popleft()
            if connection is not None:
                connection.close()
        return True

    def heard(self) -> tuple[int, int, int, int, int] | None:
        """What the server says next: verb, worker's number, pid, wait status, most memory. None: nothing now.

        Raises:
            EOFError: The server is gone.
        """
        try:
            data = self.control.recv(ORDER.size)
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        verb, number, pid, status, peak = ORDER.unpack(data)
        return verb, number, pid, status, peak

    def complaint(self) -> str:
        """The end of what guardian and server have printed, why they could not go on; empty where they ended without a word."""
        with contextlib.suppress(FileNotFoundError), open(self._log, "rb") as file:  # an empty one is gone
            return file.read()[-4096:].decode(errors="replace").strip()
        return ""

    def end(self, nothing_ran: bool = False) -> None:
        """Lets go; returns when the guardian and all below it are gone. May be called twice."""
        if self._ended:
            return
        self._ended = True
        for _, _, connection in self._waiting:
            if connection is not None:
                connection.close()
        if nothing_ran:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the guardian is gone already
                self.lifeline.send(NOTHING_RAN)
        self.lifeline.close()
        self.control.close()
        self._process.wait()
        try:
            if os.path.getsize(self._log) == 0:
                os.unlink(self._log)
        except FileNotFoundError:
            pass  # somebody removed the experiment meanwhile


def _log_path(workplace: Workplace) -> str:
    return os.path.join(workplace.experiment_dir, "logs", f"engine-{workplace.nonce}.log")


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
