"""`verify_files`: reads everything and tells of all damage at once, writing nothing.

Knows every file of a journal. It refuses to mend anything.
"""

from __future__ import annotations

import msgspec

from holdfast._journal import layout
from holdfast._journal.ledger import Ledger
from holdfast._journal.reader import records_of
from holdfast._journal.segment import live_parts, read_tail, sealed_parts
from holdfast._journal.snapshot import readable, snapshots
from holdfast.errors import JournalError
from holdfast.storage.base import Storage

__all__ = ["Problem", "problem_of", "verify_files"]


class Problem(msgspec.Struct, frozen=True):
    """Something that does not read.

    Attributes:
        file: Where, below the experiment's directory.
        offset: The byte.
        problem: What is wrong.
        remedy: What to do.
        fatal: Whether the experiment cannot be restored because of it.
    """

    file: str
    offset: int
    problem: str
    remedy: str
    fatal: bool


def verify_files(storage: Storage) -> list[Problem]:
    """All damage in a journal; empty where it is sound. Writes nothing, and may run beside a live driver.

    Raises:
        ExperimentNotFound: There is no experiment.
    """
    problems: list[Problem] = []
    try:
        ledger = Ledger(storage)
        newest = ledger.newest()
    except JournalError as error:
        return [problem_of(error)]
    for epoch in range(1, newest + 1):
        try:
            problems += _check_epoch(ledger, epoch)
        except JournalError as error:
            problems.append(problem_of(error))
    for path in snapshots(ledger):
        if not readable(ledger, path):
            problems.append(Problem(path, 0, "a snapshot that does not read", "None needed: replay does without it.", False))
    for name in storage.names(layout.PACKS):
        try:
            ledger.pack(f"{layout.PACKS}/{name}")
        except JournalError as error:
            problems.append(problem_of(error))
    return problems


def _check_epoch(ledger: Ledger, epoch: int) -> list[Problem]:
    ledger.claim(epoch)
    seal = ledger.seal(epoch)
    if seal is not None:
        _decode_all(ledger, epoch)
        return []
    before = ledger.seal(epoch - 1)
    if before is None:
        return []  # nothing can be on record behind an epoch without a seal
    for _record in records_of(live_parts(ledger, epoch, before.last + 1), epoch):
        pass
    tail = read_tail(ledger, epoch, before.last + 1)
    if tail.end == tail.size or ledger.seal(epoch) is not None:
        return []
    problem = f"{tail.size - tail.end} bytes behind the last sync mark do not read (a torn tail, or a write in progress)"
    return [Problem(tail.part.file, tail.end, problem, "None needed: a restore cuts them and keeps them aside.", False)]


def _decode_all(ledger: Ledger, epoch: int) -> None:
    seal = ledger.seal(epoch)
    if seal is not None:
        for _record in records_of(sealed_parts(ledger, seal), epoch):
            pass


def problem_of(error: JournalError) -> Problem:
    """The error as something that keeps the experiment from being restored."""
    return Problem(error.file, error.offset, error.problem, error.remedy, True)
