"""`NetworkStorage`: the storage port on a network file system, and on each that is not known to be local.

Knows close-to-open consistency, that of NFS: a file that was closed is seen whole by whoever opens it after that, and nothing
more is believed. So nothing is appended; whole files are staged and linked or renamed; what is looked at is opened anew; names
are looked up behind a fresh look at their directory; no lock is taken and no time of change is asked for. A handle may be stale,
because the file was replaced or removed elsewhere: the call is made again, by name. One link keeps two drivers apart.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import TypeVar

from holdfast.errors import StorageError
from holdfast.storage.posix import (
    PosixStorage,
    again_where_swept,
    link_staged,
    refused,
    sync_directory,
    unlink_staged,
    write_staged,
)

__all__ = ["NetworkStorage"]

_PAUSES_S = (0.0, 0.05, 0.2, 1.0)
_KEPT_OPEN = ".nfs"  # what a client makes of the name of a removed file that somebody still has open

T = TypeVar("T")


class NetworkStorage(PosixStorage):
    """One experiment's directory on a network file system; it is made by the first write."""

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Creates a whole file, atomically and durably, unless one stands there.

        Returns:
            Whether this call created it, also where the server's answer was lost.

        Raises:
            StorageError: The server refuses; the file may stand there.
        """
        full = self.resolve(path)
        directory = os.path.dirname(full)

        def stage() -> str:
            self.make_directory(directory)
            return write_staged(directory, data)

        def create() -> bool:
            staged = _anew(stage)
            try:
                return _anew(lambda: link_staged(staged, full))
            finally:
                unlink_staged(staged)

        try:
            created = again_where_swept(create)
            sync_directory(directory)
        except OSError as error:
            raise refused(error, "create", full) from error
        return created

    def put(self, path: str, data: bytes) -> None:
        """Creates or replaces a whole file, atomically and durably. After a crash in the middle the old one stands."""
        _anew(lambda: super(NetworkStorage, self).put(path, data))

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes from `offset` to the end, as they were when the file was last closed.

        Raises:
            FileNotFoundError: There is no file.
        """
        try:
            return _anew(lambda: super(NetworkStorage, self).read(path, offset))
        except FileNotFoundError:
            self._look_afresh(path)
            return _anew(lambda: super(NetworkStorage, self).read(path, offset))

    def exists(self, path: str) -> bool:
        """Whether a file or directory stands there."""
        self._look_afresh(path)
        return _anew(lambda: super(NetworkStorage, self).exists(path))

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory, "" for the experiment's own, without what is staged or removed and still open."""
        return [name for name in _anew(lambda: super(NetworkStorage, self).names(directory)) if not name.startswith(_KEPT_OPEN)]

    def delete(self, path: str) -> None:
        """Removes a file or a whole directory, durably; nothing where there is none.

        A file that somebody on this machine has open may keep its directory, empty, until it is closed.
        """
        try:
            _anew(lambda: super(NetworkStorage, self).delete(path))
        except StorageError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.EEXIST) or not _only_kept_open(self.resolve(path)):
                raise

    def _look_afresh(self, path: str) -> None:
        """Has the client ask the server what is in a directory: it may remember that a name was not there."""
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.dirname(self.resolve(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _anew(action: Callable[[], T]) -> T:
    """What `action` returns; where a handle was stale it is done again, with names looked up anew."""
    for pause in _PAUSES_S:
        time.sleep(pause)
        try:
            return action()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return action()


def _only_kept_open(full: str) -> bool:
    return all(name.startswith(_KEPT_OPEN) for _, _, names in os.walk(full) for name in names)
