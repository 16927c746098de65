"""Checkpoints are kept whole, or not at all."""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import faults
from holdfast._worker import persist
from holdfast.checkpoint import MANIFEST, METADATA
from holdfast.errors import ReportRefused, StorageError

STAGING = ".staging-1-nonce-0"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    folder = tmp_path / "trial"
    folder.mkdir()
    return folder


def save(source: Path, trial: Path, index: int = 0) -> tuple[persist.Saved, Path]:
    saved = persist.save(str(source), str(trial), index, STAGING)
    return saved, trial / f"checkpoint_{index:06d}"


def test_every_kind_of_content_is_kept(source: Path, trial: Path) -> None:
    generator = random.Random(5)
    large = generator.randbytes(3 * 1024 * 1024 + 17)
    (source / "large").write_bytes(large)
    (source / "empty").write_bytes(b"")
    (source / "a" / "b").mkdir(parents=True)
    (source / "nothing in it").mkdir()
    (source / "a" / "b" / "ünïcode").write_text("x")
    (source / "script").write_text("#!")
    (source / "script").chmod(0o755)
    (source / "a" / "link").symlink_to("../large")
    (source / "dangling").symlink_to("a/nowhere")
    for number in range(200):
        (source / "a" / f"{number}").write_text(str(number))
    saved, kept = save(source, trial, 7)
    assert (saved.index, saved.files, saved.size) == (7, 204, len(large) + 1 + 2 + sum(len(str(n)) for n in range(200)))
    assert (kept / "large").read_bytes() == large
    assert (kept / "nothing in it").is_dir()
    assert os.readlink(kept / "a" / "link") == "../large"
    assert os.readlink(kept / "dangling") == "a/nowhere"
    assert stat.S_IMODE((kept / "script").stat().st_mode) & 0o100
    assert (kept / "a" / "b" / "ünïcode").read_text() == "x"
    assert persist.verify(str(kept), saved) == ""
    assert os.listdir(trial) == ["checkpoint_000007"]


def test_an_empty_checkpoint_is_one(source: Path, trial: Path) -> None:
    saved, kept = save(source, trial)
    assert (saved.files, saved.size) == (0, 0)
    assert os.listdir(kept) == [MANIFEST]
    assert persist.verify(str(kept), saved) == ""


def test_links_that_lead_out_are_replaced_by_what_they_point_to(source: Path, trial: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("far")
    (source / "folder").symlink_to(tmp_path / "outside")
    (source / "file").symlink_to("../outside/file")
    saved, kept = save(source, trial)
    assert not (kept / "folder").is_symlink()
    assert (kept / "folder" / "file").read_text() == (kept / "file").read_text() == "far"
    assert saved.files == 2


def test_the_trials_own_directory_may_be_reported(trial: Path) -> None:
    (trial / "model").write_text("m")
    saved, kept = save(trial, trial)
    assert sorted(os.listdir(kept)) == [MANIFEST, "model"]
    assert persist.verify(str(kept), saved) == ""


def test_a_checkpoint_that_was_kept_may_be_reported_again(source: Path, trial: Path) -> None:
    (source / "model").write_text("m")
    _, kept = save(source, trial, 0)
    saved, again = save(kept, trial, 1)
    assert saved.files == 1
    assert persist.verify(str(again), saved) == ""


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "link", "directory"])
def test_damage_is_found(source: Path, trial: Path, damage: str) -> None:
    (source / "file").write_bytes(bytes(100_000))
    (source / "link").symlink_to("file")
    (source / "empty").mkdir()
    saved, kept = save(source, trial)
    file = kept / "file"
    if damage == "flip":
        with open(file, "r+b") as opened:
            opened.seek(50_000)
            opened.write(b"\x01")
    elif damage == "cut":
        os.truncate(file, 99_999)
    elif damage == "remove":
        file.unlink()
    elif damage == "manifest":
        manifest = json.loads((kept / MANIFEST).read_text())
        manifest["files"] = []
        (kept / MANIFEST).write_text(json.dumps(manifest))
    elif damage == "link":
        (kept / "link").unlink()
        (kept / "link").symlink_to("/etc/passwd")
    else:
        (kept / "empty").rmdir()
    assert persist.verify(str(kept), saved) != ""


