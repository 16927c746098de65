"""Fetching: a directory of an object store onto this machine, once for all that use it.

Knows the manifest that stands beside a kept checkpoint's files: sizes, checksums, links, empty directories. What does not agree
with it is never given out. It refuses to know trials. Names come from a bucket that others may write to: none leaves the
directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

from holdfast import settings
from holdfast._core.ids import MANIFEST, METADATA
from holdfast.errors import StorageError
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.uri import Place, open_place

__all__ = ["DAMAGED", "fetch_directory", "shared_copy"]

DAMAGED = errno.EBADMSG
"""The `errno` of a `StorageError` that says: what lies there is not what was kept. Asking again changes nothing."""
_AT_ONCE = 8


def fetch_directory(storage: ObjectStorage, path: str, target: str, manifest: str = "") -> None:
    """Writes all that lies below `path` into the local directory `target`, created if missing, eight files at a time.

    Args:
        storage: Where it is.
        path: The directory.
        target: Where it goes. Memory stays bounded, however large the files are.
        manifest: The sha256 that its manifest must have; empty: whatever stands there.

    Raises:
        FileNotFoundError: There is nothing below `path`.
        StorageError: What came is not what was kept (a checksum, a missing file; `DAMAGED`), or the store refuses. A part may be
            left.
        OSError: The local disk refuses.
    """
    sizes = storage.sizes_below(path)
    if not sizes:
        raise FileNotFoundError(errno.ENOENT, "there is nothing there", f"{storage.root}/{path}")
    text = storage.read(f"{path}/{MANIFEST}") if MANIFEST in sizes else b""
    _check_manifest(f"{storage.root}/{path}", text, manifest)
    parts: dict[str, Any] = json.loads(text) if text else {"files": [], "links": {}, "directories": []}
    named = {METADATA, *(name for name, _, _ in parts["files"])} if text else sizes  # not what a try that failed may have left
    names = [name for name in sizes if name != MANIFEST and name in named]
    for name in (*names, *parts["links"], *parts["directories"]):
        _check_name(storage, path, name)
    os.makedirs(target, exist_ok=True)
    folders = {os.path.dirname(name) for name in (*names, *parts["links"])} | set(parts["directories"])
    for folder in sorted(folders):
        os.makedirs(os.path.join(target, folder), exist_ok=True)
    with ThreadPoolExecutor(_AT_ONCE, "holdfast-fetch") as pool:
        found = dict(
            zip(names, pool.map(lambda name: storage.fetch(f"{path}/{name}", os.path.join(target, name)), names), strict=True)
        )
    for name, size, checksum in parts["files"]:
        if name != METADATA and found.get(name) != (size, checksum):
            what = "is missing" if name not in found else "does not have the content that was saved"
            raise StorageError(DAMAGED, f"{storage.root}/{path}: {name} {what}. Use another checkpoint, or a copy of this one.")
    for name, to in parts["links"].items():
        if os.path.isabs(to) or os.path.normpath(os.path.join(os.path.dirname(name), to)).startswith(".."):
            raise StorageError(DAMAGED, f"{storage.root}/{path}: the link {name} leads out of the checkpoint; it was not made.")
        os.symlink(to, os.path.join(target, name))
    if text:
        with open(os.path.join(target, MANIFEST), "wb") as file:
            file.write(text)


@contextlib.contextmanager
def shared_copy(place: Place, manifest: str = "") -> Iterator[str]:
    """A local directory with the files of a place: fetched by the first of all processes on this machine that want it.

    It is removed after the last one, also where that one was killed: then by the next that uses any. Only read in it.
    `manifest` as in `fetch_directory`.

    Raises:
        FileNotFoundError, StorageError, OSError: As `fetch_directory`.
    """
    cache = os.path.join(settings.cache_dir(), "checkpoints")
    os.makedirs(cache, exist_ok=True)
    folder = os.path.join(cache, sha256(place.uri.encode()).hexdigest()[:32])
    with _held(f"{folder}.lock"):
        if not os.path.isdir(folder):
            shutil.rmtree(f"{folder}.part", ignore_errors=True)
            fetch_directory(open_place(_above(place)), place.prefix.rpartition("/")[2], f"{folder}.part", manifest)
            os.rename(f"{folder}.part", folder)
        elif manifest:
            kept = os.path.join(folder, MANIFEST)
            with open(kept, "rb") if os.path.exists(kept) else io.BytesIO() as file:
                _check_manifest(place.shown, file.read(), manifest)
        use = os.open(f"{folder}.use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(use, fcntl.LOCK_SH)
    try:
        yield folder
    finally:
        os.close(use)
        _sweep(cache)


def _check_manifest(where: str, text: bytes, wanted: str) -> None:
    if wanted and sha256(text).hexdigest() != wanted:
        what = f"{MANIFEST} is not the one that was saved" if text else f"{MANIFEST} is missing"
        raise StorageError(DAMAGED, f"{where}: {what}. Use another checkpoint, or a copy of this one.")


def _above(place: Place) -> Place:
    import msgspec

    return msgspec.structs.replace(place, prefix=place.prefix.rpartition("/")[0])


def _sweep(cache: str) -> None:
    """Removes the copies that nobody uses. A lock goes with the process that holds it, so a killed user holds none."""
    for name in {entry.split(".")[0] for entry in os.listdir(cache)}:
        folder = os.path.join(cache, name)
        with contextlib.suppress(BlockingIOError), _held(f"{folder}.lock", wait=False):
            use = os.open(f"{folder}.use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for what in (folder, f"{folder}.part"):
                    shutil.rmtree(what, ignore_errors=True)
                os.unlink(f"{folder}.use")
                os.unlink(f"{folder}.lock")
            finally:
                os.close(use)


@contextlib.contextmanager
def _held(path: str, *, wait: bool = True) -> Iterator[None]:
    """A lock on a file that its holder may remove: whoever gets it looks whether the file is still the one of that name."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.exists(path) and os.stat(path).st_ino == os.fstat(lock).st_ino:
                yield
                return
        finally:
            os.close(lock)


def _check_name(storage: ObjectStorage, path: str, name: str) -> None:
    if not name or name.startswith("/") or name.endswith("/") or ".." in name.split("/") or "\0" in name:
        raise StorageError(DAMAGED, f"{storage.root}/{path} holds an object named {name!r}, which is no file's name here.")
