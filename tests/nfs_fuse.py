"""A program that answers FUSE's questions about a directory with those of an NFSv4 server: `nfs_fuse.py PORT DIRECTORY`.

`nfs_mount` starts it. It loads libfuse, so no test imports it.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

import mfusepy

from nfs_client import Nfs


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


if __name__ == "__main__":
    mfusepy.FUSE(Export(int(sys.argv[1])), sys.argv[2], foreground=True, raw_fi=True, hard_remove=True, attr_timeout=0)
