"""Sockets at abstract addresses: this machine's alone, open no port, and are gone with the process that listens.

Any user of the machine can reach such an address, and guess one: each end looks whether the other one is its own user's. It knows
nothing of what is said. It imports next to nothing, because each worker's start waits for it.
"""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["accepted", "connected", "listening", "peer_of", "reach"]

_PEER = struct.Struct("3i")  # pid, user, group
_BACKLOG = 128


def listening(name: str) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: Another process does.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(f"\0{name}")
    listener.listen(_BACKLOG)
    return listener


def accepted(listener: socket.socket) -> socket.socket | None:
    """The next connection; None where it is another user's, or somebody else took it."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    return _ours(connection)


def connected(name: str) -> socket.socket | None:
    """A connection to whoever listens there; None where nobody does, or another user."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{name}")
    except OSError:
        connection.close()
        return None
    return _ours(connection)


def peer_of(connection: socket.socket) -> int:
    """The pid at the other end (of a listener's connection: of who began to listen); 0 where it is another user's."""
    pid, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(pid) if user == os.getuid() else 0


def reach() -> str:
    """A name for where such addresses are reached: on this machine, since its last start, in this process's network namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()}.{os.stat('/proc/self/ns/net').st_ino}"


def _ours(connection: socket.socket) -> socket.socket | None:
    if peer_of(connection):
        return connection
    connection.close()
    return None
