"""Checkpoints as a user sees them: a directory of files with a little metadata.

This module knows directories, on this machine and on object stores. It does not know trials, indices or how a checkpoint is kept
for good (`holdfast._worker.persist` does that when one is reported).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdfast._core.ids import MANIFEST, METADATA
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.storage.object_store import ObjectStorage

__all__ = ["MANIFEST", "METADATA", "Checkpoint", "brought"]


class Checkpoint:
    """A directory that a trial saved.

    Two are equal when they name the same directory. Pickling one sends its path, not its files.

    Args:
        path: The directory; made absolute. `file://` is understood, and so are places in a cloud: `s3://bucket/path`, `gs://`,
            `az://`, with parameters as in docs/storage.md.
        filesystem: The file system that the path, then without scheme, is on: as `RunConfig.storage_filesystem`.

    Attributes:
        path: The absolute path; for a place in a cloud, bucket and path without scheme: what `filesystem` takes.

    Raises:
        ConfigError: A URI that names no such place or holds a secret, or a file system that holdfast cannot use.
    """

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        text = os.fspath(path).removeprefix("file://")
        if filesystem is not None:
            from holdfast.storage.filesystems import place_on

            text = place_on(text, filesystem)
        self._uri = ""
        if "://" in text:
            from holdfast.storage.uri import parse

            place = parse(text)
            if not place.prefix:
                raise ConfigError(f"Checkpoint({place.shown}): name a directory in the bucket.")
            self._uri = place.uri
            self.path: str = f"{place.bucket}/{place.prefix}"
            return
        self.path = os.path.abspath(text)

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint that lies in the local directory `path`. Nothing is copied or checked until it is used."""
        return cls(path)

    @property
    def filesystem(self) -> Any:
        """A `pyarrow.fs.LocalFileSystem`, or an `S3FileSystem` or `AzureFileSystem` for a checkpoint there.

        Raises:
            ConfigError: pyarrow is not installed, or the checkpoint is on Google's storage.
        """
        try:
            from pyarrow import fs
        except ImportError as error:
            raise ConfigError(
                "Checkpoint.filesystem needs pyarrow, which is not installed. "
                "Use Checkpoint.path (a local path), or pip install pyarrow."
            ) from error
        if not self._uri:
            return fs.LocalFileSystem()
        from holdfast.storage.uri import arrow_filesystem, parse

        return arrow_filesystem(parse(self._uri))

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """A context manager that gives the path of a local directory with the files: the checkpoint itself, so only read in it.

        One in a cloud is downloaded, once for all processes on this machine that use it at a time, and removed after the last.

        Raises:
            FileNotFoundError: There is no such directory.
            StorageError: It cannot be downloaded, or is not what was saved.
        """
        if self._uri:
            from holdfast.storage.fetching import shared_copy
            from holdfast.storage.uri import parse

            with shared_copy(parse(self._uri)) as folder:
                yield folder
            return
        if not os.path.isdir(self.path):
            raise FileNotFoundError(
                f"There is no checkpoint at {self.path}. It may have been deleted (CheckpointConfig.num_to_keep)."
            )
        yield self.path

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copies the files into `path` (created if missing), or into a new temporary directory; returns where they are.

        Raises:
            FileNotFoundError: There is no such checkpoint.
        """
        import shutil
        import tempfile

        with self.as_directory() as source:
            target = tempfile.mkdtemp(prefix="checkpoint_tmp_") if path is None else os.path.abspath(os.fspath(path))

            def not_the_users(where: str, names: list[str]) -> list[str]:
                return [MANIFEST] if where == source and MANIFEST in names else []

            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=not_the_users)
        return target

    def get_metadata(self) -> dict[str, Any]:
        """What `set_metadata` stored; empty if nothing."""
        import json

        try:
            if self._uri:
                return dict(json.loads(_cloud(self._uri).read(METADATA)))
            with open(os.path.join(self.path, METADATA), encoding="utf-8") as file:
                metadata: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return {}
        return metadata

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Stores a JSON-able dictionary beside the files, in place of the one before; a crash leaves either.

        Raises:
            TypeError: It holds what JSON does not take; nothing was changed.
        """
        import json

        text = json.dumps(metadata)  # what JSON does not take is refused before anything is written
        if self._uri:
            _cloud(self._uri).put(METADATA, text.encode())
            return
        aside = os.path.join(self.path, f"{METADATA}.{os.getpid()}-{threading.get_ident()}")
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, os.path.join(self.path, METADATA))

    def update_metadata(self, metadata: dict[str, Any]) -> None:
        """Stores the metadata with these keys added or replaced."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and (self.path, self._uri) == (other.path, other._uri)

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Checkpoint(path={self._uri.partition('?')[0] or self.path})"

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path, "uri": self._uri} if self._uri else {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = state["path"]
        self._uri = state.get("uri", "")


@contextlib.contextmanager
def brought(checkpoint: Checkpoint, aside: str) -> Iterator[str]:
    """A local directory with the files of a checkpoint as they are now, to be read while this is open: its own, if it lies here.

    One in a cloud is downloaded into the directory `aside`, in bounded memory, and removed at the end; a kill leaves that
    directory. What `as_directory` gives is shared, and may be older than what a user has put there since.

    Raises:
        FileNotFoundError: There is nothing at that place.
        StorageError: It cannot be downloaded, or is not what was saved.
    """
    if not checkpoint._uri:
        yield checkpoint.path
        return
    import shutil

    from holdfast.storage.fetching import fetch_directory
    from holdfast.storage.opening import above
    from holdfast.storage.uri import open_place, parse

    uri, name = above(checkpoint._uri)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        fetch_directory(open_place(parse(uri)), name, aside)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _cloud(uri: str) -> ObjectStorage:
    from holdfast.storage.uri import open_place, parse

    return open_place(parse(uri))
