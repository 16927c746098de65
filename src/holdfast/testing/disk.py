"""`SimulatedStorage`: a disk in memory that writes down each operation, and can be found again as after any crash.

Knows what a POSIX file system keeps and what it may lose: unsynced pages in any order, and
whatever was dirty when an fsync failed. It refuses to know what the files hold.
"""

from __future__ import annotations

import bisect
import copy
import errno
import itertools
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from holdfast.errors import ConfigError, StorageError

__all__ = ["Operation", "SimulatedAppendFile", "SimulatedDisk", "SimulatedStorage", "crash"]

PAGE = 4096

_names = itertools.count()


@dataclass(frozen=True)
class Operation:
    """One thing that was done to the disk.

    Attributes:
        kind: "create", "write", "sync", "sync_failed", "put", "put_if_absent" or "delete".
        path: To which file.
        data: What was written.
    """

    kind: str
    path: str
    data: bytes = b""


@dataclass
class _File:
    """A file, and how much of it a power cut cannot take: all below `durable`, but for the `lost` ranges."""

    content: bytearray
    durable: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class _Disk:
    """What a sequence of operations leaves. Deleted files stay known to those who have them open."""

    files: dict[str, _File] = field(default_factory=dict)
    deleted: dict[str, _File] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  # the names of `files`, sorted

    def apply(self, operation: Operation) -> None:
        """Does one operation, which must be possible."""
        path, data = operation.path, operation.data
        match operation.kind:
            case "create":
                self._name(path, _File(bytearray()))
            case "put" | "put_if_absent":
                self._name(path, _File(bytearray(data), len(data)))
            case "delete":
                self.deleted[path] = self.files.pop(path)
                del self.order[bisect.bisect_left(self.order, path)]
            case kind:
                # A file that was deleted while open goes on unseen.
                file = self.files.get(path) or self.deleted.get(path)
                if file is None:
                    return
                if kind == "write":
                    file.content += data
                else:
                    if kind == "sync_failed" and file.durable < len(file.content):
                        file.lost.append((file.durable, len(file.content)))
                    file.durable = len(file.content)

    def below(self, path: str) -> list[str]:
        """The file of that name, or all files in that directory."""
        if path in self.files:
            return [path]
        first = bisect.bisect_left(self.order, path + "/")
        return list(itertools.takewhile(lambda name: name.startswith(path + "/"), itertools.islice(self.order, first, None)))

    def _name(self, path: str, file: _File) -> None:
        if path not in self.files:
            bisect.insort(self.order, path)
        self.files[path] = file


class SimulatedAppendFile:
    """A file that its creator appends to."""

    def __init__(self, storage: SimulatedDisk, path: str) -> None:
        self._storage = storage
        self._path = path

    def write(self, data: bytes) -> int:
        """Appends; short where the disk fills up, an error where it is full."""
        return self._storage.append(self._path, bytes(data))

    def sync(self) -> None:
        """Makes the file durable, unless it was told to fail."""
        self._storage.sync(self._path)

    def close(self) -> None:
        """Nothing: there is no descriptor."""


class SimulatedDisk:
    """A disk in memory, with its log and its faults. `SimulatedStorage` puts the port on top.

    Attributes:
        root, uri: A name of its own, for error messages.
        log: Every operation so far, in order.
    """

    def __init__(self) -> None:
        self.root = self.uri = f"simulated-{next(_names)}"
        self.log: list[Operation] = []
        self._begin = _Disk()
        self._now = _Disk()
        self._lock = threading.RLock()
        self._room: int | None = None
        self._syncs_until_failure = 0

    def fail_sync(self, n: int) -> None:
        """Makes the n-th sync from now raise; the pages that were dirty then are lost at a power cut."""
        self._syncs_until_failure = n

    def fill(self, bytes_left: int | None) -> None:
        """Leaves room for so many more bytes; None for as many as wanted."""
        self._room = bytes_left

    def files(self) -> dict[str, bytes]:
        """All files and what they hold."""
        return {path: bytes(self._now.files[path].content) for path in self._now.order}

    def begin_with(self, files: dict[str, bytes]) -> None:
        """Puts files on a disk that nothing was done to, all durable, without an operation."""
        for path, data in files.items():
            self._begin.apply(Operation("put", path, data))
        self._now = copy.deepcopy(self._begin)

    def as_before(self, at: int) -> _Disk:
        """The disk as it was before operation `at` of the log."""
        disk = copy.deepcopy(self._begin)
        for operation in self.log[:at]:
            disk.apply(operation)
        return disk

    def append(self, path: str, data: bytes) -> int:
        """What `SimulatedAppendFile.write` does."""
        with self._lock:
            size = len(data) if self._room is None else min(len(data), self._room)
            if data and not size:
                raise StorageError(errno.ENOSPC, f"cannot append to {self.root}/{path}: no space left on device")
            self._do(Operation("write", path, data[:size]))
        return size

    def sync(self, path: str) -> None:
        """What `SimulatedAppendFile.sync` does."""
        with self._lock:
            self._syncs_until_failure -= 1
            if self._syncs_until_failure == 0:
                self._do(Operation("sync_failed", path))
                raise StorageError(errno.EIO, f"cannot make durable {self.root}/{path}: input/output error")
            self._do(Operation("sync", path))

    def _do(self, operation: Operation) -> None:
        if self._room is not None:
            if len(operation.data) > self._room:
                raise StorageError(errno.ENOSPC, f"cannot write {self.root}/{operation.path}: no space left on device")
            self._room -= len(operation.data)
        self.log.append(operation)
        self._now.apply(operation)


