"""How one file is copied, checksummed and made durable.

This module knows bytes and holes. It does not know directories, or what the files are for.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import zlib
from collections.abc import Sequence
from io import FileIO
from queue import SimpleQueue
from types import TracebackType

__all__ = ["Checksums", "checksum_of", "copy_file", "sync_files"]

_BLOCK = 1024 * 1024
_MANY = 16
_AT_ONCE = 16 * 1024 * 1024
_NOT_IN_THE_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Checksums:
    """The CRC-32 of files that are just being written. Large ones are read by a thread, while more of them is written."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._parts: SimpleQueue[tuple[str, int, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._problem: OSError | None = None

    def wrote(self, path: str, offset: int, length: int) -> None:
        """The next part of a file was written; parts of a file come in order."""
        if offset == 0 and length <= _BLOCK:
            self._read(path, offset, length)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="holdfast-checksums")
            self._thread.start()
        self._parts.put((path, offset, length))

    def of(self, paths: list[str]) -> list[int]:
        """The checksums of whole files; one of which nothing was written has 0."""
        self._join()
        if self._problem is not None:
            raise self._problem
        return [self._found.get(path, 0) for path in paths]

    def __enter__(self) -> Checksums:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join()
            self._thread = None

    def _follow(self) -> None:
        while (part := self._parts.get()) is not None:
            try:
                self._read(*part)
            except OSError as error:
                self._problem = error

    def _read(self, path: str, offset: int, length: int) -> None:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            self._found[path] = _crc(file, self._found.get(path, 0), length)


def copy_file(source: str, target: str, checksums: Checksums) -> int:
    """Copies one file, inside the kernel where it can, its holes as holes; returns its size.

    Raises:
        OSError: It cannot be read or written, or became shorter meanwhile; what is added meanwhile is left out.
    """
    with open(source, "rb", buffering=0) as reader:
        about = os.fstat(reader.fileno())
        mode = stat.S_IMODE(about.st_mode) | stat.S_IRUSR | stat.S_IWUSR
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            at = 0
            while at < about.st_size:
                start = min(_next(reader.fileno(), at, os.SEEK_DATA, about.st_size), about.st_size)
                end = min(_next(reader.fileno(), start, os.SEEK_HOLE, about.st_size), start + _AT_ONCE, about.st_size)
                _copy_range(reader.fileno(), writer, start, end, source)
                if end == about.st_size:
                    os.ftruncate(writer, end)  # it may end in a hole
                if start > at:
                    checksums.wrote(target, at, start - at)
                if end > start:
                    checksums.wrote(target, start, end - start)
                at = end
            if os.fstat(reader.fileno()).st_size < about.st_size:
                raise _changed(source)
        finally:
            os.close(writer)
    return about.st_size


def _next(descriptor: int, offset: int, whence: int, size: int) -> int:
    """Where the next data or hole begins; `size` where none comes."""
    try:
        return os.lseek(descriptor, offset, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno == errno.EINVAL:  # a file system that knows no holes
            return offset if whence == os.SEEK_DATA else size
        raise


def _copy_range(reader: int, writer: int, start: int, end: int, source: str) -> None:
    try:
        while start < end and (copied := os.copy_file_range(reader, writer, end - start, start, start)):
            start += copied
    except OSError as error:
        if error.errno not in _NOT_IN_THE_KERNEL:
            raise
    # What is left is what the kernel would not copy between these two file systems, or nothing.
    block = bytearray(min(_BLOCK, end - start))
    while start < end:
        length = os.preadv(reader, [memoryview(block)[: end - start]], start)
        if not length:
            raise _changed(source)
        view = memoryview(block)[:length]
        while view:
            written = os.pwrite(writer, view, start)
            view, start = view[written:], start + written


def _changed(source: str) -> OSError:
    return OSError(errno.EBUSY, "the file was changed while it was copied", source)


def sync_files(paths: Sequence[str], *, forget: bool = False) -> None:
    """Makes the content of files durable.

    Args:
        paths: The files. Many are made durable side by side: then the disk does several in one go.
        forget: Whether what is read of them next comes from the disk, as far as the system can.
    """
    if len(paths) < _MANY:
        for path in paths:
            _sync_file(path, forget)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8, "holdfast-sync") as pool:
        for _ in pool.map(lambda path: _sync_file(path, forget), paths):
            pass


def _sync_file(path: str, forget: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if forget:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def checksum_of(path: str) -> int:
    """The CRC-32 of a file."""
    with open(path, "rb", buffering=0) as file:
        return _crc(file, 0, os.fstat(file.fileno()).st_size)


def _crc(file: FileIO, checksum: int, length: int) -> int:
    """The CRC-32 of the next `length` bytes, behind those that gave `checksum`."""
    block = bytearray(min(_BLOCK, length))
    while length > 0 and (read := file.readinto(memoryview(block)[:length])):
        checksum = zlib.crc32(memoryview(block)[:read], checksum)
        length -= read
    return checksum