def test_metadata_may_change_later(source: Path, trial: Path) -> None:
    (source / METADATA).write_text('{"a": 1}')
    saved, kept = save(source, trial)
    (kept / METADATA).write_text('{"a": 1, "b": 2}')
    assert persist.verify(str(kept), saved) == ""


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("a file")])
def test_what_is_no_directory_is_refused(tmp_path: Path, trial: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "source")
    with pytest.raises(ReportRefused, match="no such directory"):
        save(tmp_path / "source", trial)
    assert os.listdir(trial) == []


def test_a_pipe_is_refused(source: Path, trial: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(ReportRefused, match="pipe"):
        save(source, trial)
    assert os.listdir(trial) == []


def test_a_failure_of_the_disk_leaves_nothing(source: Path, trial: Path) -> None:
    (source / "file").write_text("x")
    (trial / "checkpoint_000000").mkdir()
    (trial / "checkpoint_000000" / "in the way").write_text("x")
    with pytest.raises(StorageError, match="restore"):
        save(source, trial)
    assert os.listdir(trial) == ["checkpoint_000000"]


@pytest.mark.parametrize(
    ("point", "left"),
    [("mid_checkpoint_stage", STAGING), ("before_checkpoint_rename", STAGING), ("after_checkpoint_rename", "checkpoint_000000")],
)
def test_a_crash_leaves_staging_or_a_whole_checkpoint(source: Path, trial: Path, point: str, left: str) -> None:
    class Crash(BaseException):
        pass

    def crash() -> None:
        raise Crash

    (source / "file").write_text("x")
    faults.arm(point, crash)
    try:
        with pytest.raises(Crash):
            save(source, trial)
    finally:
        faults.disarm()
    assert os.listdir(trial) == [left]
    persist.remove_staging(str(trial), ".staging-1-")
    assert os.listdir(trial) == ([] if left == STAGING else [left])


def test_the_counters_stand_in_the_manifest(source: Path, trial: Path) -> None:
    for index, keep in enumerate((persist.save, persist.stage)):
        keep(str(source), str(trial), index, STAGING, {"steps": 5})
        folder = trial / ("checkpoint_000000" if keep is persist.save else ".pending-000001")
        assert json.loads((folder / MANIFEST).read_text())["counters"] == {"steps": 5}


def test_hard_links_and_odd_names_are_kept(source: Path, trial: Path) -> None:
    odd = [os.fsdecode(b"not utf-8 \xff"), "new\nline", "-rf", "a b\t", "'\"$(x)", "\u202e", "x" * 255]
    for name in odd:
        (source / name).write_text(name, errors="surrogateescape")
    os.link(source / "-rf", source / "same")
    saved, kept = save(source, trial)
    assert sorted(os.listdir(kept)) == sorted([*odd, "same", MANIFEST])
    assert persist.verify(str(kept), saved) == ""
    assert saved.files == len(odd) + 1
    (kept / odd[0]).write_text("other")
    assert persist.verify(str(kept), saved) != ""


@pytest.mark.parametrize("size", [64 << 20, (64 << 20) + 7])
def test_holes_stay_holes(source: Path, trial: Path, size: int) -> None:
    with open(source / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(32 << 20)
        file.write(b"middle")
        file.truncate(size)
    saved, kept = save(source, trial)
    about = (kept / "sparse").stat()
    assert (about.st_size, saved.size) == (size, size)
    assert about.st_blocks * 512 < 1 << 20
    assert (kept / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert persist.verify(str(kept), saved) == ""


def test_a_file_that_is_cut_while_it_is_copied_is_refused(source: Path, trial: Path) -> None:
    (source / "second").write_bytes(bytes(3 << 20))
    real = os.copy_file_range

    def cut(*arguments: int) -> int:
        os.truncate(source / "second", 1 << 20)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "copy_file_range", cut)
        with pytest.raises(ReportRefused, match="changed"):
            save(source, trial)
    assert os.listdir(trial) == []


def test_between_file_systems_that_cannot_share_bytes_are_written(source: Path, trial: Path) -> None:
    data = random.Random(3).randbytes((2 << 20) + 5)
    (source / "file").write_bytes(data)

    def refuse(*_: int) -> int:
        raise OSError(errno.EXDEV, "two file systems")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "copy_file_range", refuse)
        saved, kept = save(source, trial)
    assert (kept / "file").read_bytes() == data
    assert persist.verify(str(kept), saved) == ""


_WITH_LITTLE_MEMORY = """
import resource, sys
from holdfast._worker import persist
source, trial = sys.argv[1:]
begun = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (begun + (48 << 20), begun + (48 << 20)))
saved = persist.save(source, trial, 0, ".staging")
staged = persist.stage(source, trial, 1, ".staging")
assert persist.commit(trial, staged, check=True) == ""
assert persist.verify(f"{trial}/checkpoint_000000", saved) == ""
print(saved.size, staged.size)
"""


@pytest.mark.slow
def test_a_large_file_needs_little_memory(source: Path, trial: Path) -> None:
    block = os.urandom(1 << 20)
    with open(source / "large", "wb") as file:
        file.writelines(block for _ in range(256))
    done = subprocess.run(
        [sys.executable, "-c", _WITH_LITTLE_MEMORY, source, trial], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == [str(256 << 20)] * 2, done.stderr


@pytest.mark.slow
def test_ten_thousand_files_are_kept(source: Path, trial: Path) -> None:
    for number in range(10_000):
        (source / str(number)).write_text(str(number))
    staged = persist.stage(str(source), str(trial), 0, STAGING)
    assert staged.files == 10_000
    assert persist.commit(str(trial), staged, check=True) == ""
    assert sorted(map(int, set(os.listdir(trial / "checkpoint_000000")) - {MANIFEST})) == list(range(10_000))


def stage(source: Path, trial: Path, index: int = 0) -> persist.Saved:
    return persist.stage(str(source), str(trial), index, STAGING)


@pytest.mark.parametrize("check", [False, True])
def test_what_is_staged_is_committed_and_may_be_again(source: Path, trial: Path, check: bool) -> None:
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "file").write_text("x")
    (source / "link").symlink_to("deep/er")
    saved = stage(source, trial, 3)
    assert os.listdir(trial) == [".pending-000003"]
    for _ in range(2):
        assert persist.commit(str(trial), saved, check=check) == ""
        assert os.listdir(trial) == ["checkpoint_000003"]
        assert persist.verify(str(trial / "checkpoint_000003"), saved) == ""


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("damage", ["flip", "remove", "manifest", "all"])
def test_what_was_damaged_meanwhile_is_found_and_removed(source: Path, trial: Path, damage: str, renamed: bool) -> None:
    (source / "file").write_bytes(bytes(1000))
    saved = stage(source, trial)
    folder = trial / ".pending-000000"
    if renamed:
        folder = folder.rename(trial / "checkpoint_000000")
    if damage == "flip":
        (folder / "file").write_bytes(bytes(999) + b"x")
    elif damage == "remove":
        (folder / "file").unlink()
    elif damage == "manifest":
        (folder / MANIFEST).write_text("{}")
    else:
        folder.rename(trial / "moved")
    assert persist.commit(str(trial), saved, check=True) != ""
    assert os.listdir(trial) == (["moved"] if damage == "all" else [])


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("mid_checkpoint_stage", STAGING),
        ("after_checkpoint_stage", ".pending-000000"),
        ("before_checkpoint_sync", ".pending-000000"),
        ("before_checkpoint_rename", ".pending-000000"),
        ("after_checkpoint_rename", "checkpoint_000000"),
    ],
)
def test_a_crash_on_the_way_leaves_the_files_whole_under_one_name(source: Path, trial: Path, point: str, left: str) -> None:
    class Crash(BaseException):
        pass

    def crash() -> None:
        raise Crash

    (source / "file").write_text("x")
    whole = stage(source, trial, 0)
    persist.remove_staging(str(trial), ".pending-")
    faults.arm(point, crash)
    try:
        with pytest.raises(Crash):
            persist.commit(str(trial), stage(source, trial), check=False)
    finally:
        faults.disarm()
    assert os.listdir(trial) == [left]
    if left != STAGING:
        assert persist.commit(str(trial), whole, check=True) == ""
        assert (trial / "checkpoint_000000" / "file").read_text() == "x"


def test_two_that_commit_at_once_both_succeed(source: Path, trial: Path) -> None:
    """A driver that was taken over and the one that took over: whoever comes second finds the name given."""
    (source / "file").write_text("x")
    saved = stage(source, trial)
    other: list[str] = []
    faults.arm("before_checkpoint_rename", lambda: (faults.disarm(), other.append(persist.commit(str(trial), saved, check=True))))
    try:
        assert persist.commit(str(trial), saved, check=True) == ""
    finally:
        faults.disarm()
    assert other == [""]
    assert persist.verify(str(trial / "checkpoint_000000"), saved) == ""
