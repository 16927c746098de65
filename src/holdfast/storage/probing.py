"""The probe: whether a store keeps the one promise that everything rests on.

Knows that some servers take a conditional put and ignore the condition. It refuses to believe documentation.
"""

from __future__ import annotations

import os

from holdfast.errors import StorageError
from holdfast.storage.base import Storage
from holdfast.storage.object_store import ObjectStorage

__all__ = ["probe"]


def probe(storage: Storage, folder: str) -> None:
    """Creates one random object in `folder` twice and deletes it: the second time must fail, and the first must be known again.

    A crash in the middle leaves that object, whose name begins with "probe-".

    Raises:
        StorageError: The store ignores conditions, loses metadata, refuses, or cannot be reached. No experiment may live there.
    """
    path = f"{folder}/probe-{os.urandom(8).hex()}"
    if not storage.put_if_absent(path, b"first"):
        raise _unfit(storage, "a new object was said to be there already")
    try:
        if storage.put_if_absent(path, b"second") or storage.read(path) != b"first":
            raise _unfit(storage, "it accepts a conditional put (If-None-Match) and ignores the condition")
        if isinstance(storage, ObjectStorage) and not storage.nonce_at(path):
            raise _unfit(storage, "it loses the metadata of objects, by which a lost reply is recognised")
    finally:
        storage.delete_files([path])


def _unfit(storage: Storage, why: str) -> StorageError:
    return StorageError(
        95,
        f"{storage.root}: this store cannot keep two drivers apart: {why}. Two drivers on one experiment could each believe that "
        "it is in charge, and overwrite the other's records. Choose a storage_path on another store.",
    )
