"""The mailbox: the one actor through which an experiment's attempts on other nodes than the driver's talk with it.

An attempt has the main thread of its actor for itself, so nobody can call it. It calls the mailbox instead: to tell, or to ask
and wait. The driver takes what has come, and leaves answers. The mailbox knows neither rows nor attempts; it holds nothing
that is not in somebody's hand: when it is lost, so are the attempts that it served.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["AT_ONCE", "Mailbox", "Place"]

AT_ONCE = 10_000
"""How many attempts may wait for an answer at a time."""

Place = tuple[str, int, int]
"""Trial, attempt, row."""


class Mailbox:
    """An asyncio actor; its methods are called through Ray."""

    def __init__(self) -> None:
        self._arrived: list[Any] = []
        self._news = asyncio.Event()
        self._asking: dict[Place, asyncio.Future[bytes | None]] = {}
        self._closed = False

    async def tell(self, message: Any) -> None:
        """Takes a message; when this returns, all that is told later arrives later."""
        self._arrived.append(message)
        self._news.set()

    async def ask(self, message: bytes, place: Place) -> bytes | None:
        """Takes a row and waits for what answers it; None when the driver wants nothing more."""
        if self._closed:
            return None
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asking[place] = answer
        await self.tell(message)
        return await answer

    async def take(self, answers: dict[Place, bytes]) -> list[Any]:
        """Leaves answers, then returns what has arrived since the last call; waits until something has."""
        await self.answer(answers)
        await self._news.wait()
        self._news.clear()
        arrived, self._arrived = self._arrived, []
        return arrived

    async def answer(self, answers: dict[Place, bytes]) -> None:
        """Leaves answers. Nothing happens with one that nobody waits for."""
        for place, answer in answers.items():
            waiting = self._asking.pop(place, None)
            if waiting is not None:
                waiting.set_result(answer)

    async def close(self) -> None:
        """From now on nobody is answered: those who wait are told so."""
        self._closed = True
        for waiting in self._asking.values():
            waiting.set_result(None)
        self._asking.clear()
