"""The port of an open journal: what the loop, recovery and snapshots ask of it, whatever it is made of.

*Written* survives any kill of processes on this machine; *durable* survives the machine. It refuses to know files and slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from holdfast._core.events import Event, Record, TailCut
from holdfast._journal.lease import Owner
from holdfast.storage.base import Storage

__all__ = ["Journal"]


class Journal(Protocol):
    """An open journal. One thread calls it; `durable` may be read from any.

    After `Fenced` or `StorageError` it is at its end: each later call raises the same, and nothing more is written.

    Attributes:
        epoch: This driver's epoch.
        next_position: The position of the next record.
        durable: The last position that no loss of this machine's power can take away.
        cuts: What opening cut off and no record tells yet.
        previous: The driver of the epoch before; None for the first.
        previous_closed: Whether that one closed in good order; True for the first.
        closed: Whether `close` was called.
    """

    epoch: int
    next_position: int
    durable: int
    cuts: list[TailCut]
    previous: Owner | None
    previous_closed: bool
    closed: bool

    @property
    def storage(self) -> Storage:
        """The experiment's directory."""

    def older(self, after: int = -1) -> Iterator[Record]:
        """The records behind position `after` up to where this driver took charge: what it replays, before it adds any.

        What a later driver has added meanwhile is none of them.

        Raises:
            JournalError: Something durable does not read. The records before it have been given out.
        """

    def stage(self, events: Sequence[Event], time: float, wall: float) -> list[Record]:
        """Gives events their places; `time` is experiment time, `wall` seconds since 1970. Nothing may rest on them yet.

        Raises:
            Fenced: Another driver has taken over, as an earlier call has said.
            StorageError: The disk or store refused, likewise.
        """

    def flush(self) -> None:
        """Writes what is staged. When it returns that is written, and no later driver that this machine can see had claimed.

        Raises:
            Fenced: Another driver has taken over: nothing of this may be acknowledged or acted on.
            StorageError: The disk or store refuses: likewise.
        """

    def in_charge(self) -> bool:
        """Whether no later driver has claimed the experiment yet."""

    def sync(self, *, mark: bool = True) -> None:
        """Makes all records durable; `mark`: and says so in the journal, where it has a place for that.

        Raises:
            Fenced: Another driver has taken over.
            StorageError: The disk or store refuses.
        """

    def tick(self, now: float) -> None:
        """Without threads: does what is due at `now` (monotonic seconds). Otherwise does nothing."""

    def close(self, seal: bool = True) -> None:
        """Makes all durable and ends the epoch, so that the next driver need not wait; without `seal` leaves it as a crash would.

        After `Fenced` or `StorageError` nothing is written. May be called twice.

        Raises:
            StorageError: The disk or store refuses; the epoch is left as by a crash.
        """

    def save_snapshot(self, schema: int, position: int, payload: bytes) -> None:
        """Publishes a snapshot of the history up to `position`.

        Raises:
            InternalError: `position` is not durable yet: the history could lose what the snapshot has.
        """

    def load_snapshot(self, schema: int) -> tuple[int, bytes] | None:
        """The newest sound snapshot of this schema on the surviving history, as `(position, payload)`; or None."""

    def compact(self) -> int:
        """Packs what can be packed into fewer files; returns how many went. Drops no record."""
