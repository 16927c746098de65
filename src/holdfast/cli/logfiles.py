"""Where the logs of an experiment are read: in its directory, or on a store, to which they are put now and then.

Knows names, parts and rotation. It refuses to know attempts and what is printed of a log; opens nothing outside the experiment.
"""

from __future__ import annotations

import json
import os
from typing import Protocol

import click

from holdfast._worker.logs import KEPT, LogReader, noted_names, parts_of
from holdfast.errors import StorageError
from holdfast.storage.base import Storage
from holdfast.storage.uri import is_uri

__all__ = ["Log", "LogFiles", "log_files"]


class Log(Protocol):
    """One log, read from its beginning on."""

    def read(self, size: int) -> bytes:
        """The next bytes, on a store maybe more than `size`; nothing where there are none yet."""

    def close(self) -> None:
        """Lets it go."""


class LogFiles(Protocol):
    """The logs of an experiment, by their relative names."""

    def noted(self) -> tuple[str, str] | None:
        """The names that the user gave for stdout and stderr, or None."""

    def open(self, name: str) -> Log:
        """A log; it need not be there yet. A `click.ClickException` where the name leads out of the experiment."""


def log_files(storage: Storage) -> LogFiles:
    """The logs at a place."""
    return _OnStore(storage) if is_uri(storage.uri) else _InDirectory(storage.root)


class _InDirectory:
    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)

    def noted(self) -> tuple[str, str] | None:
        return noted_names(os.path.join(self._root, "logs"))

    def open(self, name: str) -> Log:
        path = os.path.join(self._root, name)
        if not name.startswith("logs/") and not self._is_inside(path):
            raise _outside(path)
        return _Inside(LogReader(path), path, self)

    def all_inside(self, path: str) -> bool:
        return all(map(self._is_inside, parts_of(path)))

    def _is_inside(self, path: str) -> bool:
        return os.path.realpath(path).startswith(os.path.join(self._root, ""))


class _Inside:
    """A log none of whose parts is a link that leads elsewhere."""

    def __init__(self, reader: LogReader, path: str, files: _InDirectory) -> None:
        self._reader = reader
        self._path = path
        self._files = files

    def read(self, size: int) -> bytes:
        return self._reader.read(size) if self._files.all_inside(self._path) else b""

    def close(self) -> None:
        self._reader.close()


class _OnStore:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def noted(self) -> tuple[str, str] | None:
        try:
            stdout, stderr = json.loads(self._storage.read("logs/log_to_file.json"))
        except (FileNotFoundError, ValueError, TypeError):  # there are none, or what is there is none of ours
            return None
        return str(stdout), str(stderr)

    def open(self, name: str) -> Log:
        if name.startswith("/") or ".." in name.split("/"):
            raise _outside(name)
        return _StoreLog(self._storage, name)


class _StoreLog:
    """A log whose newest part is read on as it grows. Parts that were rotated away twice between two reads are passed over."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._older = [f"{name}.{age}" for age in range(KEPT, 0, -1)]
        self._at = 0

    def read(self, size: int) -> bytes:
        while self._older:
            if data := self._part(self._older.pop(0)):
                return data
        data = self._part(self._name, self._at)
        self._at += len(data)
        if not data and self._at and not self._part(self._name, self._at - 1):  # it is shorter than what was read: a new one
            self._older, self._at, before = [], 0, self._at
            return self._part(f"{self._name}.1", before) or self.read(size)
        return data

    def close(self) -> None:
        """Nothing is held."""

    def _part(self, name: str, offset: int = 0) -> bytes:
        try:
            return self._storage.read(name, offset)
        except FileNotFoundError:
            return b""
        except StorageError as error:
            raise click.ClickException(str(error)) from error


def _outside(path: str) -> click.ClickException:
    return click.ClickException(f"log_to_file leads to {path}, outside the experiment's directory: look there yourself.")
