"""An NFSv4 export as a directory of this machine: FUSE in the kernel, libnfs in a process beside it, the server behind that.

    with mounted(port, folder): ...

The kernel of a container can mount no NFS, but FUSE where it has /dev/fuse. What processes of an experiment do in the directory
is done on the server, one call after another. Attributes are asked for each time, so what the caches of a kernel's own NFS client
would do is not shown.

Debian package: libfuse3-3 or fuse3. PyPI: mfusepy. Only soak tests use it; where something is missing they fail.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mfusepy

from nfs_client import Nfs

_SECONDS = 30.0


class Export(mfusepy.Operations):
    """Answers the kernel's questions with the server's answers; an `OSError` goes back with its number.

    Each open file has a client to itself: libnfs 4.0 loses count of what it opened and closed where files overlap.
    """

    use_ns = True

    def __init__(self, port: int) -> None:
        self.nfs = Nfs(port)
        self._port = port
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[Nfs, int]] = {}
        self._idle: list[Nfs] = []

    def getattr(self, path: str, fi: Any = None) -> dict[str, int]:
        found = self.nfs.lstat(path)
        return {name: getattr(found, name) for name in ("st_mode", "st_nlink", "st_size", "st_ino", "st_mtime", "st_ctime")}

    def readdir(self, path: str, fi: Any) -> list[str]:
        return [".", "..", *self.nfs.listdir(path)]

    def create(self, path: str, mode: int, fi: Any) -> int:
        return self._opened(path, os.O_RDWR | os.O_CREAT | (fi.flags & os.O_EXCL), mode, fi)

    def open(self, path: str, fi: Any) -> int:
        return self._opened(path, fi.flags & os.O_ACCMODE, 0, fi)

    def _opened(self, path: str, flags: int, mode: int, fi: Any) -> int:
        try:
            client = self._idle.pop()
        except IndexError:
            client = Nfs(self._port)
        number = client.open(path, flags, mode)  # where that fails, the client is used no more
        fi.fh = next(self._numbers)
        self._open[fi.fh] = (client, number)
        return 0

    def release(self, path: str, fi: Any) -> None:
        client, number = self._open.pop(fi.fh)
        client.close(number)
        self._idle.append(client)

    def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
        client, number = self._open[fi.fh]
        return client.pread(number, size, offset)

    def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
        client, number = self._open[fi.fh]
        done = 0
        while done < len(data):
            done += client.pwrite(number, data[done:], offset + done)
        return done

    def fsync(self, path: str, datasync: int, fi: Any) -> None:
        client, number = self._open[fi.fh]
        client.fsync(number)

    def truncate(self, path: str, length: int, fi: Any = None) -> None:
        self.nfs.truncate(path, length)

    def link(self, target: str, source: str) -> None:
        self.nfs.link(source, target)

    def rename(self, old: str, new: str, *flags: int) -> None:
        self.nfs.replace(old, new)

    def unlink(self, path: str) -> None:
        self.nfs.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        self.nfs.mkdir(path)

    def rmdir(self, path: str) -> None:
        self.nfs.rmdir(path)

    def symlink(self, target: str, source: str) -> None:
        self.nfs.symlink(source, target)

    def readlink(self, path: str) -> str:
        return self.nfs.readlink(path)

    def chmod(self, path: str, mode: int) -> None:
        self.nfs.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Nobody's concern here."""

    def utimens(self, path: str, times: Any = None) -> None:
        """Nothing rests on times of change."""


@contextmanager
def mounted(port: int, folder: Path) -> Iterator[str]:
    """The export of the server on `port`, in `folder` as long as the block runs."""
    folder.mkdir()
    process = subprocess.Popen([sys.executable, __file__, str(port), str(folder)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + _SECONDS
        while not os.path.ismount(folder):
            assert process.poll() is None, f"nothing is mounted: {process.communicate()[1]}"
            assert time.monotonic() < deadline, f"nothing is mounted after {_SECONDS} s"
            time.sleep(0.02)
        yield str(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
        process.terminate()
        process.communicate(timeout=_SECONDS)


if __name__ == "__main__":
    mfusepy.FUSE(Export(int(sys.argv[1])), sys.argv[2], foreground=True, raw_fi=True, hard_remove=True, attr_timeout=0)
