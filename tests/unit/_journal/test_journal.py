from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from holdfast import faults
from holdfast._core.events import ExperimentCreated, InexactFound
from holdfast._journal import create, exists, open_journal, read
from holdfast._journal.frame import HEADER_SIZE
from holdfast.errors import ExperimentNotFound, InternalError, StorageError
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from journal_tools import Clock, add, birth, born, owner, take, texts

FIRST = "journal/00000001-0000.log"


@pytest.fixture
def storage():
    return born(SimulatedStorage())


def operations(storage: SimulatedStorage, *kinds: str) -> list[tuple[str, str]]:
    return [(done.kind, done.path) for done in storage.log if done.kind in kinds]


def test_a_birth_is_written_once():
    storage = SimulatedStorage()
    assert not exists(storage)
    with pytest.raises(ExperimentNotFound):
        list(read(storage))
    with pytest.raises(ExperimentNotFound):
        take(storage)
    assert storage.log == []
    assert create(storage, birth(), wall=5.0)
    assert exists(storage)
    assert not create(storage, birth("f" * 32), wall=6.0)
    [record] = read(storage)
    assert (record.position, record.epoch, record.time, record.wall) == (0, 0, 0.0, 5.0)
    assert record.event == birth()


def test_records_come_back_as_they_were_returned(storage):
    journal = take(storage)
    assert (journal.epoch, journal.next_position, journal.durable) == (1, 1, 0)
    written = add(journal, "a", "b") + add(journal) + add(journal, "c")
    assert [(record.position, record.epoch) for record in written] == [(1, 1), (2, 1), (3, 1)]
    assert journal.next_position == 4
    assert list(read(storage))[1:] == written
    assert list(read(storage, after=1)) == written[1:]
    assert list(read(storage, after=3)) == []
    assert isinstance(next(iter(read(storage))).event, ExperimentCreated)


def test_a_batch_is_one_write(storage):
    journal = take(storage)
    before = len(storage.log)
    add(journal, "a", "b", "c")
    assert operations(storage, "write", "sync")[-1] == ("write", FIRST)
    assert len(storage.log) == before + 1


def test_what_is_staged_is_written_in_one_piece_with_the_flush(storage):
    journal = take(storage)
    before = len(storage.log)
    staged = journal.stage([InexactFound("x", 0, "a")], 1.0, 2.0)
    staged += journal.stage([InexactFound("x", 0, "b"), InexactFound("x", 0, "c")], 1.0, 2.0)
    assert [record.position for record in staged] == [1, 2, 3]
    assert len(storage.log) == before
    journal.flush()
    journal.flush()
    assert operations(storage, "write")[-1] == ("write", FIRST)
    assert len(storage.log) == before + 1
    assert list(read(storage))[1:] == staged


def test_what_is_staged_and_never_flushed_is_on_no_record(storage):
    journal = take(storage)
    written = add(journal, "a")
    journal.stage([InexactFound("x", 0, "b")], 1.0, 2.0)
    journal.sync()
    journal.close()
    assert list(read(storage))[1:] == written
    assert take(storage).next_position == 2


def test_a_sync_is_followed_by_a_mark_with_the_next_append(storage):
    journal = take(storage)
    add(journal, "a")
    assert journal.durable == 0
    journal.tick(50.0)
    assert journal.durable == 1
    size = len(storage.read(FIRST))
    add(journal, "b")
    add(journal, "c")
    frame = len(storage.read(FIRST)) - size - 33
    assert frame == 2 * (size - HEADER_SIZE)  # one mark of 33 bytes, and two frames like the first


def test_ticks_sync_at_most_every_tenth_of_a_second(storage):
    journal = take(storage)
    syncs = []
    for n in range(100):
        now = 7.0 + n / 50
        add(journal, n)
        before = journal.durable
        journal.tick(now)
        if journal.durable > before:
            assert journal.durable == journal.next_position - 1
            syncs.append(now)
    assert len(syncs) == 20
    assert all(later - earlier > 0.0999 for earlier, later in pairwise(syncs))
    done = len(storage.log)
    journal.tick(8.99)
    journal.tick(9.5)
    assert [done.kind for done in storage.log[done:]] == ["sync"]  # the rest; then nothing is left to sync


def test_ticks_beat_every_five_seconds(storage):
    journal = take(storage)
    for now in (0.0, 1.0, 4.9, 5.0, 9.9, 10.1, 15.0, 15.2):
        journal.tick(now)
    assert storage.read("journal/epochs/00000001.beat") == b"...."


def test_records_can_be_made_durable_without_a_mark(storage):
    journal = take(storage)
    add(journal, "a", "b")
    journal.sync(mark=False)
    assert journal.durable == 2
    assert [done.kind for done in storage.log[-2:]] == ["write", "sync"]


