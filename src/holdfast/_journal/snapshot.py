"""Snapshots: a shortcut for replay, never needed.

Knows which snapshot lies on the surviving history. It refuses to know what is in one. Whatever is wrong with a snapshot, it
does not count: losing or damaging any of them is no damage.
"""

from __future__ import annotations

import msgspec

from holdfast._journal import layout
from holdfast._journal.codec import SNAPSHOT, unwrap, wrap
from holdfast._journal.ledger import Ledger
from holdfast.errors import JournalError

__all__ = ["load_snapshot", "readable", "save_snapshot", "snapshots"]

_KEPT = 2


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    position: int
    schema: int
    payload: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


def save_snapshot(ledger: Ledger, epoch: int, schema: int, position: int, payload: bytes) -> None:
    """Publishes a snapshot whole, and deletes all but the newest two. The caller sees to it that `position` is durable."""
    data = wrap(SNAPSHOT, ledger.experiment_id, _encode(_Snapshot(epoch, position, schema, payload)))
    ledger.storage.put_if_absent(layout.snapshot_path(epoch, position), data)
    for path in snapshots(ledger)[:-_KEPT]:
        ledger.storage.delete(path)


def load_snapshot(ledger: Ledger, schema: int, written: int) -> tuple[int, bytes] | None:
    """The newest snapshot of this schema that lies on the surviving history; None where there is none.

    Args:
        ledger: The epochs.
        schema: The schema that the caller understands.
        written: The last position on record.
    """
    for path in reversed(snapshots(ledger)):
        snapshot = _sound(ledger, path)
        if snapshot is None or snapshot.schema != schema or snapshot.position > written:
            continue
        seal = ledger.seal(snapshot.epoch)
        # A driver that was taken over may have folded records that the seal of its epoch made void.
        if seal is None or snapshot.position <= seal.last:
            return snapshot.position, snapshot.payload
    return None


def snapshots(ledger: Ledger) -> list[str]:
    """The paths of all snapshots, oldest first."""
    return [f"{layout.SNAPSHOTS}/{name}" for name in ledger.storage.names(layout.SNAPSHOTS) if name.endswith(".snap")]


def readable(ledger: Ledger, path: str) -> bool:
    """Whether a snapshot reads, of whatever schema."""
    return _sound(ledger, path) is not None


def _sound(ledger: Ledger, path: str) -> _Snapshot | None:
    try:
        snapshot = _decode(unwrap(SNAPSHOT, ledger.experiment_id, ledger.storage.read(path), path))
    except (JournalError, FileNotFoundError, msgspec.MsgspecError):
        return None  # damaged, deleted meanwhile or of another version: replay does without
    return snapshot if path == layout.snapshot_path(snapshot.epoch, snapshot.position) else None
