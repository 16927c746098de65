"""Checkpoints as a user sees them: a directory of files with a little metadata.

This module knows directories. It does not know trials, indices or how a checkpoint is kept for good
(`holdfast._worker.persist` does that when one is reported).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["MANIFEST", "METADATA", "Checkpoint"]

MANIFEST = ".holdfast_manifest.json"
METADATA = ".metadata.json"


class Checkpoint:
    """A directory that a trial saved.

    Two are equal when they name the same directory. Pickling one sends its path, not its files.

    Args:
        path: The directory; made absolute. `file://` is understood.
        filesystem: A `pyarrow.fs.FileSystem`; only local ones are supported, and None is one.

    Raises:
        ConfigError: The path is a URI, or the filesystem one, of a place that is not local.
    """

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        text = os.fspath(path).removeprefix("file://")
        if "://" in text:
            raise ConfigError(f"Checkpoint({text!r}): only local directories are supported. Download it first.")
        if filesystem is not None and getattr(filesystem, "type_name", "") != "local":
            raise ConfigError(f"Checkpoint({text!r}, filesystem={filesystem!r}): only a local filesystem is supported.")
        self.path: str = os.path.abspath(text)

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint that lies in the local directory `path`. Nothing is copied or checked until it is used."""
        return cls(path)

    @property
    def filesystem(self) -> Any:
        """A `pyarrow.fs.LocalFileSystem`.

        Raises:
            ConfigError: pyarrow is not installed.
        """
        try:
            from pyarrow import fs
        except ImportError as error:
            raise ConfigError(
                "Checkpoint.filesystem needs pyarrow, which is not installed. "
                "Use Checkpoint.path (a local path), or pip install pyarrow."
            ) from error
        return fs.LocalFileSystem()

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """A context manager that gives the path of a local directory with the files: the checkpoint itself, so only read in it.

        Raises:
            FileNotFoundError: There is no such directory.
        """
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
        aside = os.path.join(self.path, f"{METADATA}.{os.getpid()}-{threading.get_ident()}")
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, os.path.join(self.path, METADATA))

    def update_metadata(self, metadata: dict[str, Any]) -> None:
        """Stores the metadata with these keys added or replaced."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Checkpoint(path={self.path})"

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = state["path"]
