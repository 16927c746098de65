from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.errors import StorageError
from holdfast.storage.nameless import NAME, keep


def target(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def test_parts_lie_where_they_were_told_to_and_what_is_between_is_empty() -> None:
    descriptor = keep([(0, memoryview(b"head")), (8, memoryview(b"")), (10, memoryview(b"tail"))], 20)
    assert target(descriptor).startswith(f"/memfd:{NAME}")
    assert os.pread(descriptor, 100, 0) == b"head\0\0\0\0\0\0tail" + bytes(6)
    assert not os.get_inheritable(descriptor)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


def test_the_next_place_is_taken_where_one_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    for temporary, results in ((tmp_path, tmp_path / "nowhere"), (tmp_path / "nowhere", tmp_path)):
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        monkeypatch.setenv("HOLDFAST_RESULTS_DIR", str(results))
        descriptor = keep([(0, memoryview(b"part"))], 4)
        assert target(descriptor).startswith(str(tmp_path)) and target(descriptor).endswith("(deleted)")
        assert os.pread(descriptor, 4, 0) == b"part"
        assert list(tmp_path.iterdir()) == []
        os.close(descriptor)


def test_each_refusal_is_told_and_nothing_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HOLDFAST_RESULTS_DIR", str(tmp_path))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StorageError) as caught:
        keep([], 1 << 60)
    assert os.listdir("/proc/self/fd") == before
    told = str(caught.value)
    for words in ("memory: ", "the directory for temporary files: No such file", f"bytes are left in {tmp_path}", "TMPDIR"):
        assert words in told
