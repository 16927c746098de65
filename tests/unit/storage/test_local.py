from __future__ import annotations

import errno
import os

import pytest

from holdfast.errors import StorageError
from holdfast.storage.local import LocalAppendFile, LocalStorage


def test_the_directory_is_made_by_the_first_write(tmp_path):
    storage = LocalStorage(tmp_path / "a" / "b")
    assert storage.root == str(tmp_path / "a" / "b")
    assert storage.names("x") == []
    assert not (tmp_path / "a").exists()
    storage.put_if_absent("journal/birth", b"1")
    assert (tmp_path / "a" / "b" / "journal" / "birth").read_bytes() == b"1"


def test_a_home_and_a_relative_path_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert LocalStorage("x").root == str(tmp_path / "x")
    assert LocalStorage("~/x").root == str(tmp_path / "home" / "x")


def test_files_take_the_users_umask(tmp_path):
    storage = LocalStorage(tmp_path)
    before = os.umask(0o027)
    try:
        storage.put("put", b"")
        storage.put_if_absent("absent", b"")
        storage.create_append("append").close()
    finally:
        os.umask(before)
    assert {name: oct((tmp_path / name).stat().st_mode & 0o777) for name in ("put", "absent", "append")} == dict.fromkeys(
        ("put", "absent", "append"), "0o640"
    )


def test_a_full_disk_is_told_with_what_to_do():
    file = LocalAppendFile(os.open("/dev/full", os.O_WRONLY), "/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device.* Free some space") as caught:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, OSError)
    file.close()


def test_a_sync_that_fails_is_told():
    reading, writing = os.pipe()
    file = LocalAppendFile(writing, "a pipe")
    with pytest.raises(StorageError, match="cannot make durable a pipe"):
        file.sync()  # the system refuses to sync a pipe
    file.close()
    os.close(reading)


def test_a_file_in_a_directorys_place_is_told(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.put("file", b"")
    for use in (storage.create_append, lambda path: storage.put(path, b""), lambda path: storage.put_if_absent(path, b"")):
        with pytest.raises(StorageError, match="cannot"):
            use("file/below")
    with pytest.raises(FileNotFoundError):
        storage.read("file/below")
    assert not storage.exists("file/below")
    assert storage.names("file") == []
    with pytest.raises(StorageError, match="cannot read"):
        LocalStorage(tmp_path.parent).read(tmp_path.name)


def test_only_the_systems_word_counts_as_absence(tmp_path):
    """The fence rests on `exists`: a name that cannot be looked up is not one that is absent."""
    with pytest.raises(StorageError, match="cannot look at"):
        LocalStorage(tmp_path).exists("x" * 300)


@pytest.mark.parametrize("nameless", [True, False])
def test_what_failed_leaves_nothing_staged(tmp_path, monkeypatch, nameless):
    storage = LocalStorage(tmp_path)
    if not nameless:
        monkeypatch.delattr("os.O_TMPFILE")

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(StorageError):
            storage.put_if_absent("d/x", b"data")
        with pytest.raises(StorageError):
            storage.put("d/x", b"data")
    assert os.listdir(tmp_path / "d") == []


def test_staging_files_are_hidden_and_swept(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.put("d/x", b"")
    (tmp_path / "d" / ".tmp-0123").write_bytes(b"left by a killed process")
    assert storage.names("d") == ["x"]
    assert storage.sweep("d") == 1
    assert storage.sweep("d") == 0
    assert storage.sweep("nowhere") == 0
    assert os.listdir(tmp_path / "d") == ["x"]


def test_what_is_written_has_been_synced_with_its_name(tmp_path, monkeypatch):
    """The order on the disk: contents before the name, the name before the call returns, new directories too."""
    done = []
    real_fsync, real_link, real_replace, real_mkdir = os.fsync, os.link, os.replace, os.mkdir

    def fsync(descriptor):
        directory = os.path.isdir(f"/proc/self/fd/{descriptor}")
        done.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}" if directory else "sync file")
        real_fsync(descriptor)

    def link(source, target, **options):
        real_link(source, target, **options)
        done.append("name")

    def replace(source, target):
        real_replace(source, target)
        done.append("name")

    def mkdir(path):
        real_mkdir(path)
        done.append("mkdir " + os.path.basename(path))

    for name, function in {"fsync": fsync, "link": link, "replace": replace, "mkdir": mkdir}.items():
        monkeypatch.setattr(os, name, function)
    storage = LocalStorage(tmp_path / "root")
    storage.put_if_absent("d/x", b"1")
    parent = tmp_path.name
    assert done == ["mkdir root", f"sync {parent}", "mkdir d", "sync root", "sync file", "name", "sync d"]
    done.clear()
    storage.put("d/x", b"2")
    assert done == ["sync file", "name", "sync d"]
    done.clear()
    file = storage.create_append("d/y")
    assert done == ["sync d"]
    file.write(b"x")
    file.sync()
    assert done == ["sync d", "sync file"]
    file.close()