def test_sync_marks_at_once(storage):
    journal = take(storage)
    add(journal, "a")
    journal.sync()
    assert journal.durable == 1
    assert [done.kind for done in storage.log[-2:]] == ["sync", "write"]
    done = len(storage.log)
    journal.sync()
    assert len(storage.log) == done


def test_segments_rotate_when_the_old_one_is_durable(storage):
    journal = take(storage, segment_bytes=200)
    for n in range(20):
        add(journal, f"{n}")
    names = [name for name in storage.names("journal") if name.endswith(".log")]
    assert names == [f"00000001-{n:04d}.log" for n in range(len(names))]
    assert len(names) > 3
    assert all(len(storage.read(f"journal/{name}")) <= 200 for name in names)
    created = [index for index, done in enumerate(storage.log) if done.kind == "create" and done.path.endswith(".log")]
    for index in created[1:]:
        assert storage.log[index - 1].kind == "sync"
    assert journal.durable >= 18
    assert texts(storage) == [f"{n}" for n in range(20)]
    add(journal, "longer than a segment " * 20)
    add(journal, "and on")
    assert len(texts(storage)) == 22


def test_closing_seals_so_that_nobody_waits(storage):
    journal = take(storage)
    add(journal, "a")
    journal.close()
    journal.close()
    assert journal.durable == 1
    with pytest.raises(InternalError):
        add(journal, "b")
    with pytest.raises(InternalError):
        journal.sync()
    clock = Clock()
    heir = open_journal(storage, owner=owner(2), clock=clock, threads=False)
    assert clock.now == Clock().now
    assert (heir.epoch, heir.next_position, heir.durable) == (2, 2, 1)
    assert (heir.previous, heir.previous_closed, heir.cuts) == (owner(), True, [])


def test_closing_without_a_seal_leaves_it_as_a_crash_would_but_durable(storage):
    journal = take(storage)
    add(journal, "a")
    journal.close(seal=False)
    assert journal.durable == 1
    heir = take(storage)
    assert not heir.previous_closed
    assert texts(storage) == ["a"]


def test_a_failed_sync_ends_the_journal(storage):
    journal = take(storage)
    add(journal, "a")
    storage.fail_sync(1)
    with pytest.raises(StorageError) as first:
        journal.sync()
    done = len(storage.log)
    for attempt in (lambda: add(journal, "b"), journal.sync):
        with pytest.raises(StorageError) as again:
            attempt()
        assert again.value is first.value
    journal.tick(99.0)
    journal.close()
    assert len(storage.log) == done


def test_an_interrupted_append_ends_the_journal(storage):
    """Ctrl+C between the write and its bookkeeping: a second record must not take the same position."""
    journal = take(storage)

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    for point in ("after_write", "before_write", "in_write"):
        faults.arm(point, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            add(journal, point)
        faults.disarm()
        with pytest.raises(StorageError, match="restore"):
            add(journal, "b")
        journal.close()
        journal = take(storage)
    assert texts(storage) == ["after_write"]


class Watched(SimulatedStorage):
    """Tells of a sync of records; holds it back until `go`."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.reached = threading.Event()

    def sync(self, path):
        self.reached.set()
        assert self.go.wait(20)
        super().sync(path)


def test_the_keeper_syncs_while_the_driver_appends():
    storage = born(Watched())
    journal = take(storage, threads=True)
    storage.go.clear()
    storage.reached.clear()
    add(journal, "a")
    assert storage.reached.wait(20)
    add(journal, "b")  # is not held up by the sync in progress
    assert journal.durable == 0
    storage.go.set()
    journal.close()
    assert journal.durable == 2
    assert texts(storage) == ["a", "b"]
    assert storage.read("journal/epochs/00000001.beat")


def test_a_sync_that_fails_in_the_keeper_reaches_the_driver():
    storage = born(Watched())
    journal = take(storage, threads=True)
    storage.fail_sync(1)
    storage.reached.clear()
    add(journal, "a")
    assert storage.reached.wait(20)
    journal.close()
    assert journal.durable == 0
    assert not storage.exists("journal/epochs/00000001.seal")
    assert texts(storage) == ["a"]


def test_on_a_real_disk(tmp_path):
    storage = born(LocalStorage(tmp_path / "experiment"))
    for n in range(20):
        journal = take(storage, threads=True, segment_bytes=500)
        for m in range(5):
            add(journal, f"{n} {m}")
        journal.close(seal=n % 2 == 0)
    assert texts(storage) == [f"{n} {m}" for n in range(20) for m in range(5)]
    assert not list(tmp_path.rglob(".tmp*"))


@pytest.fixture(autouse=True)
def nothing_armed():
    yield
    faults.disarm()
