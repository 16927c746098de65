"""The fork server of a node: a process that holds what each worker of an experiment loads, and forks the workers that Ray starts.

A fresh interpreter spends most of a worker's start on loading Ray, holdfast and the installed modules of the trainable. Here they
are loaded once for each node and experiment, by a process that has no connection to Ray: all that is Ray's of a worker begins in
the fork.

Its first worker starts it. It ends when no worker is left and the driver is gone, or, on another machine than the driver's, when
nothing has been wanted for a while; and at once when the node's raylet is gone. It knows commands as Ray makes them, and nothing
of attempts. Where it cannot serve, a shim does without it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from holdfast._worker.processes import prepare_subreaper, reap
from holdfast.engines.local.preload import fit_to_fork, load_all
from holdfast.engines.ray.abstract import accepted, connected, listening, reach
from holdfast.engines.ray.parent import FORKS, be_called, look_after
from holdfast.engines.ray.shim import DRIVER, LOADS, servers_environment

__all__ = ["main"]

_IDLE_S = 60.0
_PATIENCE_S = 5.0
_SERVES = b"."

_LOADED = (
    "holdfast.engines.ray.post",
    "numpy",
    "pyarrow",
    "pydantic.v1.fields",
    "ray._common.pydantic_compat",
    "starlette.datastructures",
)
"""What a worker loads beside its script and the trainable's modules: ours, and what Ray loads when a worker connects, where it is
installed. A name that another version of Ray does not know costs nothing."""


def main(name: str, tells: int, raylet: int) -> None:
    """Serves, and ends the process; it returns in the processes of workers, when they are over.

    Args:
        name: Its address.
        tells: A pipe that is closed when it listens, or does not because another does.
        raylet: The pid of the node's raylet.
    """
    try:
        listener, watched = listening(name), os.pidfd_open(raylet)
    except OSError:
        return
    address, _, here = os.environ[DRIVER].partition("@")
    driver = connected(address)
    if driver is None and here == reach():
        return  # the driver is gone: a worker that was on its way begins without a server, and finds that out
    os.close(tells)
    be_called(FORKS)
    if _Server(listener, watched, driver).serve():
        os._exit(0)


class _Server:
    """The loop, and the parents of workers that it has forked."""

    def __init__(self, listener: socket.socket, raylet: int, driver: socket.socket | None) -> None:
        self._listener = listener
        self._raylet = raylet
        self._driver = driver
        self._environment = dict(os.environ)
        self._modules: list[str] = json.loads(os.environ[LOADS])["modules"]
        self._fit: bool | None = None  # to fork; known when it has loaded
        self._heir = -1  # where a process says that it serves from now on, or which modules another may load
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._parents: set[int] = set()
        self._bell, self._ring = os.pipe()
        for descriptor in (self._bell, self._ring):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ring, warn_on_full_buffer=False)

    def serve(self) -> bool:
        """Serves until another does, or no worker can be wanted; returns False in the process of a worker that is over."""
        wanted, left = time.monotonic(), False
        while True:
            descriptors = [self._listener.fileno(), self._bell, self._raylet]
            descriptors += [self._driver.fileno()] if self._driver is not None and not left else []
            descriptors += [self._heir] if self._heir >= 0 else []
            ready, _, _ = select.select(descriptors, [], [], None if self._parents or self._driver is not None else _IDLE_S)
            if self._raylet in ready or (self._heir in ready and self._is_succeeded()):
                return True
            if self._bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
                self._parents -= {pid for pid, _, _ in reap()}
            if self._listener.fileno() in ready and not self._obey():
                return False
            left = left or (self._driver is not None and self._driver.fileno() in ready)
            if ready:
                wanted = time.monotonic()
            if not self._parents and (left or (self._driver is None and time.monotonic() - wanted >= _IDLE_S)):
                return True

    def _obey(self) -> bool:
        """Forks what is wanted; returns False in the process of a worker that is over.

        A shim that hears nothing begins its worker itself.
        """
        connection = accepted(self._listener)
        order = self._order(connection) if connection is not None else None
        if connection is None or order is None:
            return True
        if self._fit is None:
            self._fit = _load(order["command"][1])
        pid = os.fork() if self._fit else -1
        if pid == 0:
            return self._be_parent(connection, order)
        connection.close()
        if pid > 0:
            self._parents.add(pid)
            if self._modules:
                self._raise_heir()
        return True

    def _order(self, connection: socket.socket) -> dict[str, Any] | None:
        """What is wanted, when whoever wants it is there and has this very environment."""
        connection.settimeout(_PATIENCE_S)
        with contextlib.suppress(OSError, ValueError):
            order: dict[str, Any] = json.loads(connection.makefile("rb").readline())
            if servers_environment(order["environment"]) == self._environment:
                return order
        connection.close()
        return None

    def _raise_heir(self) -> None:
        """Forks a process that loads the trainable's modules and then serves in the place of this one.

        What they take to load keeps no worker waiting. When one of them starts a thread that bears no fork, this process goes
        on, the workers load that one, and another heir is tried without it.
        """
        modules, self._modules = self._modules, []
        self._heir, tells = os.pipe()
        if os.fork():
            os.close(tells)
            return
        for descriptor in (self._heir, self._bell, self._ring):
            os.close(descriptor)
        self._heir = -1
        self._begin_anew()
        unfit = load_all(modules)
        if unfit:
            os.write(tells, " ".join(name for name in modules if name.partition(".")[0] != unfit).encode())
            os._exit(0)
        gc.collect()
        gc.freeze()
        self._listener.listen()  # who connects from now on is told this process's pid
        os.write(tells, _SERVES)
        os.close(tells)

    def _is_succeeded(self) -> bool:
        with open(self._heir, "rb") as heir:
            said = heir.read()
        self._heir = -1
        if said == _SERVES:
            return True
        self._modules = said.decode().split()
        return False

    def _be_parent(self, connection: socket.socket, order: dict[str, Any]) -> bool:
        """Is the parent of a worker; returns False in the worker's own process, when that is over."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._listener.close()
        if self._driver is not None:
            self._driver.close()
        for descriptor in (self._bell, self._ring, self._raylet, self._heir):
            if descriptor >= 0:
                os.close(descriptor)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["directory"])

        def begin(command: list[str]) -> None:
            connection.close()
            _be_killed_as(order["started"])
            sys.argv = command[1:]
            if not getattr(sys.flags, "safe_path", False):
                sys.path[0] = os.path.dirname(command[1])
            try:
                runpy.run_path(command[1], run_name="__main__")
            except SystemExit as end:
                _exit(end.code)

        try:
            connection.sendall(b"%d\n" % os.getpid())
        except OSError:  # whoever wanted it is gone
            os._exit(0)
        if look_after(order["command"], begin, order["started"], order["raylet"]):
            os._exit(0)
        return False


def _load(script: str) -> bool:
    """Loads what all workers load; returns whether this process may fork. Installed modules only, and no code of the user's."""
    with contextlib.suppress(Exception):  # a worker that needs it raises it again
        runpy.run_path(script, run_name="holdfast")  # so far as it loads what it names, and begins no worker
    load_all([*_LOADED])
    prepare_subreaper()
    gc.collect()
    gc.freeze()
    return fit_to_fork()


def _exit(code: object) -> NoReturn:
    """Ends a worker's process as Python does, but for freeing all that it holds: page by page it would be copied for that."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, its disk is full, it is closed
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _be_killed_as(started: int) -> None:
    """When memory runs out, this process is as good to kill as the one that Ray started, which Ray has said how good that is."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{started}/oom_score_adj", encoding="ascii") as file:
            score = file.read()
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(score)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
