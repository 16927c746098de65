"""The spool: what this machine has acknowledged and the store may not have yet.

Knows files on a local disk, one line of them per epoch, named by experiment, place, epoch, the nonce of the epoch's claim and the
slot that was to come next. The place is a part of it because a copy of an experiment has all else in common with the original,
and what the original acknowledged is not the copy's. It refuses to know the store. A record is written here before anything rests
on it, so `kill -9` of the driver loses nothing: the next driver on this machine takes it along in its claim.

Its own small fence mirrors the journal's: the taker first creates `.taken`, then reads; the writer writes, then looks for
`.taken`, and only then acknowledges. So all that was acknowledged is in what the taker reads. `.taken` stays for ever, as
claims do.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from holdfast._journal.frame import HEADER_SIZE, BadHeader, Frames, Header, TooNew
from holdfast.errors import StorageError
from holdfast.storage.base import AppendingStorage

__all__ = ["FOLDER", "Spool", "SpoolName", "files_of", "spooled", "take"]

_FILE_BYTES = 8 << 20
FOLDER = "spool"


class SpoolName(NamedTuple):
    """Whose records a line of files holds.

    Attributes:
        experiment_id: 32 hexadecimal digits.
        place: Eight more, for the place that the experiment is at.
        epoch: The epoch.
        nonce: That of the epoch's claim: a copy of the experiment that went on elsewhere has another.
    """

    experiment_id: str
    place: str
    epoch: int
    nonce: str

    @property
    def folder(self) -> str:
        """Where the files of this experiment at this place lie."""
        return f"{FOLDER}/{self.experiment_id}-{self.place}"

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return f"{self.epoch:08d}-{self.nonce[:16]}"

    @property
    def taken(self) -> str:
        """The fence."""
        return f"{self.folder}/{self.stem}.taken"

    @property
    def whereabouts(self) -> str:
        """The file that has the URI of the place, beside the others of its epoch."""
        return f"{self.folder}/{self.stem}.place"

    def file(self, slot: int) -> str:
        """The file that was begun when `slot` was to come next."""
        return f"{self.folder}/{self.stem}-{slot:012d}.log"


class Spool:
    """The records of the epoch that this process drives. One thread appends; another may call `forget`.

    Args:
        disk: On this machine.
        name: Whose records.
        uri: Of the place.
        slot: The number of the slot that comes next.
        first: The position of the first record.
    """

    def __init__(self, disk: AppendingStorage, name: SpoolName, uri: str, slot: int, first: int) -> None:
        self._disk = disk
        self._name = name
        self._kept: list[tuple[str, int]] = []  # files that are full, each with the position of its last record
        self._number = 0
        disk.put_if_absent(name.whereabouts, uri.encode("utf-8", "surrogateescape"))
        self._begin(slot, first)

    def append(self, payloads: list[bytes], slot: int) -> None:
        """Writes records, in order. When it returns they survive any kill, and nobody had taken the spool by then.

        Args:
            payloads: The records, encoded.
            slot: The number of the slot that comes next, should a new file be begun.

        Raises:
            StorageError: The disk refuses. Nothing may be appended after that.
        """
        if self._size >= _FILE_BYTES:
            self._file.close()
            self._kept.append((self._path, self._next - 1))
            self._begin(slot, self._next)
        data = b"".join(map(self._frames.record, payloads))
        size = self._file.write(data)
        if size != len(data):
            raise StorageError(
                28, f"cannot append to {self._path}: the disk took {size} of {len(data)} bytes. Free some space, then restore."
            )
        self._size += size
        self._next += len(payloads)

    def taken(self) -> bool:
        """Whether another driver on this machine has taken over."""
        return self._disk.exists(self._name.taken)

    def forget(self, durable: int) -> None:
        """Removes the full files all of whose records, up to position `durable`, are on the store."""
        while self._kept and self._kept[0][1] <= durable:
            self._disk.delete(self._kept.pop(0)[0])

    def close(self, *, remove: bool) -> None:
        """Lets the files go; with `remove` deletes them, for the store has all that they hold."""
        self._file.close()
        if remove:
            for path, _ in [*self._kept, (self._path, 0), (self._name.whereabouts, 0)]:
                self._disk.delete(path)
            self._kept = []

    def _begin(self, slot: int, first: int) -> None:
        self._path = self._name.file(slot)
        salt = int.from_bytes(os.urandom(4), "little")
        self._frames = Frames(salt)
        header = Header(self._name.experiment_id, self._name.epoch, self._number, first, salt).encode()
        self._file = self._disk.create_append(self._path)
        if self._file.write(header) != len(header):
            raise StorageError(28, f"cannot begin {self._path}: the disk is full. Free some space, then restore.")
        self._number += 1
        self._size = 0
        self._next = first


def take(disk: AppendingStorage, name: SpoolName) -> None:
    """Fences the writer of a spool, also one that has claimed and not begun its spool yet. What it appends from here on is void.

    Raises:
        StorageError: The disk refuses.
    """
    disk.put_if_absent(name.taken, b"")


def spooled(disk: AppendingStorage, name: SpoolName, after: int) -> tuple[list[bytes], list[str]]:
    """The encoded records behind position `after` without a gap, and the files that hold them.

    What a power cut has left of a file reads up to the first frame that does not; no record behind it counts.
    """
    files = files_of(disk, name)
    found: dict[int, bytes] = {}
    for path in files:
        data = disk.read(path)
        try:
            header = Header.decode(data)
        except (BadHeader, TooNew):
            continue  # a power cut before anything in it was acknowledged and kept
        if (header.experiment_id, header.epoch) != (name.experiment_id, name.epoch):
            continue
        scan = Frames(header.salt).scan(data, HEADER_SIZE, len(data))
        found.update({header.first + n: bytes(payload) for n, payload in enumerate(scan.records)})
    payloads: list[bytes] = []
    while (payload := found.get(after + 1 + len(payloads))) is not None:
        payloads.append(payload)
    return payloads, files


def files_of(disk: AppendingStorage, name: SpoolName) -> list[str]:
    """The files of a spool, in order; empty where there is none."""
    prefix = f"{name.stem}-"
    return [f"{name.folder}/{it}" for it in disk.names(name.folder) if it.startswith(prefix) and it.endswith(".log")]
