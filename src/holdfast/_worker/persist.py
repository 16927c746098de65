"""How a checkpoint is kept: copied aside, checksummed, made durable, and only then given its name.

This module knows files. It does not know rows or the driver: who calls `save` sends the row that names the checkpoint
after it returns, so that whatever a row names is complete and durable. `stage` and `commit` are its two halves: what is
staged is whole and survives the death of any process, what is committed survives the machine's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from holdfast import faults
from holdfast._core.events import Saved
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast._worker.copying import Checksums, checksum_of, copy_file, sync_files
from holdfast.checkpoint import MANIFEST, METADATA
from holdfast.errors import ReportRefused, StorageError

__all__ = ["Tree", "commit", "manifest_of", "remove_staging", "save", "stage", "sync_directory", "verify", "walk"]

_GONE = "its files are gone"


class Tree(msgspec.Struct):
    """What lies below a directory, by path relative to it."""

    directories: list[str]
    files: list[str]
    links: dict[str, str]


def save(source: str, trial_dir: str, index: int, staging: str, counters: Mapping[str, float] | None = None) -> Saved:
    """Keeps a copy of the directory `source` as the trial's checkpoint `index`; durable when it returns.

    Links that point inside `source` by a relative path stay links; others are replaced by what they point to. `counters` are
    what the trial had counted by then; they stand in the manifest.
    A crash in the middle leaves a directory named `staging`, or a checkpoint that no row names: neither is ever read.

    Raises:
        ReportRefused: `source` is no readable directory, or holds something that is no file, directory or link.
        StorageError: The copy could not be made (disk full); nothing of it is left.
    """
    tree = walk(source)
    aside = os.path.join(trial_dir, staging)
    try:
        saved = _copy(source, aside, tree, index, counters or {}, durable=True)
        faults.reach("before_checkpoint_rename")
        os.rename(aside, os.path.join(trial_dir, checkpoint_name(index)))
        _sync_names(trial_dir)
        faults.reach("after_checkpoint_rename")
    except OSError as error:
        remove_staging(trial_dir, staging)
        raise _refused(error, source, trial_dir, index) from error
    return saved


def stage(source: str, trial_dir: str, index: int, staging: str, counters: Mapping[str, float] | None = None) -> Saved:
    """Keeps a copy of `source` that `commit` can complete; errors, links and counters as in `save`.

    When it returns the copy is written and whole below `pending_name(index)`: it survives the death of any process, and not
    a power cut. A crash in the middle leaves a directory named `staging`.
    """
    tree = walk(source)
    aside = os.path.join(trial_dir, staging)
    try:
        saved = _copy(source, aside, tree, index, counters or {}, durable=False)
        os.rename(aside, os.path.join(trial_dir, pending_name(index)))
        faults.reach("after_checkpoint_stage")
    except OSError as error:
        remove_staging(trial_dir, staging)
        raise _refused(error, source, trial_dir, index) from error
    return saved


def commit(trial_dir: str, saved: Saved, *, check: bool) -> str:
    """Makes a staged checkpoint durable and gives it its name. May be repeated, also where the name was given already.

    Args:
        trial_dir: The trial's directory.
        saved: What `stage` returned.
        check: Whether to read all back from the disk before the name is given: for one that another process staged, and after
            an fsync that failed, which may have dropped what it should have written.

    Returns:
        What is wrong with the files, in one line, where they are gone or damaged; they are removed then. Empty when it is done.

    Raises:
        OSError: The disk refuses. A crash in the middle leaves the files whole, under one of the two names.
    """
    staged, final = (os.path.join(trial_dir, name(saved.index)) for name in (pending_name, checkpoint_name))
    faults.reach("before_checkpoint_sync")
    problem = _GONE
    for place in (staged, final):  # whoever staged it, or a later driver, may have given it its name just now
        if os.path.isdir(place):
            problem = _completed(place, final, saved, check=check)
        if not problem:
            faults.reach("after_checkpoint_rename")
            return ""
    return problem


def _completed(place: str, final: str, saved: Saved, *, check: bool) -> str:
    """Does what `commit` says with the files at `place`; what is damaged is removed."""
    try:
        _sync_tree(place, forget=check)
    except FileNotFoundError:
        if not os.path.isdir(place):
            return _GONE
        check = True  # something is missing, or is being moved: the manifest says
    problem = verify(place, saved) if check else ""
    if problem:
        if os.path.isdir(place):
            _remove(place)
        return problem
    if place != final:
        faults.reach("before_checkpoint_rename")
        try:
            os.rename(place, final)
        except FileNotFoundError:
            return _GONE
    _sync_names(os.path.dirname(final))
    return ""


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
            if checksum_of(file_path) != checksum:
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
    for name in names:
        _remove(os.path.join(trial_dir, name))


def sync_directory(path: str) -> None:
    """Makes the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(source: str) -> Tree:
    """What lies below the directory `source` and can be kept.

    Raises:
        ReportRefused: It is no readable directory, or holds something that is no file, directory or link.
    """
    tree = Tree([], [], {})
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


