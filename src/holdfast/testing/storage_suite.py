"""What every storage adapter must do: a class of pytest tests to derive from.

    class TestMyStorage(StorageSuite):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage(tmp_path)

It refuses to know how an adapter keeps its promises; durability, which only a power cut shows, is not tested here.
"""

from __future__ import annotations

import threading

import pytest

from holdfast.errors import ConfigError, StorageError
from holdfast.storage.base import AppendingStorage, Storage

__all__ = ["AppendingSuite", "StorageSuite"]


class StorageSuite:
    """Derive from it, in a class whose name begins with Test, and give the fixture `storage`: an empty directory."""

    def test_an_empty_storage_has_nothing(self, storage: Storage) -> None:
        assert storage.names("journal") == []
        assert not storage.exists("journal")
        with pytest.raises(FileNotFoundError):
            storage.read("journal/birth")
        storage.delete("journal/birth")

    def test_what_is_put_is_read_back(self, storage: Storage) -> None:
        storage.put("a/b/c", b"first")
        storage.put("a/b/c", b"second, longer")
        assert storage.read("a/b/c") == b"second, longer"
        assert storage.read("a/b/c", 8) == b"longer"
        assert storage.read("a/b/c", 99) == b""
        assert storage.exists("a/b/c")
        assert storage.exists("a/b")

    def test_put_if_absent_never_replaces(self, storage: Storage) -> None:
        assert storage.put_if_absent("x", b"mine")
        assert not storage.put_if_absent("x", b"yours")
        assert storage.read("x") == b"mine"
        assert not storage.put_if_absent("x", b"mine")  # nor says twice that it won, be it the same bytes
        assert storage.put_if_absent("empty", b"")
        assert storage.read("empty") == b""
        assert not storage.put_if_absent("empty", b"")

    def test_of_many_that_put_if_absent_one_wins(self, storage: Storage) -> None:
        barrier = threading.Barrier(8)
        won: list[tuple[int, int]] = []

        def contend(who: int) -> None:
            for key in range(20):
                barrier.wait()
                if storage.put_if_absent(f"race/{key}", b"%d" % who):
                    won.append((key, who))

        threads = [threading.Thread(target=contend, args=(who,)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(key for key, _ in won) == list(range(20))
        for key, who in won:
            assert storage.read(f"race/{key}") == b"%d" % who

    def test_names_are_sorted_and_direct(self, storage: Storage) -> None:
        for path in ("d/b", "d/a", "d/sub/x", "e"):
            storage.put(path, b"")
        assert storage.names("d") == ["a", "b", "sub"]
        assert storage.names("d/sub") == ["x"]
        assert storage.names("nowhere") == []
        assert storage.names("") == ["d", "e"]

    def test_delete_takes_files_and_directories(self, storage: Storage) -> None:
        for path in ("d/a", "d/sub/x", "dd"):
            storage.put(path, b"")
        storage.delete("d")
        assert not storage.exists("d")
        assert not storage.exists("d/sub/x")
        assert storage.exists("dd")
        storage.delete("dd")
        storage.delete("dd")
        assert not storage.exists("dd")
        assert storage.put_if_absent("dd", b"again")

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a\0b"])
    def test_no_path_leaves_the_directory(self, storage: Storage, path: str) -> None:
        for use in (storage.read, storage.exists, storage.names, storage.delete):
            if path or use != storage.names:  # "" is the experiment's own directory
                with pytest.raises(ConfigError):
                    use(path)
        for put in (storage.put, storage.put_if_absent):
            with pytest.raises(ConfigError):
                put(path, b"")

    def test_strange_names_are_taken(self, storage: Storage) -> None:
        paths = ("a b=c,d/[x]", "..a", "a..b/c", "ünï", "x" * 200, "50%/a#b", "a?b&c", "it's*", "{~}", "back\\slash", "a+b%20c")
        for path in paths:
            assert storage.put_if_absent(path, b"1")
            assert not storage.put_if_absent(path, b"2")
            assert storage.exists(path)
            assert storage.read(path) == b"1"
        assert storage.names("50%") == ["a#b"]
        for path in paths:
            storage.delete(path)
            assert not storage.exists(path)

    def test_many_files_are_deleted_at_once(self, storage: Storage) -> None:
        paths = [f"d/{number}" for number in range(20)]
        for path in [*paths, "d/kept"]:
            storage.put(path, b"")
        storage.delete_files([*paths, "d/never"])
        assert storage.names("d") == ["kept"]
        storage.delete_files([])
        storage.delete_files(["d/never", "d/kept"])
        assert storage.names("d") == []

    def test_a_name_that_others_begin_with_is_another(self, storage: Storage) -> None:
        storage.put("trial_1/row", b"1")
        storage.put("trial_10/row", b"10")
        storage.put("trial_1.txt", b"text")
        assert storage.names("trial_1") == ["row"]
        storage.delete("trial_1")
        assert storage.read("trial_10/row") == b"10"
        assert storage.read("trial_1.txt") == b"text"
        assert not storage.exists("trial_1")

    def test_bytes_come_back_as_they_went(self, storage: Storage) -> None:
        data = bytes(range(256)) * 4096
        storage.put("large", data)
        assert storage.read("large") == data
        assert storage.read("large", len(data) - 3) == data[-3:]
        assert storage.read("large", len(data)) == b""


class AppendingSuite(StorageSuite):
    """The same for an `AppendingStorage`."""

    def test_appends_are_visible_when_write_returns(self, storage: AppendingStorage) -> None:
        file = storage.create_append("logs/one")
        assert storage.read("logs/one") == b""
        assert file.write(b"abc") == 3
        assert storage.read("logs/one") == b"abc"
        assert file.write(b"def") == 3
        file.sync()
        assert storage.read("logs/one", 2) == b"cdef"
        file.close()
        file.close()
        assert storage.read("logs/one") == b"abcdef"

    def test_a_file_is_created_exclusively(self, storage: AppendingStorage) -> None:
        storage.create_append("one").close()
        with pytest.raises(StorageError):
            storage.create_append("one")
        assert not storage.put_if_absent("one", b"x")

    def test_a_deleted_file_can_still_be_written_unseen(self, storage: AppendingStorage) -> None:
        file = storage.create_append("gone")
        storage.delete("gone")
        assert file.write(b"x") == 1
        assert not storage.exists("gone")
        file.close()

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "../x"])
    def test_no_appended_file_leaves_the_directory(self, storage: AppendingStorage, path: str) -> None:
        with pytest.raises(ConfigError):
            storage.create_append(path)
