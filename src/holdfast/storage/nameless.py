"""Nameless files: room for an object in memory, else on disk, that is gone with its last holder.

Knows where there is room and takes it before anything is written, so that a full memory or disk is an error and never a
signal. It refuses to know what is written. Linux only.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence

from holdfast import settings
from holdfast.errors import StorageError

__all__ = ["NAME", "keep"]

NAME = "holdfast-object"
"""What an in-memory file is called in `/proc/<pid>/fd` and `/proc/<pid>/maps`; the name leads nowhere."""

_AT_ONCE = 1 << 30  # one write takes less than 2 GiB


def keep(parts: Sequence[tuple[int, memoryview]], size: int) -> int:
    """Writes parts, each at its offset, into a nameless file; returns its descriptor, which nobody can write to any more.

    In memory where that has room for it (the machine's, or the cgroup's where it has less), else in `tempfile.gettempdir()`,
    else in the results directory.

    Raises:
        StorageError: None of them has room; nothing is left behind.
    """
    refused = []
    for where, make in _places():
        try:
            return _filled(make(size), parts, size)
        except OSError as error:
            refused.append(f"{where}: {error.strerror or error}")
    raise StorageError(
        f"There is no room for an object of {size:,} bytes ({'; '.join(refused)}). Free memory, make the object smaller, or set "
        "TMPDIR to a directory on a disk that has room."
    )


def _places() -> Iterator[tuple[str, Callable[[int], int]]]:
    yield "memory", _in_memory
    yield "the directory for temporary files", lambda size: _in_folder(tempfile.gettempdir(), size)
    yield "the results directory", lambda size: _in_folder(settings.results_dir(), size)


def _filled(descriptor: int, parts: Sequence[tuple[int, memoryview]], size: int) -> int:
    try:
        os.posix_fallocate(descriptor, 0, size)
        for offset, part in parts:
            done = 0
            while done < len(part):
                done += os.pwrite(descriptor, part[done : done + _AT_ONCE], offset + done)
        _seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _in_memory(size: int) -> int:
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "this system keeps no files in memory")
    left = _memory_left()
    if size > left:
        raise OSError(errno.ENOMEM, f"{left:,} bytes are left")
    return os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _in_folder(folder: str, size: int) -> int:
    disk = os.statvfs(folder)
    left = disk.f_bavail * disk.f_frsize
    if size > left:
        raise OSError(errno.ENOSPC, f"{left:,} bytes are left in {folder}")
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:  # has no name from the beginning, where the file system can
        return os.dup(file.fileno())


def _seal(descriptor: int) -> None:
    """Nobody, the owner included, changes or cuts an in-memory file from here on: who has mapped it never meets a hole."""
    import fcntl

    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    try:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file on disk takes no seals; it has no name that a stranger could write to
            raise


def _memory_left() -> int:
    """Bytes that can be had before something else has to go: the machine's, or those of our cgroups where they have less."""
    fields = dict(_numbers("/proc/meminfo"))
    left = 1024 * (fields["MemAvailable:"] + fields["SwapFree:"])
    with open("/proc/self/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2)[1:] for line in file]
    for controllers, path in groups:
        if not controllers:
            left = min(left, *_group_left(f"/sys/fs/cgroup{path}", "memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            named = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left = min(left, *_group_left(f"/sys/fs/cgroup/memory{path}", *named))
    return left


def _group_left(folder: str, limit: str, usage: str, idle: str) -> Iterator[int]:
    """What a cgroup and those above it leave, as far as they are to be seen and have a limit; at least one number."""
    yield 1 << 62
    while folder.startswith("/sys/fs/cgroup"):
        try:
            with open(f"{folder}/{limit}") as file:
                most = file.read().strip()
            if most != "max":
                with open(f"{folder}/{usage}") as file:
                    taken = int(file.read())
                yield int(most) - taken + dict(_numbers(f"{folder}/memory.stat")).get(idle, 0)
        except FileNotFoundError:
            pass  # the root has no limit; a container does not see the groups above its own
        folder = os.path.dirname(folder)


def _numbers(path: str) -> Iterator[tuple[str, int]]:
    with open(path) as file:
        for line in file:
            words = line.split()
            yield words[0], int(words[1])
