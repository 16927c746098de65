"""An NFSv4 server on loopback (nfs-ganesha) and its files, spoken to in user space (libnfs), with the names of Python's `os`.

The kernel of a container can mount nothing. So `through` puts this client in the place of `os` in the modules of the storage
adapter: what runs is the adapter's own code, and each of its calls goes over the wire. libnfs keeps no cache of files or
names, so what the caches of a kernel would do is not shown.

Debian packages: nfs-ganesha nfs-ganesha-vfs libnfs-utils. Without them tests fail in CI, and are skipped elsewhere.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import io
import itertools
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.storage import network, posix
from object_servers import free_port, wait_for

_CONFIG = """
NFS_CORE_PARAM {{ NFS_Port = {port}; Protocols = 4; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSV4 {{ Graceless = true; RecoveryRoot = "{folder}/recovery"; RecoveryBackend = fs; }}
EXPORT {{ Export_Id = 1; Path = {folder}/export; Pseudo = /x; Protocols = 4; Access_Type = RW; Squash = None; Sectype = sys;
    FSAL {{ Name = VFS; }} }}
LOG {{ Default_Log_Level = CRIT; }}
"""


@contextmanager
def ganesha(folder: Path) -> Iterator[int]:
    """A server whose export is empty; its port."""
    program, library = shutil.which("ganesha.nfsd"), ctypes.util.find_library("nfs")
    if program is None or library is None or os.geteuid() != 0:
        missing = "no nfs-ganesha and libnfs here, or not root: apt-get install nfs-ganesha nfs-ganesha-vfs libnfs-utils"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    port = free_port()
    for name in ("export", "recovery"):
        (folder / name).mkdir()
    (folder / "conf").write_text(_CONFIG.format(port=port, folder=folder))
    words = [program, "-F", "-f", str(folder / "conf"), "-L", str(folder / "log"), "-p", str(folder / "pid")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def through(port: int, patch: Any) -> None:
    """Has this process's storage adapter for network file systems work on the server's export. `patch`: a monkeypatch."""
    client = Nfs(port)
    for module in (posix, network):
        patch.setattr(module, "os", client)
    patch.setattr(posix, "open", client.opened, raising=False)
    patch.setattr(shutil, "rmtree", client.rmtree)


class _Url(ctypes.Structure):
    _fields_ = (("server", ctypes.c_char_p), ("path", ctypes.c_char_p), ("file", ctypes.c_char_p))


class _Stat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks"),
            *("atime", "mtime", "ctime", "atime_nsec", "mtime_nsec", "ctime_nsec", "used", "_"),
        )
    )


class _Entry(ctypes.Structure):
    _fields_ = (("next", ctypes.c_void_p), ("name", ctypes.c_char_p))


class Nfs:
    """What the adapter uses of `os`; all else is the real one's. Paths are the server's."""

    def __init__(self, port: int) -> None:
        self._lib = ctypes.CDLL(ctypes.util.find_library("nfs"))
        for name in ("nfs_init_context", "nfs_get_error", "nfs_readdir", "nfs_parse_url_dir"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._lib.nfs_init_context())
        self._lib.nfs4_set_client_name(
            self._context, f"{os.getpid()} {os.urandom(8).hex()}".encode()
        )  # one of two of a name is cut off
        self._lock = threading.Lock()
        self._handles: dict[int, ctypes.c_void_p | None] = {}
        self._numbers = itertools.count(1000)
        found = self._lib.nfs_parse_url_dir(self._context, f"nfs://127.0.0.1/x?version=4&nfsport={port}".encode())
        url = ctypes.cast(found, ctypes.POINTER(_Url)).contents
        self._call("", "mount", url.server, url.path)
        self.path = SimpleNamespace(
            **{name: getattr(os.path, name) for name in ("abspath", "expanduser", "dirname", "join", "basename")}
        )
        self.path.isdir = lambda path: stat.S_ISDIR(self._mode(path))
        self.path.lexists = lambda path: bool(self._mode(path))

    def __getattr__(self, name: str) -> Any:
        if name == "O_TMPFILE":
            raise AttributeError(name)  # NFS has none
        return getattr(os, name)

    def _call(self, path: str, name: str, *arguments: Any) -> int:
        with self._lock:
            result = int(getattr(self._lib, f"nfs_{name}")(self._context, *arguments))
        if result < 0:
            raise OSError(-result, os.strerror(-result), path)
        return result

    def _mode(self, path: str) -> int:
        try:
            return int(self.lstat(path).st_mode)
        except FileNotFoundError:
            return 0

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        number = next(self._numbers)
        if flags & os.O_DIRECTORY:
            self.stat(path)
            self._handles[number] = None
            return number
        handle = ctypes.c_void_p()
        if flags & os.O_CREAT:
            self._call(path, "open2", path.encode(), flags & ~os.O_CLOEXEC, mode & 0o644, ctypes.byref(handle))
        else:
            self._call(path, "open", path.encode(), flags & os.O_ACCMODE, ctypes.byref(handle))
        self._handles[number] = handle
        return number

    def write(self, number: int, data: Any) -> int:
        piece = bytes(data[:2000])  # libnfs 4.0 encodes hardly larger writes in NFSv4
        return self._call("", "write", self._handles[number], ctypes.c_uint64(len(piece)), piece)

    def pwrite(self, number: int, data: bytes, offset: int) -> int:
        piece = data[:2000]
        return self._call("", "pwrite", self._handles[number], ctypes.c_uint64(offset), ctypes.c_uint64(len(piece)), piece)

    def pread(self, number: int, size: int, offset: int) -> bytes:
        piece = ctypes.create_string_buffer(size)
        there = self._call("", "pread", self._handles[number], ctypes.c_uint64(offset), ctypes.c_uint64(size), piece)
        return piece.raw[:there]

    def fsync(self, number: int) -> None:
        if self._handles[number] is not None:
            self._call("", "fsync", self._handles[number])

    def close(self, number: int) -> None:
        handle = self._handles.pop(number)
        if handle is not None:
            self._call("", "close", handle)

    def fstat(self, number: int) -> Any:
        found = _Stat()
        self._call("", "fstat64", self._handles[number], ctypes.byref(found))
        return _as_os_says(found)

    def lstat(self, path: str) -> Any:
        found = _Stat()
        self._call(path, "lstat64", path.encode(), ctypes.byref(found))
        return _as_os_says(found)

    stat = lstat

    def link(self, source: str, target: str) -> None:
        self._call(target, "link", source.encode(), target.encode())

    def replace(self, source: str, target: str) -> None:
        self._call(target, "rename", source.encode(), target.encode())

    def unlink(self, path: str) -> None:
        self._call(path, "unlink", path.encode())

    def mkdir(self, path: str) -> None:
        self._call(path, "mkdir", path.encode())

    def rmdir(self, path: str) -> None:
        self._call(path, "rmdir", path.encode())

    def symlink(self, source: str, target: str) -> None:
        self._call(target, "symlink", source.encode(), target.encode())

    def readlink(self, path: str) -> str:
        found = ctypes.create_string_buffer(4096)
        self._call(path, "readlink", path.encode(), found, len(found))
        return found.value.decode()

    def truncate(self, path: str, length: int) -> None:
        self._call(path, "truncate", path.encode(), ctypes.c_uint64(length))

    def chmod(self, path: str, mode: int) -> None:
        self._call(path, "chmod", path.encode(), mode)

    def listdir(self, path: str) -> list[str]:
        folder, names = ctypes.c_void_p(), []
        if not stat.S_ISDIR(self._mode(path)):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self._call(path, "opendir", path.encode(), ctypes.byref(folder))
        with self._lock:
            while entry := self._lib.nfs_readdir(self._context, folder):
                names.append(ctypes.cast(entry, ctypes.POINTER(_Entry)).contents.name.decode())
            self._lib.nfs_closedir(self._context, folder)
        return [name for name in names if name not in (".", "..")]

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        names = self.listdir(path)
        below = [name for name in names if stat.S_ISDIR(self._mode(f"{path}/{name}"))]
        yield path, below, [name for name in names if name not in below]
        for name in below:
            yield from self.walk(f"{path}/{name}")

    def rmtree(self, path: str) -> None:
        for name in self.listdir(path):
            full = f"{path}/{name}"
            if stat.S_ISDIR(self._mode(full)):
                self.rmtree(full)
            else:
                self.unlink(full)
        self.rmdir(path)

    def opened(self, path: str, _: str, buffering: int = -1) -> Any:
        """A file opened for reading."""
        number = self.open(path, os.O_RDONLY)
        return _File(self, number)


def _as_os_says(found: _Stat) -> Any:
    times = {f"st_{name}": getattr(found, name) * 10**9 + getattr(found, f"{name}_nsec") for name in ("mtime", "ctime")}
    return SimpleNamespace(st_mode=found.mode, st_nlink=found.nlink, st_size=found.size, st_ino=found.ino, **times)


class _File(io.BytesIO):
    """A file's content, read when it was opened; its descriptor stays open as long."""

    def __init__(self, client: Nfs, number: int) -> None:
        self._client, self._number, data = client, number, b""
        while True:
            piece = ctypes.create_string_buffer(1 << 16)
            length = client._call("", "read", client._handles[number], ctypes.c_uint64(len(piece)), piece)
            if not length:
                break
            data += piece.raw[:length]
        super().__init__(data)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if not self.closed:
            self._client.close(self._number)
        super().close()
