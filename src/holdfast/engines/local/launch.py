"""The driver's hold on its guardian: how it is started, how it is let go.

This module knows one process and two sockets. It does not know attempts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

from holdfast._worker.protocol import Workplace, encode_place
from holdfast.engines.local.control import ORDER, START
from holdfast.engines.local.guardian import NOTHING_RAN
from holdfast.engines.local.interpreter import python_command

__all__ = ["Guardian"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Guardian:
    """A running guardian with its server.

    Attributes:
        lifeline: Readable when the guardian is gone; the guardian ends everything when this end closes.
        control: The server's socket.
    """

    def __init__(self, workplace: Workplace, environment: dict[str, str], token: str) -> None:
        self.lifeline, held = socket.socketpair()
        self.control, serving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        place = os.memfd_create("holdfast")
        log = os.open(_log_path(workplace), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            _write(place, encode_place(workplace))
            call = f"main({held.fileno()}, {serving.fileno()}, {place}, {os.getpid()}, {workplace.experiment_dir!r}, {workplace.nonce!r})"
            self._process = subprocess.Popen(
                python_command(workplace.sys_path, "holdfast.engines.local.guardian", call),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=workplace.working_dir,
                env={**dict.fromkeys(_THREADS, "1"), **environment, "HOLDFAST_TOKEN": token, "TUNE_ORIG_WORKING_DIR": workplace.working_dir},
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
        self.control.setblocking(False)

    def order(self, verb: int, number: int, connection: socket.socket | None = None) -> None:
        """Tells the server to start (with the worker's socket) or kill a worker.

        Raises:
            BlockingIOError: The server has not read the orders before; try again later.
            OSError: The server is gone.
        """
        data = ORDER.pack(verb, number, 0, 0)
        if verb == START and connection is not None:
            socket.send_fds(self.control, [data], [connection.fileno()])
        else:
            self.control.send(data)

    def heard(self) -> tuple[int, int, int, int] | None:
        """What the server says next: verb, worker's number, pid, wait status. None: nothing now.

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
        verb, number, pid, status = ORDER.unpack(data)
        return verb, number, pid, status

    def complaint(self) -> str:
        """The end of what guardian and server have printed: why they could not go on."""
        with open(self._log, "rb") as file:
            return file.read()[-4096:].decode(errors="replace").strip()

    def end(self, nothing_ran: bool = False) -> None:
        """Lets go; returns when the guardian and all below it are gone. May be called twice."""
        if self._ended:
            return
        self._ended = True
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
