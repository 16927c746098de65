"""The census counts what an experiment has on a machine, and nothing else."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.census import Census, fingerprint, memory_files, processes_of

TOKEN = f"census-test-{os.getpid()}."
CODE = "import os, sys; os.setsid(); print(os.getpid(), flush=True); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[int]:
    """A process of an experiment of that token, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HOLDFAST_TOKEN": f"{TOKEN}1"},
    )
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.communicate()


def test_processes_are_found_by_their_token(child: int) -> None:
    assert list(processes_of(TOKEN)) == [child]
    assert "sys.stdin.read()" in processes_of(f"{TOKEN}1")[child]
    assert processes_of(f"{TOKEN}2") == {}
    with pytest.raises(ValueError, match="every process"):
        processes_of("")


def test_what_is_new_is_told(tmp_path: Path, child: int) -> None:
    (tmp_path / "old").touch()
    before = Census.take("nobody.", str(tmp_path))
    assert Census.take("nobody.", str(tmp_path)).since(before) == []
    (tmp_path / "new").touch()
    told = Census.take(TOKEN, str(tmp_path), str(tmp_path / "nowhere")).since(before)
    assert len(told) == 2
    assert told[0].startswith(f"process {child}: ")
    assert told[1] == str(tmp_path / "new")


def test_memory_is_found_while_it_is_open_or_mapped() -> None:
    def new() -> list[str]:
        return Census.take("nobody.").since(before)

    before = Census.take("nobody.")
    descriptor = os.memfd_create("holdfast-test")
    os.ftruncate(descriptor, 10)
    inode = os.fstat(descriptor).st_ino
    assert new() == [f"in-memory file {inode} held by [{os.getpid()}]"]
    mapped = mmap.mmap(descriptor, 10)
    os.close(descriptor)
    assert new() == [f"in-memory file {inode} held by [{os.getpid()}]"]
    mapped.close()
    assert new() == []
    assert memory_files([2**30]) == {}


def test_a_fingerprint_shows_each_kind_of_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a")
    before = fingerprint(str(tmp_path))
    assert sorted(before) == ["a", "folder", "link"]
    assert fingerprint(str(tmp_path)) == before
    (tmp_path / "a").write_text("two")
    changed = fingerprint(str(tmp_path))
    assert [name for name in before if changed[name] != before[name]] == ["a"]
    (tmp_path / "a").write_text("one")
    (tmp_path / "folder").chmod(0o700)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("folder")
    changed = fingerprint(str(tmp_path))
    assert [name for name in before if changed[name] != before[name]] == ["folder", "link"]
