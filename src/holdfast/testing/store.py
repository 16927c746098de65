"""`SimulatedStore`: an object store in memory, and the disk of the machine beside it, on one simulated disk.

    disk = SimulatedStorage()
    store = SimulatedStore(disk)      # the port without create_append; store.disk is the machine's own

Knows that what a store has confirmed outlives the machine. Everything is one log of operations, so `crash(disk, at, ...)` finds
both as they were. A power cut takes what this machine had not synced; a lost machine takes all of its disk (`without_machine`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from holdfast.errors import StorageError
from holdfast.testing.disk import SimulatedAppendFile, SimulatedStorage

__all__ = ["SimulatedStore", "without_machine"]

_STORE = "store"
_MACHINE = "machine"


class _Below:
    """The port, below one directory of a simulated disk."""

    def __init__(self, disk: SimulatedStorage, folder: str) -> None:
        self.root = self.uri = f"{disk.root}/{folder}"
        self._under = disk
        self._folder = folder

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """See the port."""
        return self._under.put_if_absent(self._at(path), data)

    def put(self, path: str, data: bytes) -> None:
        """See the port."""
        self._under.put(self._at(path), data)

    def read(self, path: str, offset: int = 0) -> bytes:
        """See the port."""
        return self._under.read(self._at(path), offset)

    def exists(self, path: str) -> bool:
        """See the port."""
        return self._under.exists(self._at(path))

    def names(self, directory: str) -> list[str]:
        """See the port."""
        return self._under.names(self._at(directory) if directory else self._folder)

    def delete(self, path: str) -> None:
        """See the port."""
        self._under.delete(self._at(path))

    def delete_files(self, paths: Sequence[str]) -> None:
        """See the port."""
        self._under.delete_files([self._at(path) for path in paths])

    def _at(self, path: str) -> str:
        # What may not leave the directory is refused by the disk: such a path goes to it as it is.
        bad = not path or path.startswith("/") or ".." in path.split("/")
        return path if bad else f"{self._folder}/{path}"


class _Machine(_Below):
    """The disk of the machine that the driver runs on."""

    def create_append(self, path: str) -> SimulatedAppendFile:
        """See the port."""
        return self._under.create_append(self._at(path))


class SimulatedStore(_Below):
    """The storage port of an object store.

    Attributes:
        disk: The machine's own disk, for the spool.
        log: What was done to either, in order.
        requests: How many requests were made.
        fate: Called with the number of each request and what it is about ("put_if_absent path"), before it is carried out;
            "before": it fails and nothing is carried out; "after": it is carried out and its reply is lost, for good.
    """

    def __init__(self, under: SimulatedStorage) -> None:
        super().__init__(under, _STORE)
        self.uri = "simulated store"  # one place, also as it was found after a crash
        self.disk = _Machine(under, _MACHINE)
        self.log = under.log
        self.requests = 0
        self.fate: Callable[[int, str], str] = lambda _number, _what: ""

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """See the port."""
        lost = self._request(f"put_if_absent {path}")
        done = super().put_if_absent(path, data)
        self._reply(path, lost=lost)
        return done

    def put(self, path: str, data: bytes) -> None:
        """See the port."""
        lost = self._request(f"put {path}")
        super().put(path, data)
        self._reply(path, lost=lost)

    def read(self, path: str, offset: int = 0) -> bytes:
        """See the port."""
        self._reply(path, lost=self._request(f"read {path}"))
        return super().read(path, offset)

    def exists(self, path: str) -> bool:
        """See the port."""
        self._reply(path, lost=self._request(f"exists {path}"))
        return super().exists(path)

    def names(self, directory: str) -> list[str]:
        """See the port."""
        self._reply(directory, lost=self._request(f"names {directory}"))
        return super().names(directory)

    def delete(self, path: str) -> None:
        """See the port."""
        lost = self._request(f"delete {path}")
        super().delete(path)
        self._reply(path, lost=lost)

    def delete_files(self, paths: Sequence[str]) -> None:
        """See the port."""
        if paths:
            lost = self._request(f"delete {paths[0]}")
            super().delete_files(paths)
            self._reply(paths[0], lost=lost)

    def _request(self, what: str) -> bool:
        self.requests += 1
        fate = self.fate(self.requests, what)
        if fate == "before":
            raise StorageError(errno.ETIMEDOUT, f"cannot reach {self.root} for {what}")
        return fate == "after"

    def _reply(self, path: str, *, lost: bool) -> None:
        if lost:
            raise StorageError(errno.ETIMEDOUT, f"no reply from {self.root} about {path}")


def without_machine(files: dict[str, bytes]) -> dict[str, bytes]:
    """What is left when the machine and its disk are gone: the store."""
    return {path: data for path, data in files.items() if path.startswith(f"{_STORE}/")}
