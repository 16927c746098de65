"""`LocalStorage`: the storage port on a local file system, whose appends are seen by others when they return."""

from __future__ import annotations

import os

from holdfast.storage.posix import PosixStorage, refused, sync_directory

__all__ = ["LocalAppendFile", "LocalStorage"]


class LocalAppendFile:
    """A file opened for appending by this process alone."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path

    def write(self, data: bytes) -> int:
        """Appends; when it returns, what it counts is in the kernel. Short where the disk is full.

        Raises:
            StorageError: Nothing was appended.
        """
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            raise refused(error, "append to", self._path) from error

    def sync(self) -> None:
        """Makes all that was written before the call durable.

        Raises:
            StorageError: What was not durable before may never be: the kernel may have dropped it. Do not try again.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise refused(error, "make durable", self._path) from error

    def close(self) -> None:
        """Lets the file go, without a sync. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class LocalStorage(PosixStorage):
    """One experiment's directory on a local file system; it is made by the first write."""

    def create_append(self, path: str) -> LocalAppendFile:
        """Creates a file exclusively, with its directories, and makes its name durable.

        Raises:
            StorageError: The disk refuses, or a file stands there (`errno.EEXIST`).
        """
        full = self.resolve(path)
        try:
            self.make_directory(os.path.dirname(full))
            descriptor = os.open(full, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                sync_directory(os.path.dirname(full))
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            raise refused(error, "create", full) from error
        return LocalAppendFile(descriptor, full)
