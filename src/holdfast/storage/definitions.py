"""Definitions: objects that must come back after any crash, stored once each by the sha256 of their pickle.

A definition is durable before any record names it, so a restore needs nothing from the user but the trainable.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable
from typing import Any

from holdfast.errors import DefinitionError
from holdfast.storage.base import Storage

__all__ = ["Definitions"]


class Definitions:
    """The `definitions/` directory of one experiment.

    Args:
        storage: The experiment's place.
        known: Which are kept there already: what a record names.
    """

    def __init__(self, storage: Storage, known: Iterable[str] = ()) -> None:
        self._storage = storage
        self._known = set(known)
        self._revived: dict[str, Any] = {}

    def store(self, pickled: bytes) -> str:
        """Keeps a pickle, durably, unless it is kept already; returns its sha256."""
        sha = hashlib.sha256(pickled).hexdigest()
        if sha not in self._known:
            self._storage.put_if_absent(_path(sha), pickled)
            self._known.add(sha)
        return sha

    def bytes_of(self, sha: str) -> bytes:
        """The pickle, checked against its name.

        Raises:
            DefinitionError: It is missing or damaged.
        """
        try:
            data = self._storage.read(_path(sha))
        except FileNotFoundError:
            raise DefinitionError(f"{_path(sha)} is missing. Bring the file back from a copy of the experiment.") from None
        if hashlib.sha256(data).hexdigest() != sha:
            raise DefinitionError(f"{_path(sha)} is damaged. Bring the file back from a copy of the experiment.")
        return data

    def load(self, sha: str) -> Any:
        """The object. One object per definition: do not change it.

        Raises:
            DefinitionError: It is missing, damaged, or this Python cannot load it.
        """
        if sha not in self._revived:
            self._revived[sha] = self.fresh(sha)
        return self._revived[sha]

    def fresh(self, sha: str) -> Any:
        """A new copy of the object; errors as in `load`."""
        data = self.bytes_of(sha)
        try:
            return pickle.loads(data)
        except Exception as error:  # a user's class may raise anything while it is revived
            raise DefinitionError(
                f"{_path(sha)} cannot be loaded by this Python ({type(error).__name__}: {error}). Use the Python and the "
                "libraries that it was stored with: `holdfast show PATH` lists them."
            ) from error


def _path(sha: str) -> str:
    return f"definitions/{sha}.pkl"
