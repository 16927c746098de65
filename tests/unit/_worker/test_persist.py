"""Checkpoints are kept whole, or not at all."""

from __future__ import annotations

import json
import os
import random
import stat
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
