"""Snapshots: a shortcut for replay, never needed.

Knows which snapshot lies on the surviving history. It refuses to know what is in one. Whatever is wrong with a snapshot, it
does not count: losing or damaging any of them is no damage.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from holdfast._journal import layout
from holdfast._journal.codec import SNAPSHOT, unwrap, wrap
from holdfast.errors import JournalError
from holdfast.storage.base import Storage

__all__ = ["Epochs", "load_snapshot", "readable", "save_snapshot", "snapshots"]

_KEPT = 2


class Epochs(Protocol):
    """What a snapshot must know of the journal, of either kind."""

    storage: Storage
    experiment_id: str

    def last_of(self, epoch: int) -> int | None:
        """The last position of an epoch that counts; None where none of its records can become void any more, or yet."""


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    position: int
    schema: int
    payload: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


def save_snapshot(epochs: Epochs, epoch: int, schema: int, position: int, payload: bytes) -> None:
    """Publishes a snapshot whole, and deletes all but the newest two. The caller sees to it that `position` is durable."""
    data = wrap(SNAPSHOT, epochs.experiment_id, _encode(_Snapshot(epoch, position, schema, payload)))
    epochs.storage.put_if_absent(layout.snapshot_path(epoch, position), data)
    for path in snapshots(epochs)[:-_KEPT]:
        epochs.storage.delete(path)


def load_snapshot(epochs: Epochs, schema: int, written: int) -> tuple[int, bytes] | None:
    """The newest snapshot of this schema that lies on the surviving history; None where there is none.

    Args:
        epochs: The epochs.
        schema: The schema that the caller understands.
        written: The last position on record.
    """
    for path in reversed(snapshots(epochs)):
        snapshot = _sound(epochs, path)
        if snapshot is None or snapshot.schema != schema or snapshot.position > written:
            continue
        last = epochs.last_of(snapshot.epoch)
        # A driver that was taken over may have folded records that the seal of its epoch made void.
        if last is None or snapshot.position <= last:
            return snapshot.position, snapshot.payload
    return None


def snapshots(epochs: Epochs) -> list[str]:
    """The paths of all snapshots, oldest first."""
    return [f"{layout.SNAPSHOTS}/{name}" for name in epochs.storage.names(layout.SNAPSHOTS) if name.endswith(".snap")]


def readable(epochs: Epochs, path: str) -> bool:
    """Whether a snapshot reads, of whatever schema."""
    return _sound(epochs, path) is not None


def _sound(epochs: Epochs, path: str) -> _Snapshot | None:
    try:
        snapshot = _decode(unwrap(SNAPSHOT, epochs.experiment_id, epochs.storage.read(path), path))
    except (JournalError, FileNotFoundError, msgspec.MsgspecError):
        return None  # damaged, deleted meanwhile or of another version: replay does without
    return snapshot if path == layout.snapshot_path(snapshot.epoch, snapshot.position) else None
