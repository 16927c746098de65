"""The adapter for network file systems keeps the port's promises on an NFSv4 server, each of its calls over the wire."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import pytest

import nfs_client
from holdfast.errors import Fenced
from holdfast.storage.base import Storage
from holdfast.storage.network import NetworkStorage
from holdfast.storage.probing import probe
from holdfast.testing.disk import SimulatedStorage
from holdfast.testing.storage_suite import StorageSuite
from journal_tools import add, born, owner, take, texts

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("object servers")]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with nfs_client.ganesha(tmp_path_factory.mktemp("nfs")) as port:
        yield port


class TestNetworkStorageOverNfs(StorageSuite):
    @pytest.fixture
    def storage(self, port: int, monkeypatch: pytest.MonkeyPatch) -> Storage:
        nfs_client.through(port, monkeypatch)
        return NetworkStorage(f"/{os.urandom(4).hex()}/experiment")

    def test_the_probe_is_content_and_leaves_nothing(self, storage: Storage) -> None:
        probe(storage, "journal")
        assert storage.names("journal") == []

    def test_of_eight_processes_one_wins_each_of_200_names(self, storage: NetworkStorage, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        barrier, queue = context.Barrier(8), context.SimpleQueue()
        racers = [context.Process(target=_race, args=(port, storage.root, who, barrier, queue)) for who in range(8)]
        for racer in racers:
            racer.start()
        won = [name for _ in racers for name in queue.get()]
        for racer in racers:
            racer.join()
        assert sorted(key for key, _ in won) == list(range(200))
        assert all(storage.read(f"race/{key}") == b"%d" % who for key, who in won)

    def test_of_two_drivers_on_a_journal_there_the_newer_wins(self, storage: NetworkStorage) -> None:
        """Each on a machine of its own: the older one loses the slot that the newcomer's claim took."""
        older, newer = storage, NetworkStorage(storage.root)
        for place in (older, newer):
            place.disk = SimulatedStorage()  # the spool of its machine
        born(older)
        first = take(older, owner=owner(1))
        add(first, "a")
        first.sync()
        second = take(newer, owner=owner(2))
        add(second, "b")
        second.sync()
        with pytest.raises(Fenced):
            add(first, "c")
            first.sync()
        second.close()
        assert texts(newer) == ["a", "b"]


def _race(port: int, root: str, who: int, barrier: object, queue: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        nfs_client.through(port, patch)
        storage = NetworkStorage(root)
        barrier.wait()
        queue.put([(key, who) for key in range(200) if storage.put_if_absent(f"race/{key}", b"%d" % who)])
