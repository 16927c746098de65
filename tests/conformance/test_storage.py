"""Every shipped storage adapter keeps the port's promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.storage.base import Storage
from holdfast.storage.local import LocalStorage
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
