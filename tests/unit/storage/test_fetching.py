"""Checkpoints in a cloud, as a user handles them, on a server of S3's protocol."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import object_servers
from fault_proxy import FaultProxy
from holdfast.checkpoint import MANIFEST, Checkpoint
from holdfast.errors import ConfigError, StorageError
from holdfast.storage.uri import open_place, parse

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("object servers")]

FILES = {"weights": os.urandom(9 << 20), "deep/er/optimizer": b"state", "empty": b"", "a b=c [1] ü": b"name", "50%": b"%"}


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.Server]:
    with object_servers.ministack() as server:
        yield server


@pytest.fixture
def uri(server, tmp_path, monkeypatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    place = parse(server.uri).below(os.urandom(4).hex())
    storage = open_place(place)
    for name, data in FILES.items():
        storage.put(name, data)
    return place.uri


def with_manifest(uri: str, **changes: object) -> None:
    """Puts what `persist` writes beside kept files: sizes, checksums, links, empty directories."""
    files = [(name, len(data), zlib.crc32(data)) for name, data in FILES.items()]
    parts = {"version": 1, "files": files, "links": {"newest": "deep/er/optimizer"}, "directories": ["nothing"], "counters": {}}
    open_place(parse(uri)).put(MANIFEST, json.dumps({**parts, **changes}).encode())


def found(folder: str | Path) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def left(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "cache" / "checkpoints")


def test_it_names_its_place_without_its_parameters(uri):
    checkpoint = Checkpoint(uri)
    assert checkpoint.path == f"bucket/{parse(uri).prefix}"
    assert repr(checkpoint) == f"Checkpoint(path=s3://{checkpoint.path})"
    again = pickle.loads(pickle.dumps(checkpoint))
    assert again == checkpoint
    assert hash(again) == hash(checkpoint)
    assert again != Checkpoint("/" + checkpoint.path)
    for given in ("s3://bucket", "hdfs://x/y", "s3://key:hidden@bucket/x"):
        with pytest.raises(ConfigError) as caught:
            Checkpoint(given)
        assert "hidden" not in str(caught.value)


def test_it_is_downloaded_for_as_long_as_it_is_used(uri, tmp_path):
    with Checkpoint(uri).as_directory() as first:
        with Checkpoint(uri).as_directory() as second:
            assert first == second
        assert found(first) == FILES  # the second user's end takes nothing from the first
    assert left(tmp_path) == []


def test_links_and_empty_directories_come_back_by_the_manifest(uri, tmp_path):
    with_manifest(uri)
    with Checkpoint(uri).as_directory() as folder:
        assert found(folder) == {**FILES, "newest": b"state"}
        assert os.readlink(f"{folder}/newest") == "deep/er/optimizer"
        assert os.path.isdir(f"{folder}/nothing")
    target = Checkpoint(uri).to_directory(tmp_path / "copy")
    assert found(target) == {**FILES, "newest": b"state"}
    assert left(tmp_path) == []


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_what_is_not_what_was_kept_is_never_given_out(uri, tmp_path, damage):
    with_manifest(uri)
    storage = open_place(parse(uri))
    if damage == "changed":
        storage.put("deep/er/optimizer", b"stale")
    else:
        storage.delete("deep/er/optimizer")
    for use in (Checkpoint(uri).to_directory, Checkpoint(uri).as_directory().__enter__):
        with pytest.raises(StorageError, match=r"deep/er/optimizer (is missing|does not have the content that was saved)"):
            use()
    storage.put("deep/er/optimizer", b"state")
    with Checkpoint(uri).as_directory() as folder:  # and nothing of the damaged one was kept
        assert found(folder)["deep/er/optimizer"] == b"state"


@pytest.mark.parametrize("to", ["/etc/passwd", "../../outside", "deep/../../outside"])
def test_no_link_of_a_bucket_leads_out_of_the_directory(uri, to):
    with_manifest(uri, links={"newest": to})
    with pytest.raises(StorageError, match="leads out of the checkpoint"), Checkpoint(uri).as_directory():
        pass


@pytest.mark.parametrize("kind", ["links", "directories"])
def test_no_name_of_a_manifest_leads_out_of_the_directory(uri, kind):
    with_manifest(uri, **{kind: {"../outside": "x"} if kind == "links" else ["../outside"]})
    with pytest.raises(StorageError, match="no file's name here"), Checkpoint(uri).as_directory():
        pass


def test_nothing_there_is_told(uri):
    gone = Checkpoint(parse(uri).below("never").uri)
    with pytest.raises(FileNotFoundError, match="never"), gone.as_directory():
        pass


def test_metadata(uri):
    checkpoint = Checkpoint(uri)
    assert checkpoint.get_metadata() == {}
    checkpoint.set_metadata({"a": 1})
    checkpoint.update_metadata({"b": [2]})
    assert Checkpoint(uri).get_metadata() == {"a": 1, "b": [2]}


def test_its_pyarrow_filesystem_reads_its_path(uri):
    checkpoint = Checkpoint(uri)
    with checkpoint.filesystem.open_input_stream(f"{checkpoint.path}/deep/er/optimizer") as stream:
        assert stream.read() == b"state"


def test_a_bad_network_changes_nothing(uri, server, tmp_path):
    with_manifest(uri)
    chance, faults = random.Random(20261128), ["truncate", "503", "drop after", "429", "drop before"]
    with FaultProxy(server.port, lambda *_: chance.choice(faults) if chance.random() < 0.3 else "") as proxy:
        through = uri.replace(f"%3A{server.port}", f"%3A{proxy.port}")
        for number in range(4):
            assert found(Checkpoint(through).to_directory(tmp_path / f"copy {number}")) == {**FILES, "newest": b"state"}
    assert {did for _, did in proxy.log} >= {"truncate", "503", ""}


def test_eight_processes_share_one_download(uri, server, tmp_path):
    with FaultProxy(server.port, lambda *_: "") as proxy:
        through = uri.replace(f"%3A{server.port}", f"%3A{proxy.port}")
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(8)
        users = [context.Process(target=_use, args=(through, barrier)) for _ in range(8)]
        for user in users:
            user.start()
        for user in users:
            user.join(60)
        assert [user.exitcode for user in users] == [0] * 8
        downloads = [request for request, _ in proxy.log if request.startswith("GET") and "weights" in request]
    assert len(downloads) == 1
    assert left(tmp_path) == []


def _use(uri: str, barrier: object) -> None:
    with Checkpoint(uri).as_directory() as folder:
        barrier.wait(30)  # all hold it at once
        assert Path(folder, "weights").stat().st_size == 9 << 20
        barrier.wait(30)


def test_what_a_killed_user_left_goes_with_the_next(uri, tmp_path):
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    user = context.Process(target=_killed, args=(uri, sender))
    user.start()
    folder = receiver.recv()
    user.join()
    assert user.exitcode == -signal.SIGKILL
    assert os.path.isdir(folder)
    other = parse(uri).below("deep").uri
    with Checkpoint(other).as_directory() as beside:
        assert beside != folder
    assert left(tmp_path) == []


def _killed(uri: str, sender: object) -> None:
    with Checkpoint(uri).as_directory() as folder:
        sender.send(folder)
        os.kill(os.getpid(), signal.SIGKILL)
