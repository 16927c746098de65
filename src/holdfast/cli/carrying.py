"""Carrying a whole experiment from a store to a directory of this machine, or to a store.

Knows names, bytes and in which order they come: the birth last, without which nothing is an experiment. It refuses to know what
they mean, but for the manifests of checkpoints, which hold what no store keeps: links and empty directories.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from holdfast._core.ids import MANIFEST
from holdfast._journal.layout import BIRTH
from holdfast.storage.base import Storage
from holdfast.storage.fetching import fetch_directory
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.uri import is_uri

__all__ = ["fetch_experiment", "send_experiment", "sizes_of"]

_AT_ONCE = 8
_ASKED = "requests/"  # of a driver; no copy's


def sizes_of(storage: Storage) -> dict[str, int]:
    """All files of an experiment, links left out: their sizes in bytes by their names."""
    if is_uri(storage.uri):
        return cast("ObjectStorage", storage).sizes_below("")
    found: dict[str, int] = {}
    for folder, _, names in os.walk(storage.root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                found[os.path.relpath(path, storage.root)] = os.path.getsize(path)
    return found


def fetch_experiment(storage: ObjectStorage, target: str) -> None:
    """Writes all of an experiment on a store into a new local directory. A failure in the middle leaves a part.

    Raises:
        StorageError: The store refuses, or a checkpoint is not what was saved.
        OSError: The local disk refuses.
    """
    names = [name for name in storage.sizes_below("") if not name.startswith(_ASKED)]
    saved = {name.removesuffix(f"/{MANIFEST}") for name in names if name.endswith(f"/{MANIFEST}")}
    for folder in sorted(saved):
        fetch_directory(storage, folder, os.path.join(target, folder))
        with open(os.path.join(target, folder, MANIFEST), "wb") as file:
            file.write(storage.read(f"{folder}/{MANIFEST}"))
    plain = [name for name in names if not any(name.startswith(f"{folder}/") for folder in _above(name) & saved)]
    for folder in {os.path.dirname(name) for name in plain}:
        os.makedirs(os.path.join(target, folder), exist_ok=True)
    _all(lambda name: storage.fetch(name, os.path.join(target, name)), plain)


def send_experiment(storage: Storage, target: Storage) -> None:
    """Puts all of an experiment to a store, the birth last. A failure in the middle leaves objects that are no experiment.

    Raises:
        StorageError: A store or disk refuses.
    """
    names = [name for name in sizes_of(storage) if not name.startswith(_ASKED) and "/.tmp-" not in name and name != BIRTH]
    _all(lambda name: target.put(name, storage.read(name)), names)
    target.put(BIRTH, storage.read(BIRTH))


def _above(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:count]) for count in range(1, len(parts))}


def _all(do: Callable[[str], object], names: list[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE, "holdfast-carry") as pool:
        for _ in pool.map(do, names):
            pass
