"""Reading a history on slots: once, as it grows, its end alone, or all of it to find damage.

It refuses to know who drives, and never writes: it may run beside a live driver. What a slot holds is final, so nothing that was
given out is ever taken back.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast._core.events import Record
from holdfast._journal.slots.chain import Chain, records_in
from holdfast._journal.slots.slot import START, Slot
from holdfast._journal.snapshot import readable, snapshots
from holdfast._journal.verify import Problem, problem_of
from holdfast.errors import JournalError
from holdfast.storage.base import Storage

__all__ = ["SlotFollower", "last_of_ended_slots", "read_slots", "verify_slots"]


def read_slots(storage: Storage, after: int = -1) -> Iterator[Record]:
    """All records behind position `after` that are on the store, in order; errors as `read`."""
    chain = Chain(storage)
    if after < 0:
        yield chain.birth
    for slot in chain.follow(START, after):
        yield from records_in(slot, after)


def last_of_ended_slots(storage: Storage) -> Record | None:
    """The last record of a journal whose last driver closed it; None where one crashed or is at work."""
    chain = Chain(storage)
    newest = chain.slot(chain.look().reach)
    if newest is not None and not newest.closes:
        return None  # where that is not the end, nothing is lost: a driver begins, and finds that there is nothing to do
    end = chain.end()
    if not end.number or not end.closes:
        return None
    last: Slot | None = end
    while last is not None and last.number > 1 and not last.records:
        last = chain.slot(last.number - 1)
    if last is not None and last.records and last.owner is None and last.next == end.next:
        return [*records_in(last)][-1]
    # It went into a pack, or a claim stands there, which counts only where no pack has its number.
    found = [record for slot in chain.follow(START, end.next - 2) for record in records_in(slot, end.next - 2)]
    return found[-1] if found else chain.birth


class SlotFollower:
    """Reads a history that grows. A `poll` that finds nothing costs two requests."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._chain: Chain | None = None
        self._last = START

    def poll(self) -> tuple[bool, list[Record]]:
        """What is new since the last call; the first of the two, whether all given out before is void, is always False."""
        records: list[Record] = []
        if self._chain is None:
            self._chain = Chain(self._storage)
            records.append(self._chain.birth)
        for slot in self._chain.follow(self._last):
            records += records_in(slot)
            self._last = slot
        return False, records


def verify_slots(storage: Storage) -> list[Problem]:
    """All damage as far as it can be read on; empty where the journal is sound."""
    try:
        chain = Chain(storage)
    except JournalError as error:
        return [problem_of(error)]
    problems: list[Problem] = []
    try:
        for slot in chain.follow(START):
            for _record in records_in(slot):
                pass
        chain.end()
    except JournalError as error:
        problems.append(problem_of(error))
    damaged = [path for path in snapshots(chain) if not readable(chain, path)]
    return problems + [
        Problem(path, 0, "a snapshot that does not read", "None needed: replay does without it.", False) for path in damaged
    ]
