from __future__ import annotations

import pytest

from holdfast._journal import verify
from holdfast.errors import InternalError
from holdfast.testing.disk import SimulatedStorage
from journal_tools import add, born, take, texts


@pytest.fixture
def storage():
    return born(SimulatedStorage())


def test_the_newest_of_its_schema_comes_back(storage):
    journal = take(storage)
    assert journal.load_snapshot(1) is None
    add(journal, "a", "b")
    journal.sync()
    journal.save_snapshot(1, 1, b"one")
    journal.save_snapshot(2, 2, b"two")
    assert journal.load_snapshot(1) == (1, b"one")
    assert journal.load_snapshot(2) == (2, b"two")
    assert journal.load_snapshot(3) is None
    assert take(storage).load_snapshot(2) == (2, b"two")


def test_two_are_kept(storage):
    journal = take(storage)
    for n in range(5):
        add(journal, n)
        journal.sync()
        journal.save_snapshot(1, journal.durable, bytes([n]))
    assert storage.names("journal/snapshots") == ["00000001-000000000004.snap", "00000001-000000000005.snap"]


def test_none_is_taken_of_what_is_not_durable(storage):
    journal = take(storage)
    add(journal, "a")
    with pytest.raises(InternalError, match="sync first"):
        journal.save_snapshot(1, 1, b"")
    assert storage.names("journal/snapshots") == []


def test_damaged_and_missing_ones_are_no_damage(storage):
    journal = take(storage)
    add(journal, "a", "b")
    journal.sync()
    journal.save_snapshot(1, 1, b"older")
    journal.save_snapshot(1, 2, b"newer")
    journal.close()
    files = storage.files()
    newest = "journal/snapshots/00000001-000000000002.snap"
    for at in range(len(files[newest])):
        broken = SimulatedStorage()
        broken.begin_with({**files, newest: files[newest][:at] + bytes([files[newest][at] ^ 1]) + files[newest][at + 1 :]})
        assert take(broken).load_snapshot(1) == (1, b"older")
        assert texts(broken) == ["a", "b"]
        assert [problem.fatal for problem in verify(broken)] == [False]
    for at in range(len(files[newest])):
        broken = SimulatedStorage()
        broken.begin_with({**files, newest: files[newest][:at]})
        assert take(broken).load_snapshot(1) == (1, b"older")


def test_one_in_anothers_place_does_not_count(storage):
    journal = take(storage)
    add(journal, "a", "b")
    journal.sync()
    journal.save_snapshot(1, 1, b"one")
    storage.put("journal/snapshots/00000001-000000000002.snap", storage.read("journal/snapshots/00000001-000000000001.snap"))
    assert journal.load_snapshot(1) == (1, b"one")


def test_that_of_a_driver_whose_records_were_voided_is_ignored(storage):
    old = take(storage)
    add(old, "a")
    old.sync()
    old.save_snapshot(1, 1, b"a")
    sealed_here = storage.files()
    add(old, "voided")
    old.sync()
    old.save_snapshot(1, 2, b"a, voided")
    # The heir's seal was decided before those records were in the file.
    other = SimulatedStorage()
    other.begin_with(sealed_here)
    heir = take(other)
    add(heir, "instead", "more")
    for path, data in storage.files().items():
        if "snapshots" in path:
            other.put(path, data)
    assert "00000001-000000000002.snap" in other.names("journal/snapshots")
    assert heir.load_snapshot(1) == (1, b"a")
    assert take(other).load_snapshot(1) == (1, b"a")
