"""`PosixStorage`: whole files in a directory of this machine, durable with their names.

Knows POSIX: what must be fsynced, in which order, for a file and for its name. It refuses to know what the files hold, and how
far the file system is to be trusted: `local` and `network` do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import TypeVar

from holdfast.errors import ConfigError, StorageError
from holdfast.faults import armed, reach

__all__ = ["PosixStorage", "again_where_swept", "link_staged", "refused", "sync_directory", "unlink_staged", "write_staged"]

T = TypeVar("T")

_STAGING = ".tmp-"
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
# Opening a nameless file is refused by these on file systems that have none; then a named one is used.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def refused(error: OSError, what: str, path: str) -> StorageError:
    """The error to raise: what could not be done, why, and what to do next."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = {
        errno.ENOSPC: " Free some space, then restore.",
        errno.EDQUOT: " Free some of your quota, then restore.",
        errno.EACCES: " Give this user the right to do so, or choose another storage_path.",
        errno.EPERM: " Give this user the right to do so, or choose another storage_path.",
        errno.EROFS: " Choose a storage_path that can be written to.",
    }.get(error.errno or 0, " What was acknowledged is kept; restore when the cause is mended.")
    return StorageError(error.errno or errno.EIO, f"cannot {what} {path}: {reason}.{hint}")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class PosixStorage:
    """One experiment's directory; it is made by the first write.

    Attributes:
        root: Its absolute path.
        uri: Likewise.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self.uri = self.root
        self._prefix = self.root.rstrip("/") + "/"

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Creates a whole file, atomically and durably, unless one stands there.

        Returns:
            Whether this call created it. After a crash in the middle there is the whole file or none.
        """
        full = self.resolve(path)
        directory = os.path.dirname(full)
        try:
            self.make_directory(directory)
            if os.path.lexists(full):
                sync_directory(directory)  # whoever created it may have died before its name was durable
                return False
            created = _link_nameless(directory, full, data)
            if created is None:
                created = again_where_swept(lambda: _link_named(directory, full, data))
            sync_directory(directory)
        except OSError as error:
            raise refused(error, "create", full) from error
        return created

    def put(self, path: str, data: bytes) -> None:
        """Creates or replaces a whole file, atomically and durably. After a crash in the middle the old one stands."""
        full = self.resolve(path)
        directory = os.path.dirname(full)
        try:
            self.make_directory(directory)
            again_where_swept(lambda: _replace_named(directory, full, data))
            sync_directory(directory)
        except OSError as error:
            raise refused(error, "write", full) from error

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes from `offset` to the end.

        Raises:
            FileNotFoundError: There is no file.
        """
        full = self.resolve(path)
        try:
            with open(full, "rb", buffering=0) as file:
                if offset:
                    file.seek(offset)
                return file.read()
        except OSError as error:
            if error.errno in _ABSENT:
                raise FileNotFoundError(error.errno, os.strerror(error.errno), full) from error
            raise refused(error, "read", full) from error

    def exists(self, path: str) -> bool:
        """Whether a file or directory stands there. One system call.

        Only the system's word "no such file" counts as absence: the fence rests on this answer.
        """
        try:
            os.stat(self.resolve(path))
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return False
        except OSError as error:
            raise refused(error, "look at", self.resolve(path)) from error
        return True

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory, "" for the experiment's own, without staged ones; empty where there is none."""
        full = self.resolve(directory) if directory else self.root
        try:
            return sorted(name for name in os.listdir(full) if not name.startswith(_STAGING))
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise refused(error, "list", full) from error

    def delete(self, path: str) -> None:
        """Removes a file or a whole directory, durably; nothing where there is none.

        A crash in the middle of a directory leaves a part of it. May be repeated.
        """
        full = self.resolve(path)
        try:
            if stat.S_ISDIR(os.lstat(full).st_mode):
                import shutil

                if armed("mid_delete"):
                    _delete_one_below(full)
                    reach("mid_delete")
                shutil.rmtree(full)
            else:
                os.unlink(full)
            sync_directory(os.path.dirname(full))
        except OSError as error:
            if error.errno not in _ABSENT:
                raise refused(error, "delete", full) from error

    def delete_files(self, paths: Sequence[str]) -> None:
        """Removes files, each durably; passes over those that are not there."""
        for path in paths:
            self.delete(path)

    def sweep(self, directory: str) -> int:
        """Removes what killed processes left staged in `directory`; returns how many files. Only for the one driver."""
        full = self.resolve(directory)
        staged = [name for name in os.listdir(full) if name.startswith(_STAGING)] if os.path.isdir(full) else []
        for name in staged:
            self.delete(f"{directory}/{name}")
        return len(staged)

    def sweep_all(self) -> int:
        """Does `sweep` wherever whole files are put; returns how many files went."""
        journal = ("journal", *(f"journal/{folder}" for folder in ("epochs", "slots", "packs", "snapshots", "cut")))
        return sum(map(self.sweep, (*journal, "definitions")))

    def resolve(self, path: str) -> str:
        """The absolute path of a relative one.

        Raises:
            ConfigError: It leaves the directory.
        """
        if not path or path[0] == "/" or "\0" in path or (".." in path and ".." in path.split("/")):
            raise ConfigError(f"{path!r} leaves the experiment's directory {self.root}: give a relative path without '..'")
        return self._prefix + path

    def make_directory(self, full: str) -> None:
        """Makes a directory and those above it, each name durable in its parent."""
        if os.path.isdir(full):
            return
        parent = os.path.dirname(full)
        self.make_directory(parent)
        try:
            os.mkdir(full)
        except FileExistsError:
            if not os.path.isdir(full):
                raise
        sync_directory(parent)


