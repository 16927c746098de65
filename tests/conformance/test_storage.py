"""Every shipped storage adapter keeps the port's promises."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from holdfast.storage.base import AppendingStorage, Storage
from holdfast.storage.local import LocalStorage
from holdfast.storage.network import NetworkStorage
from holdfast.testing.disk import SimulatedStorage
from holdfast.testing.storage_suite import AppendingSuite, StorageSuite
from holdfast.testing.store import SimulatedStore


class TestLocalStorage(AppendingSuite):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path / "experiment")


class TestLocalStorageWithoutNamelessFiles(AppendingSuite):
    """A file system that cannot link a file that was made without a name."""

    @pytest.fixture
    def storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
        monkeypatch.delattr("os.O_TMPFILE")
        return LocalStorage(tmp_path / "experiment")


class TestNetworkStorage(StorageSuite):
    """On a local disk: that what it does is right. What a network file system does to it is not shown here."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return NetworkStorage(tmp_path / "experiment")

    def test_it_is_not_appended_to(self, storage: Storage) -> None:
        assert not isinstance(storage, AppendingStorage)

    def test_of_eight_processes_one_wins_each_of_200_names(self, storage: Storage) -> None:
        context = multiprocessing.get_context("spawn")
        barrier, queue = context.Barrier(8), context.SimpleQueue()
        racers = [context.Process(target=_race, args=(storage.root, who, barrier, queue)) for who in range(8)]
        for racer in racers:
            racer.start()
        won = [name for _ in racers for name in queue.get()]
        for racer in racers:
            racer.join()
        assert sorted(key for key, _ in won) == list(range(200))
        assert all(storage.read(f"race/{key}") == b"%d" % who for key, who in won)
        assert storage.sweep("race") == 0


def _race(root: str, who: int, barrier: object, queue: object) -> None:
    storage = NetworkStorage(root)
    barrier.wait()
    queue.put([(key, who) for key in range(200) if storage.put_if_absent(f"race/{key}", b"%d" % who)])


class TestSimulatedStorage(AppendingSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        return SimulatedStorage()


class TestSimulatedStore(StorageSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        return SimulatedStore(SimulatedStorage())


class TestTheDiskBesideASimulatedStore(AppendingSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        return SimulatedStore(SimulatedStorage()).disk
