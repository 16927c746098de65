"""How a checkpoint is kept: copied aside, checksummed, made durable, and only then given its name.

This module knows files. It does not know rows or the driver: who calls `save` sends the row that names the checkpoint
after it returns, so that whatever a row names is complete and durable.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import zlib

import msgspec

from holdfast import faults
from holdfast._core.events import Saved
from holdfast._core.ids import checkpoint_name
from holdfast.checkpoint import MANIFEST, METADATA
from holdfast.errors import ReportRefused, StorageError

__all__ = ["remove_staging", "save", "sync_directory", "verify"]

_BLOCK = 1024 * 1024
_AT_ONCE = 64 * 1024 * 1024


class _Tree(msgspec.Struct):
    """What lies below a directory, by path relative to it."""

    directories: list[str]
    files: list[str]
    links: dict[str, str]


def save(source: str, trial_dir: str, index: int, staging: str) -> Saved:
    """Keeps a copy of the directory `source` as the trial's checkpoint `index`; durable when it returns.

    Links that point inside `source` by a relative path stay links; others are replaced by what they point to.
    A crash in the middle leaves a directory named `staging`, or a checkpoint that no row names: neither is ever read.

    Raises:
        ReportRefused: `source` is no readable directory, or holds something that is no file, directory or link.
        StorageError: The copy could not be made (disk full); nothing of it is left.
    """
    tree = _walk(source)
    aside = os.path.join(trial_dir, staging)
    try:
        saved = _copy(source, aside, tree, index)
        faults.reach("before_checkpoint_rename")
        os.rename(aside, os.path.join(trial_dir, checkpoint_name(index)))
        sync_directory(trial_dir)
        sync_directory(os.path.dirname(trial_dir))  # the trial's directory may be as new as the checkpoint
        faults.reach("after_checkpoint_rename")
    except OSError as error:
        remove_staging(trial_dir, staging)
        if error.filename is not None and _is_below(os.fspath(error.filename), source):
            raise ReportRefused(
                f"The checkpoint at {source} could not be read: {error}. Report a directory that stays as it is."
            ) from error
        raise StorageError(
            error.errno, f"Checkpoint {index} could not be saved in {trial_dir}: {error}. Free space there and restore."
        ) from error
    return saved


def verify(path: str, saved: Saved) -> str:
    """What is wrong with the kept checkpoint at `path`, in one line; empty when it is what was saved, byte for byte."""
    import json
    from hashlib import sha256

    try:
        with open(os.path.join(path, MANIFEST), "rb") as file:
            text = file.read()
        if sha256(text).hexdigest() != saved.manifest:
            return f"{MANIFEST} is not the one that was saved"
        manifest = json.loads(text)
        for name, size, checksum in manifest["files"]:
            if name == METADATA:
                continue
            file_path = os.path.join(path, name)
            if os.path.getsize(file_path) != size:
                return f"{name} has {os.path.getsize(file_path)} bytes instead of {size}"
            if _checksum(file_path) != checksum:
                return f"{name} does not have the content that was saved"
        for name, target in manifest["links"].items():
            if os.readlink(os.path.join(path, name)) != target:
                return f"the link {name} does not point to {target}"
        for name in manifest["directories"]:
            if not os.path.isdir(os.path.join(path, name)):
                return f"the directory {name} is missing"
    except OSError as error:
        return str(error)
    return ""


def remove_staging(trial_dir: str, prefix: str) -> None:
    """Removes what an unfinished save left: directories below `trial_dir` whose name begins with `prefix`."""
    try:
        names = [entry.name for entry in os.scandir(trial_dir) if entry.name.startswith(prefix)]
    except FileNotFoundError:
        return
    if names:
        import shutil
    for name in names:
        shutil.rmtree(os.path.join(trial_dir, name), ignore_errors=True)


def sync_directory(path: str) -> None:
    """Makes the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(source: str) -> _Tree:
    tree = _Tree([], [], {})
    if not os.path.isdir(source):
        raise ReportRefused(f"Checkpoint({source!r}): there is no such directory. Write the files, then report it.")
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            entries = sorted(os.scandir(os.path.join(source, below)), key=lambda entry: entry.name)
        except OSError as error:
            raise ReportRefused(f"The checkpoint at {source} could not be read: {error}.") from error
        for entry in entries:
            name = os.path.join(below, entry.name)
            if name == MANIFEST or entry.name.startswith(".staging-"):
                continue
            target = os.readlink(entry.path) if entry.is_symlink() else ""
            if target and (_stays_inside(name, target) or not os.path.exists(entry.path)):
                tree.links[name] = target
            elif entry.is_dir() and not (target and _is_below(os.path.realpath(source), os.path.realpath(entry.path))):
                tree.directories.append(name)
                pending.append(name)
            elif entry.is_file():
                tree.files.append(name)
            else:
                raise ReportRefused(
                    f"The checkpoint at {source} holds {name}, which is no file and no directory. Remove it, then report."
                )
    return tree


