"""The actors without an attempt: those that wait for one, and those that are cleaning up to leave."""

from __future__ import annotations

from holdfast._core.commands import StartAttempt
from holdfast.engines.ray.bell import Bell
from holdfast.engines.ray.seat import Left, Seat

__all__ = ["Idle"]


class Idle:
    """Seats between attempts, or behind their last.

    Args:
        bell: Rings with `Left` for each that was dismissed.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._waiting: list[Seat] = []
        self._leaving: set[Seat] = set()

    def add(self, seat: Seat) -> None:
        """Keeps a seat whose attempt is over."""
        self._waiting.append(seat)

    def take(self, order: StartAttempt) -> Seat | None:
        """A seat with what the order wants. Where there is none, all are dismissed: they hold what a new one may wait for."""
        given = order.resources, order.placement
        seat = next((waiting for waiting in self._waiting if waiting.given == given), None)
        if seat is None:
            self.dismiss()
        else:
            self._waiting.remove(seat)
        return seat

    def dismiss(self) -> None:
        """Has all clean up and end."""
        for seat in self._waiting:
            seat.leave(self._bell)
        self._leaving |= {*self._waiting}
        self._waiting = []

    def has_left(self, left: Left) -> None:
        """One that was dismissed is gone."""
        left.seat.give_up()
        self._leaving.discard(left.seat)

    def are_leaving(self) -> bool:
        """Whether some that were dismissed are there yet."""
        return bool(self._leaving)

    def kill(self, *, leaving: bool) -> None:
        """Ends at once those that wait, and those that are leaving where that is wanted too."""
        for seat in (*self._waiting, *(self._leaving if leaving else ())):
            seat.kill()
            seat.give_up()
        self._waiting = []
