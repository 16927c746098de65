"""A crash at every operation on the disk, by kill and by power cut, and again during the recovery from it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from holdfast._core.events import TailCut
from holdfast._journal import Journal, read, verify
from holdfast._journal.compaction import PACK_AT
from holdfast.errors import ExperimentNotFound, StorageError
from holdfast.testing.disk import SimulatedStorage, crash
from journal_tools import add, born, put, take, texts

pytestmark = pytest.mark.slow

LONG = "x" * 3000  # so that unsynced records span pages


@dataclass
class Witness:
    """What was promised, and how many operations the disk had done by then."""

    storage: SimulatedStorage
    strict: bool = False
    history: list[str] = field(default_factory=list)
    promises: list[tuple[int, int, int]] = field(default_factory=list)  # (operations, acknowledged, durable)

    def add(self, journal: Journal, *words: str) -> None:
        add(journal, *words)
        if self.strict:
            journal.sync(mark=False)
        self.history += words
        self.note(journal)

    def note(self, journal: Journal) -> None:
        assert journal.next_position == len(self.history) + 1
        self.promises.append((len(self.storage.log), len(self.history), journal.durable))

    def promised(self, operations: int, mode: str) -> int:
        """How many records must be there after a crash before that operation. Position 0 is the birth."""
        return max((p[1 if mode == "kill" else 2] for p in self.promises if p[0] <= operations), default=0)


def life(storage: SimulatedStorage, *, strict: bool) -> Witness:
    """Three drivers: one that vanishes, one that rotates its file, one that closes; with syncs, snapshots and marks."""
    witness = Witness(storage, strict=strict)
    born(storage)
    first = take(storage)
    for n in range(3):
        witness.add(first, f"1.{n}", f"1.{n} {LONG}")
        first.tick(n * 0.07)
        witness.note(first)
    second = take(storage, segment_bytes=9000)
    for n in range(5):
        witness.add(second, f"2.{n} {LONG}")
        if n == 2:
            second.sync()
            witness.note(second)
            second.save_snapshot(1, second.durable, b"state")
    third = take(storage)
    witness.add(third, "3.0")
    third.close()
    witness.note(third)
    return witness


def recover(found: SimulatedStorage, witness: Witness, promised: int) -> None:
    """Restores, checks all promises, and lives on."""
    before = texts(found)
    assert before == witness.history[: len(before)]
    assert len(before) >= promised
    journal = take(found)
    assert texts(found) == before
    if journal.cuts:
        put(journal, journal.cuts, 1.0, 2.0)
    snapshot = journal.load_snapshot(1)
    assert snapshot is None or snapshot[0] <= len(before)
    add(journal, "after")
    journal.close()
    assert texts(found) == [*before, "after"]
    assert not [problem for problem in verify(found) if problem.fatal]


@pytest.mark.parametrize("mode", ["kill", "power"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_crash_at_every_operation(mode: str, strict: bool, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    storage = SimulatedStorage()
    witness = life(storage, strict=strict)
    if strict:
        assert all(acknowledged == durable for _, acknowledged, durable in witness.promises)
    for at in range(len(storage.log) + 1):
        found = crash(storage, at, rng, mode)
        promised = witness.promised(at, mode)
        try:
            recover(found, witness, promised)
        except ExperimentNotFound:
            assert promised == 0
            assert at == 0
            continue
        again = crash(found, rng.randint(0, len(found.log)), rng, mode)
        history = texts(again)
        kept = [text for text in history if text != "after"]
        assert kept == witness.history[: len(kept)]
        assert len(kept) >= promised
        take(again).close()
        assert texts(again) == history


def test_a_crash_at_every_operation_of_a_recovery_loses_nothing_it_had_found() -> None:
    seed = 3
    print("seed", seed)
    rng = random.Random(seed)
    storage = SimulatedStorage()
    born(storage)
    journal = take(storage)
    add(journal, "durable")
    journal.sync()
    for n in range(4):
        add(journal, f"{n} {LONG}")
    broken = crash(storage, len(storage.log), rng, "power")
    recovering = crash(broken, 0, rng, "kill")
    kept = take(recovering)
    assert len(kept.cuts) == 1
    found = texts(recovering)
    put(kept, [*kept.cuts], 1.0, 2.0)
    kept.close()
    for at in range(len(recovering.log) + 1):
        again = crash(recovering, at, rng, "power")
        assert texts(again) == found
        second = take(again)
        told = [r.event for r in read(second.storage) if isinstance(r.event, TailCut)]
        # The cut is told once: on record already, or left to be told. (The recovery's own torn header may be cut, too.)
        assert told + [cut for cut in second.cuts if cut in kept.cuts] == kept.cuts


def test_a_failed_sync_loses_nothing_durable_then_or_later() -> None:
    for seed in range(20):
        print("seed", seed)
        rng = random.Random(seed)
        storage = SimulatedStorage()
        born(storage)
        journal = take(storage)
        add(journal, "durable")
        journal.sync()
        add(journal, f"written {LONG}", f"too {LONG}")
        storage.fail_sync(1)
        journal.tick(10.0)
        assert journal.durable == 1
        with pytest.raises(StorageError):
            add(journal, "refused")
        journal.close()
        assert not storage.exists("journal/epochs/00000001.seal")
        # The pages still read, and are lost at the next power cut: the heir must not rest on them.
        heir = take(storage)
        assert len(texts(storage)) == 3
        assert heir.durable == 3
        found = crash(storage, len(storage.log), rng, "power")
        assert texts(found) == texts(storage)


def test_a_full_disk_at_every_byte() -> None:
    storage = SimulatedStorage()
    born(storage)
    take(storage)
    frame = 60
    for room in range(3 * frame):
        storage = SimulatedStorage()
        born(storage)
        journal = take(storage)
        acknowledged: list[str] = []
        storage.fill(room)
        refused = False
        for n in range(10):
            try:
                add(journal, f"{n:02d}")
            except StorageError:
                refused = True
                break
            acknowledged.append(f"{n:02d}")
        assert refused
        storage.fill(None)
        with pytest.raises(StorageError):
            add(journal, "there is room again, and still nothing may follow the torn record")
        journal.close()
        heir = take(storage)
        add(heir, "after")
        assert texts(storage) == [*acknowledged, "after"]


@pytest.mark.parametrize("mode", ["kill", "power"])
def test_a_crash_at_every_operation_of_a_compaction(mode: str) -> None:
    seed = 4
    print("seed", seed)
    rng = random.Random(seed)
    storage = SimulatedStorage()
    born(storage)
    for n in range(PACK_AT):
        journal = take(storage)
        add(journal, f"{n}")
        if n % 3 == 0:
            journal.close()
    before = len(storage.log)
    take(storage).close()
    history = texts(storage)
    assert storage.names("journal/packs") == ["00000001-00000016.pack"]
    assert storage.names("journal") == ["00000017-0000.log", "birth", "epochs", "packs"]
    for at in range(before, len(storage.log) + 1):
        found = crash(storage, at, rng, mode)
        assert texts(found) == history
        take(found)
        assert texts(found) == history
        assert not [problem for problem in verify(found) if problem.fatal]
