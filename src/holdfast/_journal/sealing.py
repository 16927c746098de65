"""Sealing an epoch whose driver did not: where its history ends is decided here, once and for ever.

Knows rule 5 of the recovery rules. What was not covered by a sync mark is written anew, into the seal itself, so that a failed
fsync, after which nobody knows what the disk has, needs nothing else. It refuses to know what the records are.
"""

from __future__ import annotations

from holdfast import faults
from holdfast._journal import layout
from holdfast._journal.ledger import Cut, Ledger, Seal
from holdfast._journal.reader import records_of
from holdfast._journal.segment import read_tail
from holdfast.errors import InternalError

__all__ = ["seal_epoch"]


def seal_epoch(ledger: Ledger, epoch: int, by: int) -> Seal:
    """Seals `epoch` on behalf of the driver of epoch `by`, which has claimed; returns the seal that stands.

    Of two that seal at once one wins, and both go by its seal. Damaged bytes behind the last sync mark are kept first.

    Raises:
        JournalError: It is damaged where it was durable. No seal was written.
    """
    before = ledger.seal(epoch - 1)
    if before is None:
        raise InternalError(f"epoch {epoch} is to be sealed before epoch {epoch - 1}")
    tail = read_tail(ledger, epoch, before.last + 1)
    moved = sum(offset >= tail.covered for offset in tail.part.offsets)
    for _checked in records_of([tail.part], epoch, after=tail.part.next - 1 - moved):
        pass  # what goes into the seal must be the records that belong there
    cut = None
    if tail.end < tail.size:
        cut = Cut(tail.part.file, tail.end, tail.size - tail.end)
        kept = ledger.storage.read(tail.part.file, tail.end)
        ledger.storage.put_if_absent(layout.cut_path(epoch, tail.segment, tail.end), kept)
    faults.reach("before_seal")
    standing = ledger.publish_seal(
        Seal(
            epoch=epoch,
            by=by,
            segment=tail.segment,
            covered=tail.covered,
            tail=tail.tail,
            salt=tail.salt,
            first=before.last + 1,
            last=tail.part.next - 1,
            cut=cut,
        )
    )
    faults.reach("after_seal")
    return standing