def _copy(source: str, aside: str, tree: Tree, index: int, counters: Mapping[str, float], *, durable: bool) -> Saved:
    from hashlib import sha256

    os.mkdir(aside)
    for name in tree.directories:
        os.mkdir(os.path.join(aside, name))
    sizes, copies = [], [os.path.join(aside, name) for name in tree.files]
    with Checksums() as checksums:
        for name, copy in zip(tree.files, copies, strict=True):
            sizes.append(copy_file(os.path.join(source, name), copy, checksums))
            faults.reach("mid_checkpoint_stage")
        for name, target in tree.links.items():
            os.symlink(target, os.path.join(aside, name))
        if durable:  # disk and processor work side by side
            sync_files(copies)
        found = checksums.of(copies)
    manifest = manifest_of(tree, list(zip(sizes, found, strict=True)), counters)
    with open(os.path.join(aside, MANIFEST), "wb", buffering=0) as file:
        file.write(manifest)
    if durable:
        sync_files([os.path.join(aside, MANIFEST)])
        for name in [*tree.directories, ""]:
            sync_directory(os.path.join(aside, name))
    return Saved(index, len(sizes), sum(sizes), sha256(manifest).hexdigest())


def manifest_of(tree: Tree, found: Sequence[tuple[int, int]], counters: Mapping[str, float]) -> bytes:
    """The content of the manifest; `found` has each file's size and CRC-32."""
    import json

    files = [(name, *one) for name, one in zip(tree.files, found, strict=True)]
    parts = {"version": 1, "files": files, "links": tree.links, "directories": tree.directories, "counters": dict(counters)}
    return json.dumps(parts).encode()


def _refused(error: OSError, source: str, trial_dir: str, index: int) -> ReportRefused | StorageError:
    if error.filename is not None and _is_below(os.fspath(error.filename), source):
        return ReportRefused(f"The checkpoint at {source} could not be read: {error}. Report a directory that stays as it is.")
    return StorageError(
        error.errno, f"Checkpoint {index} could not be saved in {trial_dir}: {error}. Free space there and restore."
    )


def _remove(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _sync_tree(path: str, *, forget: bool) -> None:
    """Makes all below a directory durable; `forget`: what is read next comes from the disk, as far as the system can."""
    folders, files = [], []
    for folder, _, names in os.walk(path, onerror=_raise):
        folders.append(folder)
        files += [full for name in names if not os.path.islink(full := os.path.join(folder, name))]
    sync_files(files, forget=forget)
    for folder in folders:
        sync_directory(folder)


def _raise(error: OSError) -> NoReturn:
    raise error


def _sync_names(trial_dir: str) -> None:
    sync_directory(trial_dir)
    sync_directory(os.path.dirname(trial_dir))  # the trial's directory may be as new as the checkpoint
