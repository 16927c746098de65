"""What Ray starts in the place of a worker (`py_executable` of the runtime environment).

It has the worker begun elsewhere, by the node's fork server or, where there is none, in a child of its own, and waits for its
end. Ray kills what it has started when it thinks that the worker is gone, so this process does nothing but wait: another one,
which Ray does not know, is the worker's parent.

It imports next to nothing, for each worker waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import zlib
from collections.abc import Mapping

from holdfast.engines.ray.abstract import connected, peer_of
from holdfast.engines.ray.parent import FORKS, TOKEN, called, look_after, pass_on_signals

__all__ = ["DRIVER", "LOADS", "main", "servers_environment"]

LOADS = "HOLDFAST_RAY_LOADS"
"""The variable that says, as JSON, which modules a fork server loads, and which variables keep those from starting threads.

Where it is not set there is no such server, and each worker is a fresh interpreter.
"""

DRIVER = "HOLDFAST_RAY_DRIVER"
"""The variable that says at which address the driver listens, and behind an "@" from where that is reached."""

_PATIENCE_S = 20.0  # the first one waits until the server has loaded Ray; Ray itself gives a worker 60 seconds to be there


def main(command: list[str]) -> None:
    """Has the command run, and ends when its process has ended, with all that it left."""
    raylet = os.getppid()
    server = _fork_server(command[0], raylet) if LOADS in os.environ else None
    parent = _begun_by(server, command, raylet) if server is not None else 0
    if server is not None and parent:
        pass_on_signals(parent)
        server.settimeout(None)
        server.recv(1)  # nothing comes: the parent has the other end, as long as it lives
        return
    started, parent = os.getpid(), os.fork()
    if parent == 0:
        look_after(command, lambda command: os.execv(command[0], command), started, raylet)
        os._exit(0)
    pass_on_signals(parent)
    os.waitpid(parent, 0)


def _fork_server(python: str, raylet: int) -> socket.socket | None:
    """A connection to the fork server for this environment, which is started where there is none; None: it is not to be had."""
    name = f"holdfast-{raylet}-{zlib.crc32(json.dumps([python, *sorted(os.environ.items())]).encode()):08x}"
    server = connected(name)
    if server is None:
        _start_server(python, name, raylet)
        server = connected(name)
    return server


def servers_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the fork server whose workers have this one."""
    single = dict.fromkeys(json.loads(environment[LOADS])["threads"], "1")  # a process that has threads must not fork
    return {**environment, **single, "HOLDFAST_TOKEN": environment.get(TOKEN, "")}  # what it forks is found by the token


def _start_server(python: str, name: str, raylet: int) -> None:
    """Starts a server; returns when it listens, or is gone because another does."""
    listens, tells = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork():
            os._exit(0)  # so that the server is not this process's to bury
        os.set_inheritable(tells, True)
        words = [python, "-m", "holdfast.engines.ray.fork_server", name, str(tells), str(raylet)]
        os.execve(python, words, servers_environment(os.environ))
    os.waitpid(between, 0)
    os.close(tells)
    os.read(listens, 1)
    os.close(listens)


def _begun_by(server: socket.socket, command: list[str], raylet: int) -> int:
    """Has a fork server begin the worker; returns the pid of its parent, or 0 where the server would not."""
    order = {
        "command": command,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "started": os.getpid(),
        "raylet": raylet,
    }
    server.settimeout(_PATIENCE_S)
    try:
        server.sendall(json.dumps(order).encode() + b"\n")
        return int(server.makefile("rb").readline() or 0)
    except ConnectionError:  # it ended meanwhile
        return 0
    except TimeoutError:  # it hangs
        return _said_at_last(server)


def _said_at_last(server: socket.socket) -> int:
    """Ends a server that hangs; returns what `_begun_by` does. From here on none can begin this worker unheard."""
    pid = peer_of(server)
    if called(pid) == FORKS:  # else another one has taken its pid since it listened
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.shutdown(socket.SHUT_RD)  # a parent that it had forked by now has said so, or finds that it cannot, and leaves
    return int(server.recv(32) or 0)


if __name__ == "__main__":
    main(sys.argv[1:])
