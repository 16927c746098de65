"""Compaction: the segments of many sealed epochs in one file, byte for byte.

Knows which segments may be moved. It refuses to know what is in them. A sealed epoch is an immutable fact, so this needs no
fence: two that compact at once write the same bytes, and a crash leaves a segment in its file, in a pack, or in both.
"""

from __future__ import annotations

import msgspec

from holdfast._journal import layout
from holdfast._journal.codec import PACK, wrap
from holdfast._journal.ledger import Ledger, Packed, Seal
from holdfast._journal.segment import sealed_parts
from holdfast.errors import JournalError

__all__ = ["PACK_AT", "compact", "packable"]

PACK_AT = 16
_LARGEST = 64 << 20

_encode = msgspec.msgpack.Encoder().encode


def packable(ledger: Ledger) -> list[Seal]:
    """The sealed epochs whose one segment still has a file of its own. One that has several segments gains nothing."""
    names = set(ledger.storage.names(layout.JOURNAL))
    seals: list[Seal] = []
    for epoch in range(1, ledger.newest() + 1):
        seal = ledger.seal(epoch)
        if seal is None:
            break
        name = layout.segment_path(epoch, 0).rpartition("/")[2]
        if seal.segment == 0 and seal.covered <= _LARGEST and name in names:
            seals.append(seal)
    return seals


def compact(ledger: Ledger) -> int:
    """Packs what can be packed; returns how many segment files went.

    The files of a pack are deleted when the pack is durable and was read back. No record, claim or seal is ever removed.

    Raises:
        JournalError: A segment does not read, or a pack does not read back. No file was deleted for it.
        StorageError: The disk refuses. What was packed so far is packed.
    """
    moved = 0
    batch: list[Packed] = []
    size = 0
    for seal in packable(ledger):
        sealed_parts(ledger, seal)  # what does not read is not moved
        data = ledger.storage.read(layout.segment_path(seal.epoch, 0))[: seal.covered]
        if batch and size + len(data) > _LARGEST:
            moved += _publish(ledger, batch)
            batch, size = [], 0
        batch.append(Packed(seal.epoch, 0, data))
        size += len(data)
    return moved + (_publish(ledger, batch) if batch else 0)


def _publish(ledger: Ledger, batch: list[Packed]) -> int:
    path = layout.pack_path(batch[0].epoch, batch[-1].epoch)
    ledger.storage.put_if_absent(path, wrap(PACK, ledger.experiment_id, _encode(batch)))
    held = Ledger(ledger.storage).pack(path)
    if any(packed not in held for packed in batch):
        remedy = "Delete that pack: its segments still have their files."
        raise JournalError(path, 0, "the pack does not hold what was packed", remedy)
    for packed in batch:
        ledger.storage.delete(layout.segment_path(packed.epoch, packed.segment))
        ledger.storage.delete(layout.beat_path(packed.epoch))
    return len(batch)
