"""Object stores keep the storage port's promises, each on a server that speaks its protocol; what lies or refuses is caught."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from pyarrow import fs

import ceph_cluster
import given_filesystems
import object_servers
from holdfast._journal import Owner, open_journal
from holdfast.clock import SystemClock
from holdfast.errors import StorageError
from holdfast.storage.base import Storage
from holdfast.storage.filesystems import place_on
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.opening import open_storage
from holdfast.storage.probing import probe
from holdfast.storage.sending import PART
from holdfast.storage.uri import keys_for_workers, open_place, parse
from holdfast.testing.storage_suite import StorageSuite
from journal_tools import born, note, put, texts

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("object servers")]


class OnAServer(StorageSuite):
    """The suite on a server, which runs as long as the class."""

    serve: object = None

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[object_servers.Server]:
        with cls.serve() as server:
            yield server

    def test_the_probe_is_content_and_leaves_nothing(self, storage: ObjectStorage) -> None:
        probe(storage, "journal")
        assert storage.names("journal") == []


class ServerSuite(OnAServer):
    """What each server must do; each test has a prefix of its own."""

    @pytest.fixture
    def storage(self, server: object_servers.Server, monkeypatch: pytest.MonkeyPatch) -> Storage:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return open_place(parse(server.uri).below(os.urandom(4).hex()))

    def test_a_large_file_goes_in_parts_and_comes_back(self, storage: ObjectStorage, tmp_path: Path) -> None:
        sent = tmp_path / "sent"
        sent.write_bytes(os.urandom(2 * PART + 1))
        told = storage.send("large", str(sent), "nonce")
        assert storage.nonce_at("large") == "nonce"
        assert storage.fetch("large", str(tmp_path / "fetched")) == told
        assert (tmp_path / "fetched").read_bytes() == sent.read_bytes()
        assert storage.sizes_below("") == {"large": 2 * PART + 1}

    def test_of_eight_processes_one_wins_each_of_200_names(self, server: object_servers.Server, storage: ObjectStorage) -> None:
        """The race that put-if-absent exists for."""
        uri = parse(server.uri).below(storage.root.rpartition("/")[2]).uri
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(8, context, _line_up, (context.Barrier(8),)) as racers:
            won = [name for names in racers.map(partial(_race, uri), range(8)) for name in names]
        assert sorted(key for key, _ in won) == list(range(200))
        assert all(storage.read(f"race/{key}") == b"%d" % who for key, who in won)


_start: list[Barrier] = []  # in a racer's process


def _line_up(start: Barrier) -> None:
    _start.append(start)


def _race(uri: str, who: int) -> list[tuple[int, int]]:
    storage = open_place(parse(uri))
    _start[0].wait()
    return [(key, who) for key in range(200) if storage.put_if_absent(f"race/{key}", b"%d" % who)]


class TestMinistack(ServerSuite):
    serve = staticmethod(object_servers.ministack)


class TestMoto(ServerSuite):
    serve = staticmethod(object_servers.moto)


class TestAzurite(ServerSuite):
    serve = staticmethod(object_servers.azurite)


class TestFakeGcs(ServerSuite):
    serve = staticmethod(object_servers.fake_gcs)


@pytest.mark.soak
class TestRadosgw(ServerSuite):
    serve = staticmethod(ceph_cluster.radosgw)


class GivenSuite(OnAServer):
    """The suite on the place that a user's own file system leads to, with the keys that this was given and no others."""

    given: object = None

    @pytest.fixture
    def storage(self, server: object_servers.Server, monkeypatch: pytest.MonkeyPatch) -> Storage:
        for name in server.environment:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("holdfast.storage.uri._keys", {})
        given = type(self).given(server)
        place = place_on(os.urandom(4).hex(), fs.SubTreeFileSystem("bucket/some/where", given))
        for name, value in keys_for_workers().items():  # as the processes of trials, which know nothing else, find them
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("holdfast.storage.uri._keys", {})
        return open_storage(place)


class TestPyarrowS3(GivenSuite):
    serve = staticmethod(object_servers.ministack)
    given = staticmethod(given_filesystems.pyarrow_s3)


class TestS3fs(GivenSuite):
    serve = staticmethod(object_servers.ministack)
    given = staticmethod(given_filesystems.s3fs)


@pytest.mark.soak
class TestPyarrowAzure(GivenSuite):
    serve = staticmethod(object_servers.azurite)
    given = staticmethod(given_filesystems.pyarrow_azure)


class TestAdlfs(GivenSuite):
    serve = staticmethod(object_servers.azurite)
    given = staticmethod(given_filesystems.adlfs)


class TestGcsfs(GivenSuite):
    serve = staticmethod(object_servers.fake_gcs)
    given = staticmethod(given_filesystems.gcsfs)


class TestMemory(StorageSuite):
    @pytest.fixture
    def storage(self) -> Storage:
        from obstore.store import MemoryStore

        store = MemoryStore()
        return ObjectStorage(lambda _: store, "some/where", "memory://some/where")


@pytest.fixture
def as_test_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in (object_servers.S3_ENVIRONMENT, object_servers.AZURE_ENVIRONMENT, object_servers.GOOGLE_ENVIRONMENT):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("liar", ["rclone", "fake_gcs"])
def test_a_server_that_ignores_conditions_is_refused(liar, tmp_path, as_test_user, monkeypatch) -> None:
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    with object_servers.rclone(tmp_path / "served") if liar == "rclone" else object_servers.fake_gcs("lies") as server:
        storage = open_place(parse(server.uri))
        with pytest.raises(StorageError, match=r"cannot keep two drivers apart: it accepts a conditional put .* and ignores"):
            probe(storage, "journal")
        assert storage.names("journal") == []
        born(storage)
        open_it = partial(open_journal, storage, owner=Owner.of_this_process(), clock=SystemClock())
        with pytest.raises(StorageError, match="cannot keep two drivers apart"):
            open_it()
        assert storage.names("journal") == ["birth"]
        journal = open_it(unfenced=True)
        put(journal, [note("alone")])
        journal.close()
        assert texts(storage) == ["alone"]


@pytest.mark.parametrize("uri", [object_servers.s3_uri, object_servers.gs_uri, object_servers.az_uri])
def test_a_server_that_refuses_conditions_is_refused_at_once(uri, as_test_user) -> None:
    calls = []
    with (
        object_servers.answering(lambda request, body: calls.append(request.command) or 501) as port,
        pytest.raises(StorageError, match=r"the store answered 501.* choose another storage_path"),
    ):
        probe(open_place(parse(uri(port))), "journal")
    assert calls == ["PUT"]


@pytest.mark.parametrize("which", ["ministack", "azurite", "fake_gcs", pytest.param("radosgw", marks=pytest.mark.soak)])
def test_a_bucket_that_is_not_there_is_never_taken_for_an_empty_one(which, monkeypatch) -> None:
    with object_servers.serving(which) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        storage = open_place(parse(server.uri.replace("bucket", "other")))
        uses = [storage.names, storage.exists, storage.delete, storage.read]
        for use in [*uses, lambda path: storage.put(path, b""), lambda path: storage.put_if_absent(path, b"")]:
            with pytest.raises(StorageError, match=r"://other/some/where/x: there is no such bucket"):
                use("x")
