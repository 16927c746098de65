"""Writing one segment: appending frames, and keeping apart what is written from what is durable.

Knows one file of one epoch. It refuses to know claims and seals, and never reads. One thread appends; another may call
`sync`: they meet in two attributes, each replaced whole.
"""

from __future__ import annotations

import os

from holdfast import faults
from holdfast._journal import layout
from holdfast._journal.frame import Frames, Header
from holdfast.errors import StorageError
from holdfast.storage.base import AppendingStorage

__all__ = ["SegmentWriter"]


class SegmentWriter:
    """A segment of this driver's own epoch.

    Creating one makes its header durable, so that a header that does not read, with anything behind it, is corruption.

    Attributes:
        path: Its file.
        number: Its number in the epoch.
        first: The position of its first record.
        salt: Its salt.
        frames: Makes its frames.
        written: `(offset, position)`: how far it is written, and the last record in it or before it.
        synced: The same, as far as it is durable.

    Raises:
        StorageError: The disk refuses.
    """

    def __init__(self, storage: AppendingStorage, experiment_id: str, epoch: int, number: int, first: int) -> None:
        self.path = layout.segment_path(epoch, number)
        self.number = number
        self.first = first
        self.salt = int.from_bytes(os.urandom(4), "little")
        self.frames = Frames(self.salt)
        self._file = storage.create_append(self.path)
        self.written = (0, first - 1)
        self._marked = 0
        self.write(Header(experiment_id, epoch, number, first, self.salt).encode(), first - 1)
        self.sync()
        self._marked = self.synced[0]  # a header needs no mark

    def write(self, data: bytes, position: int) -> None:
        """Appends frames, the last of which is the record at `position`.

        Raises:
            StorageError: Not all of it was written. What is complete counts; nothing may be appended after it.
        """
        size = self._write_in_two(data) if faults.armed("in_write") else self._file.write(data)
        if size != len(data):
            raise StorageError(
                28, f"cannot append to {self.path}: the disk took {size} of {len(data)} bytes. Free some space, then restore."
            )
        self.written = (self.written[0] + size, position)

    def _write_in_two(self, data: bytes) -> int:
        half = len(data) // 2
        size = self._file.write(data[:half])
        faults.reach("in_write")
        return size + self._file.write(data[half:]) if size == half else size

    def pending_mark(self) -> bytes:
        """The sync mark that is to go out with the next write; empty where there is nothing new to say."""
        offset, position = self.synced
        if offset == self._marked:
            return b""
        self._marked = offset
        return self.frames.mark(offset, position)

    def sync(self) -> int:
        """Makes what is written durable; returns the position of the last record of it.

        Raises:
            StorageError: It may never be. The file must not be used again.
        """
        reached = self.written
        self._file.sync()
        self.synced = reached
        return reached[1]

    def close(self) -> None:
        """Lets the file go."""
        self._file.close()
