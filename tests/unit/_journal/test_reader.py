from __future__ import annotations

import os

import pytest

from holdfast._journal import Follower, read, verify
from holdfast.errors import ExperimentNotFound, JournalError
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from journal_tools import add, born, take, texts


@pytest.fixture
def storage():
    return born(SimulatedStorage())


def words(records) -> list[str]:
    return [getattr(record.event, "order", "birth") for record in records]


def test_reading_changes_nothing_and_needs_no_right_to_write(tmp_path):
    storage = born(LocalStorage(tmp_path / "x"))
    journal = take(storage)
    add(journal, "a")
    journal.sync()
    add(journal, "b")

    def picture() -> list[tuple[str, int, int]]:
        return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*"))

    before = picture()
    for path in [tmp_path / "x", *(tmp_path / "x").rglob("*")]:
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    assert texts(storage) == ["a", "b"]
    assert Follower(storage).poll()[0] is False
    assert verify(storage) == []
    assert picture() == before
    for path in [tmp_path / "x", *(tmp_path / "x").rglob("*")]:
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    journal.close()


def test_a_reader_beside_a_live_driver_ends_at_what_is_written(storage):
    journal = take(storage, segment_bytes=150)
    for n in range(10):
        add(journal, f"{n}")
        assert texts(storage) == [f"{m}" for m in range(n + 1)]
    storage.append("journal/00000001-0000.log", b"")
    assert [record.position for record in read(storage, after=7)] == [8, 9, 10]


def test_a_follower_gives_each_record_once(storage):
    follower = Follower(storage)
    assert words(follower.poll()[1]) == ["birth"]
    assert follower.poll() == (False, [])
    journal = take(storage, segment_bytes=150)
    assert follower.poll() == (False, [])
    seen = []
    for n in range(12):
        add(journal, f"{n}")
        if n % 5 == 0:
            journal.sync()
        if n % 2:
            seen += follower.poll()[1]
    journal.close()
    heir = take(storage)
    add(heir, "heir")
    seen += follower.poll()[1]
    assert follower.poll() == (False, [])
    assert seen == list(read(storage))[1:]


def test_a_follower_of_nothing_says_so():
    with pytest.raises(ExperimentNotFound):
        Follower(SimulatedStorage()).poll()


def test_a_follower_waits_for_the_rest_of_a_record(storage):
    journal = take(storage)
    add(journal, "a")
    path = "journal/00000001-0000.log"
    add(journal, "b")
    files = storage.files()
    whole = files[path]
    follower = None
    for size in range(len(whole) + 1):
        partial = SimulatedStorage()
        partial.begin_with({**files, path: whole[:size]})
        if follower is None:
            follower = Follower(partial)
            growing = partial
            file_now = size
        else:
            growing.append(path, whole[file_now:size])
            file_now = size
        follower.poll()
    assert words(list(read(growing))) == ["birth", "a", "b"]
    assert follower.poll() == (False, [])


def test_a_follower_starts_afresh_when_a_seal_voids_what_it_read(storage):
    journal = take(storage)
    add(journal, "kept")
    heir_saw = storage.files()
    add(journal, "voided")
    follower = Follower(storage)
    assert words(follower.poll()[1]) == ["birth", "kept", "voided"]
    # Another driver, which had read the file before that record was in it, sealed it.
    other = SimulatedStorage()
    other.begin_with(heir_saw)
    add(take(other), "instead")
    for path, data in other.files().items():
        storage.put_if_absent(path, data)
    reset, records = follower.poll()
    assert reset
    assert words(records) == ["birth", "kept", "instead"]
    assert records == list(read(storage))


def test_a_follower_refuses_what_is_damaged_where_it_was_durable(storage):
    journal = take(storage)
    add(journal, "a")
    journal.sync()
    add(journal, "b")
    files = storage.files()
    path = "journal/00000001-0000.log"
    broken = SimulatedStorage()
    broken.begin_with({**files, path: files[path][:60] + b"?" + files[path][61:]})
    with pytest.raises(JournalError, match="byte 52"):
        Follower(broken).poll()