def _stays_inside(name: str, target: str) -> bool:
    """Whether a relative link at `name` points to something below the checkpoint."""
    reached = os.path.normpath(os.path.join(os.path.dirname(name), target))
    return not os.path.isabs(target) and not reached.startswith("..")


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _copy(source: str, aside: str, tree: _Tree, index: int) -> Saved:
    import json
    from hashlib import sha256

    os.mkdir(aside)
    for name in tree.directories:
        os.mkdir(os.path.join(aside, name))
    sizes = []
    for name in tree.files:
        sizes.append(_copy_file(os.path.join(source, name), os.path.join(aside, name)))
        faults.reach("mid_checkpoint_stage")
    for name, target in tree.links.items():
        os.symlink(target, os.path.join(aside, name))
    paths = [os.path.join(aside, name) for name in tree.files]
    checksums = _sync_and_checksum(paths, in_parallel=sum(sizes) > _BLOCK)
    files = list(zip(tree.files, sizes, checksums, strict=True))
    manifest = json.dumps({"version": 1, "files": files, "links": tree.links, "directories": tree.directories}).encode()
    with open(os.path.join(aside, MANIFEST), "wb", buffering=0) as file:
        file.write(manifest)
    _sync_file(os.path.join(aside, MANIFEST))
    for name in [*tree.directories, ""]:
        sync_directory(os.path.join(aside, name))
    return Saved(index, len(files), sum(sizes), sha256(manifest).hexdigest())


def _copy_file(source: str, target: str) -> int:
    """Copies one file, inside the kernel where it can; returns its size."""
    size = 0
    with open(source, "rb", buffering=0) as reader:
        mode = stat.S_IMODE(os.fstat(reader.fileno()).st_mode) | stat.S_IRUSR | stat.S_IWUSR
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            try:
                while copied := os.copy_file_range(reader.fileno(), descriptor, _AT_ONCE):
                    size += copied
            except OSError as error:
                if size or error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
            # What is left is what the kernel would not copy between these two file systems, or nothing.
            block = bytearray(_BLOCK)
            while length := reader.readinto(block):
                size += length
                view = memoryview(block)[:length]
                while view:
                    view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
    return size


def _sync_and_checksum(paths: list[str], in_parallel: bool) -> list[int]:
    """Makes the files durable; returns the CRC-32 of each as it now is. Disk and processor work side by side."""
    checksums: list[int] = []
    problems: list[OSError] = []

    def read_all() -> None:
        try:
            checksums.extend(map(_checksum, paths))
        except OSError as error:
            problems.append(error)

    reader = threading.Thread(target=read_all)
    if in_parallel:
        reader.start()
    else:
        read_all()
    try:
        for path in paths:
            _sync_file(path)
    finally:
        if in_parallel:
            reader.join()
    if problems:
        raise problems[0]
    return checksums


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(path: str) -> int:
    checksum, block = 0, bytearray(_BLOCK)
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(block):
            checksum = zlib.crc32(memoryview(block)[:length], checksum)
    return checksum
