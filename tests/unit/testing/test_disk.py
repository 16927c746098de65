from __future__ import annotations

import random

import pytest

from holdfast.errors import StorageError
from holdfast.testing.disk import Operation, SimulatedStorage, crash

PAGE = 4096


@pytest.fixture
def storage():
    return SimulatedStorage()


def found(storage, mode="power", seeds=200, at=None):
    """What is on the disk after each of many crashes."""
    at = len(storage.log) if at is None else at
    return [crash(storage, at, random.Random(seed), mode).files() for seed in range(seeds)]


def test_the_log_tells_what_was_done(storage):
    file = storage.create_append("a")
    file.write(b"xy")
    file.sync()
    storage.put("b", b"1")
    storage.put_if_absent("b", b"2")
    storage.delete("b")
    storage.delete("b")
    assert storage.log == [
        Operation("create", "a"),
        Operation("write", "a", b"xy"),
        Operation("sync", "a"),
        Operation("put", "b", b"1"),
        Operation("delete", "b"),
    ]


def test_a_kill_keeps_all_that_was_written_by_then(storage):
    file = storage.create_append("a")
    file.write(b"one")
    file.write(b"two")
    storage.put("b", b"put")
    assert found(storage, "kill", 1) == [{"a": b"onetwo", "b": b"put"}]
    assert found(storage, "kill", 1, at=2) == [{"a": b"one"}]
    assert found(storage, "kill", 1, at=0) == [{}]


def test_a_power_cut_never_takes_what_was_synced(storage):
    file = storage.create_append("a")
    file.write(b"s" * 5000)
    file.sync()
    file.write(b"u" * 10000)
    for files in found(storage):
        assert files["a"].startswith(b"s" * 5000)
        assert set(files["a"][5000:]) <= {ord("u"), 0}


def test_a_power_cut_leaves_holes_and_shorter_files(storage):
    file = storage.create_append("a")
    file.write(b"u" * 4 * PAGE)
    left = {files["a"] for files in found(storage)}
    assert b"u" * 4 * PAGE in left
    assert any(content.startswith(bytes(PAGE)) and content.endswith(b"u" * PAGE) for content in left)
    assert any(len(content) < PAGE for content in left)


def test_pages_of_a_failed_sync_are_lost_though_a_later_sync_succeeds(storage):
    file = storage.create_append("a")
    file.write(b"1" * 10)
    file.sync()
    file.write(b"2" * 10)
    storage.fail_sync(1)
    with pytest.raises(StorageError):
        file.sync()
    file.write(b"3" * 10)
    file.sync()
    assert storage.read("a") == b"1" * 10 + b"2" * 10 + b"3" * 10
    assert found(storage, "kill", 1) == [{"a": storage.read("a")}]
    assert all(files["a"] == b"1" * 10 + bytes(10) + b"3" * 10 for files in found(storage))


def test_a_delete_is_durable_and_a_directory_goes_file_by_file(storage):
    storage.put("d/a", b"1")
    storage.put("d/b", b"2")
    before = len(storage.log)
    storage.delete("d")
    assert len(storage.log) == before + 2
    assert found(storage, at=before + 1, seeds=20) == [{"d/b": b"2"}] * 20
    assert found(storage, seeds=20) == [{}] * 20


def test_a_full_disk_writes_short_then_refuses(storage):
    file = storage.create_append("a")
    storage.fill(5)
    assert file.write(b"abcdefgh") == 5
    for refused in (lambda: file.write(b"x"), lambda: storage.put("b", b"x"), lambda: storage.put_if_absent("b", b"x")):
        with pytest.raises(StorageError, match="no space left"):
            refused()
    assert storage.files() == {"a": b"abcde"}
    storage.fill(None)
    assert file.write(b"x") == 1


def test_a_crashed_disk_is_a_new_one(storage):
    storage.put("a", b"1")
    again = crash(storage, 1, random.Random(0))
    again.put("a", b"2")
    assert storage.read("a") == b"1"
    assert again.root != storage.root
    assert [done.kind for done in again.log] == ["put"]
    assert crash(again, 0, random.Random(0)).read("a") == b"1"
