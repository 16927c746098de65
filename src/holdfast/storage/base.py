"""The storage port: what the journal and the experiment's files need of a disk.

Paths are relative to the experiment's directory, with "/" between their parts; a path that is absolute or holds ".."
is a `ConfigError`: no name from a user escapes. All methods raise `StorageError` where the disk refuses.
*Written* means in the kernel (survives any kill -9); *durable* means fsynced with its directory entry, or on an object
store: the put confirmed. A file system whose appends can be trusted is an `AppendingStorage`; an object store is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

__all__ = ["AppendFile", "AppendingStorage", "Storage"]


class AppendFile(Protocol):
    """A file that this process created and alone appends to."""

    def write(self, data: bytes) -> int:
        """Appends; when it returns, what it counts is written. May be short (disk full), as `os.write` is."""

    def sync(self) -> None:
        """Makes all that was written before the call durable. May be called from another thread than `write`."""

    def close(self) -> None:
        """Lets the file go, without a sync."""


class Storage(Protocol):
    """One experiment's directory.

    Attributes:
        root: Where it is, for people.
        uri: What `open_storage` opens again, in any process: an absolute path, or a URI with its parameters. No secret.
    """

    root: str
    uri: str

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Creates a whole file, atomically and durably, unless one stands there; False then.

        Of all that try at once, in whatever process, one is told True. `StorageError` where nobody can tell who won: the file
        may then stand there, now or a little later.
        """

    def put(self, path: str, data: bytes) -> None:
        """Creates or replaces a whole file, atomically and durably."""

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes from `offset` to the end. `FileNotFoundError` where there is no file."""

    def exists(self, path: str) -> bool:
        """Whether a file or directory stands there."""

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory, "" for the experiment's own; empty where there is none."""

    def delete(self, path: str) -> None:
        """Removes a file or a whole directory, durably; nothing where there is none.

        A crash in the middle of a directory may leave a part of it: call again.
        """

    def delete_files(self, paths: Sequence[str]) -> None:
        """Removes files, durably, in as few requests as the place allows; those that are not there are passed over.

        A crash in the middle leaves some.
        """


@runtime_checkable
class AppendingStorage(Storage, Protocol):
    """One experiment's directory on a file system whose appends are seen by others when they return, and stay in order."""

    def create_append(self, path: str) -> AppendFile:
        """Creates a file exclusively, its directories too, and makes its directory entry durable."""
