"""Where an experiment lives: from what a user says to one place, an absolute directory or a URI."""

from __future__ import annotations

import os
import time
from typing import Any

from holdfast import settings
from holdfast._journal import exists
from holdfast.errors import ConfigError, ExperimentNotFound, StorageError
from holdfast.storage.base import Storage
from holdfast.storage.filesystems import place_on
from holdfast.storage.opening import inside, open_storage, whereabouts
from holdfast.storage.uri import is_uri

__all__ = ["check_name", "existing", "experiment_at", "new_place", "parent_of"]

_PATIENCE_S = 30.0  # with a store that fails when an experiment is submitted or looked for: somebody sits and waits
_MOST_NEAR = 20


def parent_of(storage_path: str | os.PathLike[str] | None) -> str:
    """The place that experiments go into: absolute, or a URI.

    Raises:
        ConfigError: There can be no such place.
    """
    return whereabouts(storage_path) if storage_path else settings.results_dir()


def existing(parent: str, name: str) -> str:
    """The place of the experiment of that name, or "" where there is none.

    Raises:
        ConfigError: A name that cannot be.
        StorageError: The place cannot be looked at.
    """
    storage = open_storage(inside(parent, check_name(name)), patience_s=_PATIENCE_S)
    return storage.uri if exists(storage) else ""


def check_name(name: str) -> str:
    """The name, if it can be that of a directory.

    Raises:
        ConfigError: It could leave its parent directory, or no file system takes it.
    """
    bad = not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255
    if bad:
        raise ConfigError(f"RunConfig(name={name!r}): a name of one directory: no '/', not '.' or '..', at most 255 bytes.")
    return name


def new_place(storage_path: str | None, name: str | None, trainable_name: str, number: int = 0) -> Storage:
    """The place of a new experiment, its directory made; one without a name gets one that nobody else had by then.

    Args:
        storage_path: What it goes into.
        name: The experiment's.
        trainable_name: Names an experiment without a name, with the date.
        number: Where not 0, stands behind the name, because the one before is taken.

    Raises:
        ConfigError: A name that cannot be.
        StorageError: The directory cannot be created or written to.
    """
    parent = parent_of(storage_path)
    if name:
        check_name(name)
    if is_uri(parent):
        whole = name or f"{trainable_name}{_date()}"
        return open_storage(inside(parent, f"{whole}_{number}" if number else whole), patience_s=_PATIENCE_S)
    name = f"{name}_{number}" if name and number else name
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
    return open_storage(path)


def experiment_at(path: str | os.PathLike[str], storage_filesystem: Any = None) -> Storage:
    """The storage of an existing experiment.

    Raises:
        ExperimentNotFound: There is none at that path.
        StorageError: The place cannot be looked at.
    """
    storage = open_storage(place_on(path, storage_filesystem), patience_s=_PATIENCE_S)
    if not exists(storage):
        there = storage.names("")[:_MOST_NEAR]
        near = [name for name in there if exists(open_storage(inside(storage.uri, name), patience_s=_PATIENCE_S))]
        hint = f" There are experiments below it: {near[:5]}." if near else ""
        raise ExperimentNotFound(
            f"{storage.root} holds no experiment.{hint} Give the experiment's own directory, "
            "<storage_path>/<name>; `holdfast ls DIR` lists them."
        )
    return storage


def _named(parent: str, name: str) -> str:
    path = os.path.join(parent, name)
    os.makedirs(path, exist_ok=True)
    return path


def _dated(parent: str, trainable_name: str) -> str:
    """A directory that this call created: many may start within one second, in several processes."""
    base = os.path.join(parent, f"{trainable_name}{_date()}")
    number = 0
    while True:
        path = f"{base}_{number}" if number else base
        try:
            os.mkdir(path)
        except FileExistsError:
            number += 1
        else:
            return path


def _date() -> str:
    return "" if settings.dated_names_disabled() else time.strftime("_%Y-%m-%d_%H-%M-%S")
