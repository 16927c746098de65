"""The driver's picture of one worker process: its socket and the attempt that it runs.

This module knows one connection. It does not know the other workers, the server or what comes of an observation.
"""

from __future__ import annotations

import socket

from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded
from holdfast._worker.protocol import Devices, FrameReader, FromWorker, ToWorker, decode_from_worker, frame

__all__ = ["Worker"]

_RECEIVED = 64 * 1024  # below what malloc maps afresh for each call


class Worker:
    """A worker process as the driver sees it.

    Attributes:
        number: What driver and server call it.
        order: The attempt that it runs, or None while it is idle.
        pid: Its process, 0 until it is known.
        begun: Whether it has said that it took up `order`.
        used: Whether it has run an attempt before.
        ended: Its own word that the attempt is over, kept until its process is.
        devices: The GPUs that it sees.
        killed: Whether somebody here asked for its end.
    """

    def __init__(self, number: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.number = number
        self.connection = connection
        self.order: StartAttempt | None = None
        self.pid = 0
        self.begun = False
        self.used = False
        self.ended: AttemptEnded | None = None
        self.devices: tuple[str, ...] = ()
        self.killed = False
        self._reader = FrameReader()
        self._unsent = bytearray()

    def take_up(self, order: StartAttempt) -> bool:
        """Sends an attempt to the worker, behind the GPUs that it is to see; as `send`."""
        self.used = self.pid != 0
        self.order, self.begun, self.ended = order, False, None
        return self.send(Devices(",".join(self.devices)), order)

    def send(self, *messages: ToWorker) -> bool:
        """Sends, in one piece: each piece wakes the worker. False when some of it waits for the socket to take it (`flush`)."""
        data = frame(*messages)
        if self._unsent:
            self._unsent += data
            return False
        return self._push(data)

    def flush(self) -> bool:
        """Sends what waits; True when nothing waits any more."""
        return self._push(self._unsent)

    def received(self) -> list[FromWorker] | None:
        """The messages that have arrived; None at the end of the stream."""
        try:
            data = self.connection.recv(_RECEIVED)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            return None
        if not data:
            return None
        return [decode_from_worker(body) for body in self._reader.feed(data)]

    def _push(self, data: bytearray) -> bool:
        try:
            sent = self.connection.send(data)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            sent = len(data)  # it is dead; the server will say so
        self._unsent = data[sent:] if sent < len(data) else bytearray()
        return not self._unsent
