"""Opening: from an absolute path or a URI to the storage there.

Knows which adapter serves which kind of place. The one string that it takes is all that another process must be told. It makes no
request, and refuses to know whether anything is there.
"""

from __future__ import annotations

import os

import msgspec

from holdfast.errors import ConfigError
from holdfast.storage.base import Storage
from holdfast.storage.kind import is_local
from holdfast.storage.local import LocalStorage
from holdfast.storage.network import NetworkStorage
from holdfast.storage.uri import is_uri, open_place, parse

__all__ = ["above", "inside", "open_storage", "whereabouts"]


def whereabouts(given: str | os.PathLike[str]) -> str:
    """What a user gives as a place, as `open_storage` takes it: an absolute local path, or a URI.

    Args:
        given: A path, relative or with "~" too, a `file://` URI, or a URI of a cloud.

    Raises:
        ConfigError: Another scheme, a URI without a bucket or with a secret.
    """
    text = os.fspath(given)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    elif "://" in text:
        return parse(text).uri
    return os.path.abspath(os.path.expanduser(text))


def open_storage(uri: str | os.PathLike[str], *, patience_s: float | None = None) -> Storage:
    """The storage at a place; `open_storage(storage.uri)` opens the same one.

    Args:
        uri: As for `whereabouts`.
        patience_s: How long a store that fails is asked again, in each call; by default a minute. A local disk is asked once.

    Raises:
        ConfigError: As `whereabouts`, or the extra `holdfast[cloud]` is not installed.
    """
    where = whereabouts(uri)
    if not is_uri(where):
        return LocalStorage(where) if is_local(where) else NetworkStorage(where)
    return open_place(parse(where)) if patience_s is None else open_place(parse(where), patience_s=patience_s)


def inside(uri: str, path: str) -> str:
    """The place at a relative path below another one, as `open_storage` takes it.

    Raises:
        ConfigError: The path leads out of it.
    """
    if path.startswith("/") or ".." in path.split("/"):
        raise ConfigError(f"{path!r} leaves {uri.partition('?')[0]}: give a relative path without '..'")
    return parse(uri).below(path).uri if is_uri(uri) else os.path.join(uri, path)


def above(uri: str) -> tuple[str, str]:
    """The place that a place lies in, and its name there; the name is empty for a whole bucket or the root directory."""
    if not is_uri(uri):
        return os.path.split(uri)
    place = parse(uri)
    prefix, _, name = place.prefix.rpartition("/")
    return msgspec.structs.replace(place, prefix=prefix).uri, name
