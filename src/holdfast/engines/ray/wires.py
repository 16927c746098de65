"""The driver's end of the sockets to the attempts on its own node.

Between processes of one machine a socket is many times as fast as Ray's calls, and opens no port. It knows messages and who sent
them; it does not know what they lead to, nor attempts elsewhere.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket

from holdfast._worker.protocol import Answer, FrameReader, frame
from holdfast.engines.ray.abstract import accepted, listening
from holdfast.engines.ray.messages import FromActor, Placed, decode_from_actor

__all__ = ["Wires"]

_RECEIVED = 64 * 1024


class Wires:
    """A listening socket, and the connections of attempts.

    Args:
        bell: A descriptor that ends a `wait` as well.

    Attributes:
        name: The address. Drawn at random: who is told it is one of this driver's actors.
    """

    def __init__(self, bell: int) -> None:
        self.name = f"holdfast-{secrets.token_hex(16)}"
        self._listener = listening(self.name)
        self._epoll = select.epoll()
        for descriptor in (bell, self._listener.fileno()):
            self._epoll.register(descriptor, select.EPOLLIN)
        self._wires: dict[int, _Wire] = {}
        self._of: dict[tuple[str, int], _Wire] = {}

    def wait(self, timeout: float) -> None:
        """Waits up to `timeout` seconds for a message, or the bell."""
        self._epoll.poll(timeout)

    def received(self) -> list[FromActor]:
        """All that has been sent, by processes that are gone too; each attempt's part in order."""
        messages: list[FromActor] = []
        while ready := [descriptor for descriptor, _ in self._epoll.poll(0) if self._is_ours(descriptor)]:
            for descriptor in ready:
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    messages += self._heard(descriptor)
        return messages

    def reach(self, trial_id: str, attempt: int) -> bool:
        """Whether the attempt has a connection."""
        return (trial_id, attempt) in self._of

    def answer(self, answer: Answer) -> None:
        """Sends an answer to an attempt that has a connection."""
        self._of[answer.trial_id, answer.attempt].send(answer)

    def hang_up(self) -> None:
        """Tells all attempts that nothing more is to come."""
        for wire in self._wires.values():
            wire.hang_up()

    def close(self) -> None:
        """Lets all go; attempts that are there yet end when they next want something."""
        self._listener.close()
        for wire in self._wires.values():
            wire.connection.close()
        self._epoll.close()
        self._wires, self._of = {}, {}

    def _is_ours(self, descriptor: int) -> bool:
        return descriptor in self._wires or descriptor == self._listener.fileno()

    def _accept(self) -> None:
        connection = accepted(self._listener)
        if connection is not None:
            self._wires[connection.fileno()] = _Wire(connection)
            self._epoll.register(connection, select.EPOLLIN)

    def _heard(self, descriptor: int) -> list[FromActor]:
        wire = self._wires[descriptor]
        messages = wire.received()
        if messages is None:
            self._forget(wire)
            self._epoll.unregister(descriptor)
            self._wires.pop(descriptor).connection.close()
            return []
        for message in messages:
            if isinstance(message, Placed):
                self._forget(wire)
                wire.attempt = message.trial_id, message.attempt
                self._of[wire.attempt] = wire
        return messages

    def _forget(self, wire: _Wire) -> None:
        if wire.attempt is not None:
            del self._of[wire.attempt]
            wire.attempt = None


class _Wire:
    """One connection; `attempt` is the one that it serves now."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.attempt: tuple[str, int] | None = None
        self._reader = FrameReader()

    def received(self) -> list[FromActor] | None:
        """The messages that have arrived; None at the end."""
        try:
            data = self.connection.recv(_RECEIVED)
        except ConnectionResetError:
            return None
        return [decode_from_actor(body) for body in self._reader.feed(data)] if data else None

    def send(self, answer: Answer) -> None:
        """Sends an answer. There is room for it: whoever waits for one has been sent nothing else."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead, and others will say so
            self.connection.sendall(frame(answer))

    def hang_up(self) -> None:
        """Ends this direction; the other one goes on."""
        with contextlib.suppress(OSError):  # it is dead, and others will say so
            self.connection.shutdown(socket.SHUT_WR)
