"""Whether raylets still listen where they did: the first word that a node is lost, seconds before Ray gives it up.

Knows addresses and how connecting to them ended. Nothing is sent, and nobody is waited for.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Collection, Mapping

__all__ = ["Doors"]

Address = tuple[str, int]


class Doors:
    """Knocks at doors, and looks later what came of it."""

    def __init__(self) -> None:
        self._knocks: dict[str, tuple[socket.socket, int]] = {}  # with what connecting said at once
        self._were_open: set[str] = set()

    def knock(self, addresses: Mapping[str, Address], watched: Collection[str]) -> None:
        """Begins to connect to nodes that are watched or have never been open, but where the last knock has not been answered."""
        for node, (host, port) in addresses.items():
            if node not in self._knocks and (node in watched or node not in self._were_open):
                knock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
                knock.setblocking(False)
                try:
                    self._knocks[node] = knock, knock.connect_ex((host, port))
                except OSError:  # a host's name that nobody here resolves
                    self._knocks[node] = knock, errno.EHOSTUNREACH

    def refused(self) -> set[str]:
        """The nodes that have refused since this was last asked: there is the machine, and the raylet is not.

        One that never accepted is none of them: to whoever asks from outside its address may mean another machine. Where no
        answer comes the network may be cut, and nothing is known.
        """
        answers = {node: _answer(*knock) for node, knock in self._knocks.items()}
        for node in [node for node, answer in answers.items() if answer != errno.EINPROGRESS]:
            self._knocks.pop(node)[0].close()
        self._were_open |= {node for node, answer in answers.items() if answer == 0}
        return {node for node, answer in answers.items() if answer == errno.ECONNREFUSED} & self._were_open

    def close(self) -> None:
        """Gives up what has not been answered."""
        for knock, _ in self._knocks.values():
            knock.close()
        self._knocks = {}


def _answer(knock: socket.socket, said: int) -> int:
    """How connecting ended, as an errno; EINPROGRESS while it has not."""
    if said != errno.EINPROGRESS:
        return said
    poll = select.poll()
    poll.register(knock, select.POLLOUT)
    return knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if poll.poll(0) else said
