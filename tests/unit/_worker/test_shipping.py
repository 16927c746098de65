"""Checkpoints on a store: whole or not named, never sent twice, in bounded memory, and brought back only as they went."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

import object_servers
from fault_proxy import FaultProxy
from holdfast import faults
from holdfast._core.events import Saved
from holdfast._core.ids import MANIFEST, pending_name
from holdfast._worker.keeping import Broken, LocalKeeper
from holdfast._worker.shipping import StoreKeeper
from holdfast.errors import ReportRefused, StorageError
from holdfast.storage.uri import open_place, parse

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("object servers")]

LARGE = 9 << 20  # of more than one part
FILES = {"weights": os.urandom(LARGE), "deep/er/optimizer": b"state", "empty": b"", "a b=c [1] ü": b"name", "50%": b"%"}


@pytest.fixture(scope="module")
def server() -> Iterator[object_servers.Server]:
    with object_servers.ministack() as server:
        yield server


@pytest.fixture(autouse=True)
def no_fault_stays() -> Iterator[None]:
    yield
    faults.disarm()


@pytest.fixture
def uri(server: object_servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    return parse(server.uri).below(os.urandom(4).hex()).uri


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "source" / "nothing").mkdir()
    (tmp_path / "source" / "newest").symlink_to("deep/er/optimizer")
    return tmp_path / "source"


@pytest.fixture
def keeper(uri: str, tmp_path: Path) -> StoreKeeper:
    return keeper_at(uri, tmp_path)


def keeper_at(uri: str, tmp_path: Path) -> StoreKeeper:
    (tmp_path / "trial_0").mkdir(exist_ok=True)
    return StoreKeeper(LocalKeeper(str(tmp_path / "trial_0"), ".staging-1-n-"), uri)


def through(uri: str, server: object_servers.Server, proxy: FaultProxy) -> str:
    return uri.replace(f"%3A{server.port}", f"%3A{proxy.port}")


def found(folder: str) -> dict[str, bytes]:
    files = (path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def kept(uri: str, index: int = 0) -> dict[str, int]:
    return open_place(parse(uri)).sizes_below(f"trial_0/checkpoint_{index:06d}")


def brought_back(keeper: StoreKeeper, saved: Saved) -> dict[str, bytes]:
    with ExitStack() as held:
        return found(keeper.origin(saved, "trial_0", held).folder)


def test_the_files_lie_there_as_the_user_wrote_them(keeper: StoreKeeper, uri: str, source: Path, tmp_path: Path) -> None:
    saved = keeper.save(str(source), 0, {"training_iteration": 3})
    there = kept(uri)
    assert there.pop(MANIFEST)
    assert there == {name: len(data) for name, data in FILES.items()}
    assert (saved.files, saved.size) == (len(FILES), sum(map(len, FILES.values())))
    manifest = open_place(parse(uri)).read(f"trial_0/checkpoint_000000/{MANIFEST}")
    assert saved.manifest == sha256(manifest).hexdigest()
    assert json.loads(manifest)["counters"] == {"training_iteration": 3}
    assert os.listdir(tmp_path / "trial_0") == []  # nothing was copied here
    with keeper.checkpoint(0).as_directory() as folder:
        assert found(folder) == FILES
        assert os.readlink(f"{folder}/newest") == "deep/er/optimizer"
        assert os.path.isdir(f"{folder}/nothing")
    assert brought_back(keeper, saved) == FILES


@pytest.mark.parametrize("damage", ["content", "missing", "manifest", "no manifest", "all"])
def test_what_is_not_what_was_saved_is_broken(keeper: StoreKeeper, uri: str, source: Path, damage: str) -> None:
    saved, storage, folder = keeper.save(str(source), 0, {}), open_place(parse(uri)), "trial_0/checkpoint_000000"
    if damage == "content":
        storage.put(f"{folder}/deep/er/optimizer", b"stale")
    elif damage == "missing":
        storage.delete(f"{folder}/empty")
    elif damage == "manifest":
        storage.put(f"{folder}/{MANIFEST}", storage.read(f"{folder}/{MANIFEST}") + b" ")
    else:
        storage.delete(f"{folder}/{MANIFEST}" if damage == "no manifest" else folder)
    with pytest.raises(Broken):
        brought_back(keeper, saved)


def test_what_the_manifest_does_not_name_is_not_given_out(keeper: StoreKeeper, uri: str, source: Path) -> None:
    saved = keeper.save(str(source), 0, {})
    open_place(parse(uri)).put("trial_0/checkpoint_000000/of an older try", b"")
    assert brought_back(keeper, saved) == FILES


@pytest.mark.parametrize("kind", ["503", "429", "drop before", "drop after", "truncate"])
def test_a_bad_network_costs_no_part_twice(
    server: object_servers.Server, uri: str, source: Path, tmp_path: Path, kind: str
) -> None:
    (source / "weights").write_bytes(os.urandom(40 << 20))
    chance = random.Random(f"20261128 {kind}")
    with FaultProxy(server.port, lambda *_: kind if chance.random() < 0.25 else "") as proxy:
        keeper = keeper_at(through(uri, server, proxy), tmp_path)
        saved = keeper.save(str(source), 0, {})
        log = list(proxy.log)
    assert any(fate for _, fate in log)
    assert found_again(uri, tmp_path, saved)["weights"] == (source / "weights").read_bytes()
    arrived = [request for request, fate in log if request.startswith("PUT") and fate in ("", "truncate")]
    assert len(arrived) == len(set(arrived)), "what the store had answered for was sent again"
    # A reply that was lost is asked for again; the whole file is not.
    assert len({request.partition("uploadId=")[2] for request, _ in log if "partNumber" in request}) == 1


def found_again(uri: str, tmp_path: Path, saved: Saved) -> dict[str, bytes]:
    return brought_back(keeper_at(uri, tmp_path), saved)


def test_a_store_that_is_gone_for_a_while_is_waited_for(
    server: object_servers.Server, uri: str, source: Path, tmp_path: Path
) -> None:
    with FaultProxy(server.port, lambda number, _: "drop before" if 2 < number < 30 else "") as proxy:
        saved = keeper_at(through(uri, server, proxy), tmp_path).save(str(source), 0, {})
    assert found_again(uri, tmp_path, saved) == FILES


def test_an_upload_whose_last_reply_is_lost_and_forgotten_is_known_again(
    server: object_servers.Server, uri: str, source: Path, tmp_path: Path
) -> None:
    """S3 answers 404 for an upload that was completed before: whose object stands there is asked then."""
    completed: list[str] = []

    def fate(_: int, request: str) -> str:
        if not request.startswith("POST") or "uploadId" not in request:
            return ""
        completed.append(request)
        return "drop after" if len(completed) == 1 else "404 NoSuchUpload"

    with FaultProxy(server.port, fate) as proxy:
        saved = keeper_at(through(uri, server, proxy), tmp_path).save(str(source), 0, {})
        parts = [request for request, _ in proxy.log if "partNumber" in request]
    assert len(completed) >= 2
    assert len(parts) == 2
    assert found_again(uri, tmp_path, saved) == FILES


@pytest.mark.parametrize("what", ["unreadable", "name"])
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(keeper: StoreKeeper, uri: str, source: Path, what: str) -> None:
    def spoil() -> None:
        faults.disarm()
        os.unlink(source / "empty")

    if what == "name":
        (source / "new\nline").write_bytes(b"")
    else:
        faults.arm("mid_checkpoint_upload", spoil)
    with pytest.raises(ReportRefused):
        keeper.save(str(source), 0, {})
    assert kept(uri) == {}


def test_a_store_that_refuses_is_an_error_of_the_storage(
    uri: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = uri.replace("s3://bucket/", "s3://no-such-bucket/")
    with pytest.raises(StorageError, match=r"Checkpoint 0 could not be saved.*no such bucket"):
        keeper_at(nowhere, tmp_path).save(str(source), 0, {})


def test_a_staged_one_is_completed_and_its_copy_goes(keeper: StoreKeeper, uri: str, source: Path, tmp_path: Path) -> None:
    saved = keeper.stage(str(source), 0, {})
    assert kept(uri) == {}
    assert os.listdir(tmp_path / "trial_0") == [pending_name(0)]
    assert keeper.commit(saved, check=False) == ""
    assert os.listdir(tmp_path / "trial_0") == []
    assert brought_back(keeper, saved) == FILES
    assert keeper.commit(saved, check=True) == ""  # it stands there: whoever completed it was not heard


@pytest.mark.parametrize("gone", [MANIFEST, "weights"])
def test_one_that_was_killed_while_it_removed_the_copy_has_completed_it(
    keeper: StoreKeeper, source: Path, tmp_path: Path, gone: str
) -> None:
    saved = keeper.stage(str(source), 0, {})
    staged = tmp_path / "trial_0" / pending_name(0)
    shutil.copytree(staged, tmp_path / "as it was")
    assert keeper.commit(saved, check=False) == ""
    shutil.copytree(tmp_path / "as it was", staged)
    (staged / gone).unlink()
    assert keeper.commit(saved, check=True) == ""
    assert brought_back(keeper, saved) == FILES
    assert os.listdir(tmp_path / "trial_0") == []


def test_one_that_goes_on_sends_only_what_the_store_does_not_hold(
    server: object_servers.Server, uri: str, source: Path, tmp_path: Path
) -> None:
    for number in range(60):
        (source / f"{number}").write_bytes(b"%d" % number)
    saved = keeper_at(uri, tmp_path).stage(str(source), 0, {})
    stop_after(9)
    with pytest.raises(Interrupted):
        keeper_at(uri, tmp_path).commit(saved, check=False)
    faults.disarm()
    before = set(kept(uri))
    assert "weights" in before
    assert 9 <= len(before) < 60
    with FaultProxy(server.port, lambda *_: "") as proxy:
        assert keeper_at(through(uri, server, proxy), tmp_path).commit(saved, check=True) == ""
        sent = [request for request, _ in proxy.log if request.startswith("PUT")]
    assert len(sent) == 60 + len(FILES) + 1 - len(before)
    assert len(brought_back(keeper_at(uri, tmp_path), saved)) == 60 + len(FILES)


class Interrupted(Exception):
    pass


def stop_after(files: int) -> None:
    left = [files]

    def act() -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Interrupted

    faults.arm("mid_checkpoint_upload", act)


@pytest.mark.parametrize("damage", ["content", "gone"])
def test_a_staged_one_that_is_damaged_is_lost(keeper: StoreKeeper, uri: str, source: Path, tmp_path: Path, damage: str) -> None:
    saved = keeper.stage(str(source), 0, {})
    stop_after(2)
    with pytest.raises(Interrupted):
        keeper.commit(saved, check=False)
    faults.disarm()
    staged = tmp_path / "trial_0" / pending_name(0)
    if damage == "gone":
        staged.rename(tmp_path / "elsewhere")
    else:
        (staged / "50%").write_bytes(b"!")
    assert keeper.commit(saved, check=True) != ""
    assert damage == "gone" or kept(uri) == {}
    assert os.listdir(tmp_path / "trial_0") == []


def test_damage_that_happens_behind_the_check_is_found_too(keeper: StoreKeeper, uri: str, source: Path, tmp_path: Path) -> None:
    saved = keeper.stage(str(source), 0, {})
    (tmp_path / "trial_0" / pending_name(0) / "50%").write_bytes(b"!")
    assert "50%" in keeper.commit(saved, check=False)
    assert kept(uri) == {}


def test_many_small_files_come_back(keeper: StoreKeeper, uri: str, tmp_path: Path) -> None:
    lots = random.Random(7)
    files = {f"{number % 7}/{number}": lots.randbytes(lots.randrange(2000)) for number in range(300)}
    for name, data in files.items():
        path = tmp_path / "many" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    saved = keeper.save(str(tmp_path / "many"), 0, {})
    assert brought_back(keeper, saved) == files


MEASURED = """
import sys
from holdfast._worker.keeping import LocalKeeper
from holdfast._worker.shipping import StoreKeeper

def of(field):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(field))

source, trial, uri, small = sys.argv[1:]
keeper = StoreKeeper(LocalKeeper(trial), uri)
keeper.save(small, 0, {})  # clients, threads and certificates are there
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark begins anew: it was the parent's
before = of("VmRSS")
keeper.save(source, 1, {})
print(of("VmHWM") - before)
"""


def test_a_file_of_300_mib_is_sent_in_bounded_memory(uri: str, tmp_path: Path) -> None:
    for folder, size in (("trial_0", 0), ("large", 300 << 20), ("small", 1000)):
        (tmp_path / folder).mkdir()
        with open(tmp_path / folder / "file", "wb") as file:
            file.truncate(size)
    arguments = [str(tmp_path / "large"), str(tmp_path / "trial_0"), uri, str(tmp_path / "small")]
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True)
    grown = int(done.stdout)
    print(f"grown by {grown >> 20} MiB")
    assert grown < 150 << 20
    assert kept(uri, 1)["file"] == 300 << 20