class SimulatedStorage(SimulatedDisk):
    """The storage port in memory."""

    def create_append(self, path: str) -> SimulatedAppendFile:
        """See the port."""
        self._check(path)
        with self._lock:
            if path in self._now.files:
                raise StorageError(errno.EEXIST, f"cannot create {self.root}/{path}: a file stands there")
            self._do(Operation("create", path))
        return SimulatedAppendFile(self, path)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """See the port."""
        self._check(path)
        with self._lock:
            if path in self._now.files:
                return False
            self._do(Operation("put_if_absent", path, bytes(data)))
        return True

    def put(self, path: str, data: bytes) -> None:
        """See the port."""
        self._check(path)
        with self._lock:
            self._do(Operation("put", path, bytes(data)))

    def read(self, path: str, offset: int = 0) -> bytes:
        """See the port."""
        self._check(path)
        file = self._now.files.get(path)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", f"{self.root}/{path}")
        return bytes(file.content[offset:])

    def exists(self, path: str) -> bool:
        """See the port."""
        self._check(path)
        return bool(self._now.below(path))

    def names(self, directory: str) -> list[str]:
        """See the port."""
        if not directory:
            return sorted({path.partition("/")[0] for path in self._now.files})
        self._check(directory)
        inside = (path.removeprefix(directory + "/") for path in self._now.below(directory) if path != directory)
        return sorted({path.partition("/")[0] for path in inside})

    def delete(self, path: str) -> None:
        """See the port."""
        self._check(path)
        with self._lock:
            for victim in self._now.below(path):  # one by one: a crash may leave a part of a directory
                self._do(Operation("delete", victim))

    def delete_files(self, paths: Sequence[str]) -> None:
        """See the port."""
        for path in paths:
            self.delete(path)

    def _check(self, path: str) -> None:
        if not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ConfigError(f"{path!r} leaves the experiment's directory {self.root}")


def crash(storage: SimulatedStorage, at: int, rng: random.Random, mode: Literal["kill", "power"] = "power") -> SimulatedStorage:
    """The disk as found after a crash just before operation `at` of its log.

    Args:
        storage: The disk; it is left as it is.
        at: How many operations were done.
        rng: Which pages a power cut takes.
        mode: "kill" keeps all that was written. "power" takes a random subset of the unsynced pages of 4 KiB (zeroes in their
            place, or a shorter file), and all that was dirty at a failed sync.

    Returns:
        A new disk, with an empty log; all on it is durable.
    """
    disk = storage.as_before(at)
    if mode == "kill":
        files = {path: bytes(file.content) for path, file in disk.files.items()}
    else:
        files = {path: _after_power_cut(file, rng) for path, file in sorted(disk.files.items())}
    found = SimulatedStorage()
    found.begin_with(files)
    return found


def _after_power_cut(file: _File, rng: random.Random) -> bytes:
    content = bytearray(file.content)
    for begin, end in file.lost:
        content[begin:end] = bytes(end - begin)
    at = file.durable
    while at < len(content):
        end = min(len(content), (at // PAGE + 1) * PAGE)
        if rng.random() < 0.5:
            content[at:end] = bytes(end - at)
        at = end
    if file.durable < len(content) and rng.random() < 0.5:
        del content[rng.randint(file.durable, len(content)) :]
    return bytes(content)
