"""`LocalStorage`: the storage port on a local file system.

Knows POSIX: what must be fsynced, in which order, for a file and for its name. It refuses to know what the files hold.
Trust in append and link is a local file system's; a network file system gives less, and none is claimed here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from holdfast.errors import ConfigError, StorageError
from holdfast.faults import armed, reach

__all__ = ["LocalAppendFile", "LocalStorage"]

_STAGING = ".tmp-"
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
# Opening a nameless file is refused by these on file systems that have none; then a named one is used.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


def _refused(error: OSError, what: str, path: str) -> StorageError:
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
            raise _refused(error, "append to", self._path) from error

    def sync(self) -> None:
        """Makes all that was written before the call durable.

        Raises:
            StorageError: What was not durable before may never be: the kernel may have dropped it. Do not try again.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _refused(error, "make durable", self._path) from error

    def close(self) -> None:
        """Lets the file go, without a sync. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class LocalStorage:
    """One experiment's directory on a local file system; it is made by the first write.

    Attributes:
        root: Its absolute path.
        uri: Likewise.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self.uri = self.root
        self._prefix = self.root.rstrip("/") + "/"

    def create_append(self, path: str) -> LocalAppendFile:
        """Creates a file exclusively, with its directories, and makes its name durable.

        Raises:
            StorageError: The disk refuses, or a file stands there (`errno.EEXIST`).
        """
        full = self._resolve(path)
        try:
            self._make_directory(os.path.dirname(full))
            descriptor = os.open(full, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                _sync_directory(os.path.dirname(full))
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            raise _refused(error, "create", full) from error
        return LocalAppendFile(descriptor, full)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Creates a whole file, atomically and durably, unless one stands there.

        Returns:
            Whether this call created it. After a crash in the middle there is the whole file or none.
        """
        full = self._resolve(path)
        directory = os.path.dirname(full)
        try:
            self._make_directory(directory)
            if os.path.lexists(full):
                _sync_directory(directory)  # whoever created it may have died before its name was durable
                return False
            created = _link_nameless(directory, full, data)
            if created is None:
                created = _link_named(directory, full, data)
            _sync_directory(directory)
        except OSError as error:
            raise _refused(error, "create", full) from error
        return created

    def put(self, path: str, data: bytes) -> None:
        """Creates or replaces a whole file, atomically and durably. After a crash in the middle the old one stands."""
        full = self._resolve(path)
        directory = os.path.dirname(full)
        try:
            self._make_directory(directory)
            staged = _write_staged(directory, data)
            try:
                os.replace(staged, full)
            except OSError:
                os.unlink(staged)
                raise
            _sync_directory(directory)
        except OSError as error:
            raise _refused(error, "write", full) from error

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes from `offset` to the end.

        Raises:
            FileNotFoundError: There is no file.
        """
        full = self._resolve(path)
        try:
            with open(full, "rb", buffering=0) as file:
                if offset:
                    file.seek(offset)
                return file.read()
        except OSError as error:
            if error.errno in _ABSENT:
                raise FileNotFoundError(error.errno, os.strerror(error.errno), full) from error
            raise _refused(error, "read", full) from error

    def exists(self, path: str) -> bool:
        """Whether a file or directory stands there. One system call.

        Only the system's word "no such file" counts as absence: the fence rests on this answer.
        """
        try:
            os.stat(self._resolve(path))
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return False
        except OSError as error:
            raise _refused(error, "look at", self._resolve(path)) from error
        return True

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory, "" for the experiment's own, without staged ones; empty where there is none."""
        full = self._resolve(directory) if directory else self.root
        try:
            return sorted(name for name in os.listdir(full) if not name.startswith(_STAGING))
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise _refused(error, "list", full) from error

    def delete(self, path: str) -> None:
        """Removes a file or a whole directory, durably; nothing where there is none.

        A crash in the middle of a directory leaves a part of it. May be repeated.
        """
        full = self._resolve(path)
        try:
            if stat.S_ISDIR(os.lstat(full).st_mode):
                import shutil

                if armed("mid_delete"):
                    _delete_one_below(full)
                    reach("mid_delete")
                shutil.rmtree(full)
            else:
                os.unlink(full)
            _sync_directory(os.path.dirname(full))
        except OSError as error:
            if error.errno not in _ABSENT:
                raise _refused(error, "delete", full) from error

    def delete_files(self, paths: Sequence[str]) -> None:
        """Removes files, each durably; passes over those that are not there."""
        for path in paths:
            self.delete(path)

    def sweep(self, directory: str) -> int:
        """Removes what killed processes left staged in `directory`; returns how many files. Only for the one driver."""
        full = self._resolve(directory)
        staged = [name for name in os.listdir(full) if name.startswith(_STAGING)] if os.path.isdir(full) else []
        for name in staged:
            self.delete(f"{directory}/{name}")
        return len(staged)

    def sweep_all(self) -> int:
        """Does `sweep` wherever whole files are put; returns how many files went."""
        return sum(
            map(self.sweep, ("journal", "journal/epochs", "journal/packs", "journal/snapshots", "journal/cut", "definitions"))
        )

    def _resolve(self, path: str) -> str:
        if not path or path[0] == "/" or "\0" in path or (".." in path and ".." in path.split("/")):
            raise ConfigError(f"{path!r} leaves the experiment's directory {self.root}: give a relative path without '..'")
        return self._prefix + path

    def _make_directory(self, full: str) -> None:
        """Makes a directory and those above it, each name durable in its parent."""
        if os.path.isdir(full):
            return
        parent = os.path.dirname(full)
        self._make_directory(parent)
        try:
            os.mkdir(full)
        except FileExistsError:
            if not os.path.isdir(full):
                raise
        _sync_directory(parent)


def _delete_one_below(full: str) -> None:
    for folder, _, names in os.walk(full):
        if names:
            os.unlink(os.path.join(folder, max(names)))
            return


def _sync_directory(full: str) -> None:
    descriptor = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_staged(directory: str, data: bytes) -> str:
    """A durable file under a name that nobody else uses; a crash may leave it (see `LocalStorage.sweep`)."""
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


def _link_named(directory: str, full: str, data: bytes) -> bool:
    staged = _write_staged(directory, data)
    try:
        os.link(staged, full)
    except FileExistsError:
        # A link may succeed while its answer is lost and the call repeated: two names mean that ours won.
        return os.stat(staged).st_nlink == 2
    finally:
        os.unlink(staged)
    return True
