"""Where an experiment lives: from what a user says to one absolute directory."""

from __future__ import annotations

import os
import time
from typing import Any

from holdfast import settings
from holdfast._journal import exists
from holdfast.errors import ConfigError, ExperimentNotFound, StorageError
from holdfast.storage.local import LocalStorage

__all__ = ["check_name", "experiment_at", "local_path", "new_directory"]


def local_path(given: str | os.PathLike[str]) -> str:
    """An absolute local path from a relative one, one with "~", or a `file://` URI.

    Raises:
        ConfigError: Another scheme: only local paths are supported.
    """
    text = os.fspath(given)
    if text.startswith("file://"):
        text = text[len("file://") :]
    elif "://" in text:
        raise ConfigError(f"{text!r}: experiments live on local paths so far; give a path such as './results'.")
    return os.path.abspath(os.path.expanduser(text))


def check_name(name: str) -> str:
    """The name, if it can be that of a directory.

    Raises:
        ConfigError: It could leave its parent directory, or no file system takes it.
    """
    bad = not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255
    if bad:
        raise ConfigError(f"RunConfig(name={name!r}): a name of one directory: no '/', not '.' or '..', at most 255 bytes.")
    return name


def new_directory(storage_path: str | None, name: str | None, trainable_name: str) -> str:
    """Creates and returns the directory of a new experiment; one without a name gets one that nobody else has.

    Raises:
        ConfigError: A name that cannot be, or a file system that is not local.
        StorageError: The directory cannot be created or written to.
    """
    parent = local_path(storage_path) if storage_path else settings.results_dir()
    if name:
        check_name(name)
    try:
        os.makedirs(parent, exist_ok=True)
        path = _named(parent, name) if name else _dated(parent, trainable_name)
    except OSError as error:
        raise StorageError(
            error.errno,
            f"no experiment can be put into {parent}: {error.strerror}. Give a storage_path that can be written to",
            parent,
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StorageError(13, f"{path} cannot be written to. Give a storage_path that can be", path)
    return path


def experiment_at(path: str | os.PathLike[str], storage_filesystem: Any = None) -> LocalStorage:
    """The storage of an existing experiment.

    Raises:
        ExperimentNotFound: There is none at that path.
    """
    if storage_filesystem is not None:
        raise ConfigError("storage_filesystem is not supported yet: give a local path.")
    root = local_path(path)
    storage = LocalStorage(root)
    if not exists(storage):
        near = [
            name
            for name in (sorted(os.listdir(root)) if os.path.isdir(root) else [])
            if exists(LocalStorage(os.path.join(root, name)))
        ]
        hint = f" There are experiments below it: {near[:5]}." if near else ""
        raise ExperimentNotFound(
            f"{root} holds no experiment.{hint} Give the experiment's own directory, "
            "<storage_path>/<name>; `holdfast ls DIR` lists them."
        )
    return storage


def _named(parent: str, name: str) -> str:
    path = os.path.join(parent, name)
    os.makedirs(path, exist_ok=True)
    return path


def _dated(parent: str, trainable_name: str) -> str:
    """A directory that this call created: many may start within one second, in several processes."""
    date = "" if settings.dated_names_disabled() else time.strftime("_%Y-%m-%d_%H-%M-%S")
    base = os.path.join(parent, f"{trainable_name}{date}")
    number = 0
    while True:
        path = f"{base}_{number}" if number else base
        try:
            os.mkdir(path)
        except FileExistsError:
            number += 1
        else:
            return path