def _delete_one_below(full: str) -> None:
    for folder, _, names in os.walk(full):
        if names:
            os.unlink(os.path.join(folder, max(names)))
            return


def sync_directory(full: str) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_staged(directory: str, data: bytes) -> str:
    """A durable file under a name that nobody else uses; a crash may leave it (see `PosixStorage.sweep`)."""
    staged = f"{directory}/{_STAGING}{os.urandom(8).hex()}"
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        os.unlink(staged)
        raise
    finally:
        os.close(descriptor)
    return staged


def _link_nameless(directory: str, full: str, data: bytes) -> bool | None:
    """Writes a file that has no name, then names it: a crash leaves nothing. None where the system cannot."""
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag:
        return None
    try:
        descriptor = os.open(directory, os.O_WRONLY | os.O_CLOEXEC | flag, 0o666)
    except OSError as error:
        if error.errno in _NO_TMPFILE:
            return None
        raise
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
        # A directory descriptor makes Python call linkat(), which alone can follow the link in /proc.
        os.link(f"/proc/self/fd/{descriptor}", full, src_dir_fd=descriptor, follow_symlinks=True)
    except FileExistsError:
        return False
    except FileNotFoundError:
        return None  # no /proc here
    finally:
        os.close(descriptor)
    return True


def link_staged(staged: str, full: str) -> bool:
    """Gives a staged file its name, unless that is taken; returns whether it has it. The staged name stays.

    A link may succeed while its answer is lost and the call repeated: two names mean that ours won. They are counted on a fresh
    descriptor, because a network file system may answer from a cache for a name.
    """
    try:
        os.link(staged, full)
    except FileExistsError:
        with open(staged, "rb") as file:
            return os.fstat(file.fileno()).st_nlink == 2
    return True


def _link_named(directory: str, full: str, data: bytes) -> bool:
    staged = write_staged(directory, data)
    try:
        return link_staged(staged, full)
    finally:
        unlink_staged(staged)


def _replace_named(directory: str, full: str, data: bytes) -> None:
    staged = write_staged(directory, data)
    try:
        os.replace(staged, full)
    except OSError:
        unlink_staged(staged)
        raise


def unlink_staged(staged: str) -> None:
    """Removes a staged name, unless a sweep was faster."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)


def again_where_swept(action: Callable[[], T]) -> T:
    """What `action` returns, which stages a file; done again where that is gone.

    A new driver sweeps what all before it had staged. One of those may be alive, and the new one's own heart beats meanwhile.
    """
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return action()
    return action()
