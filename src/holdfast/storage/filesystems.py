"""File systems that users hand over: from a `pyarrow.fs` or fsspec object and a path on it to one place.

    place_on("bucket/results", pyarrow.fs.S3FileSystem(...))       "s3://bucket/results?..."
    place_on("results", SubTreeFileSystem("/mnt/x", LocalFileSystem()))    "/mnt/x/results"

Knows what such an object says of itself. It refuses to work through one: none but a local disk, and an S3 that our own client
speaks to, creates a file only where none is, and no experiment may live where that is missing. Neither package is imported here.
"""

from __future__ import annotations

import os
from typing import Any

from holdfast.errors import ConfigError
from holdfast.storage.opening import whereabouts
from holdfast.storage.uri import Place, parse, remember_keys

__all__ = ["place_on"]

_PLAIN = ("region", "scheme", "endpoint_override")
_UNKNOWN = ("role_arn", "tls_ca_file_path", "force_virtual_addressing")  # of an S3FileSystem, and of no use to our client


def place_on(path: str | os.PathLike[str], filesystem: Any = None) -> str:
    """A path on a file system as `open_storage` takes it; keys that the file system was given are remembered by this process.

    Args:
        path: Without a scheme where there is a file system; else as for `whereabouts`.
        filesystem: A `pyarrow.fs.LocalFileSystem`, `S3FileSystem` or `SubTreeFileSystem` over one; fsspec's local one, bare or in
            `PyFileSystem(FSSpecHandler(...))`; or None.

    Raises:
        ConfigError: Another file system, or a path with a scheme.
    """
    text = os.fspath(path)
    if filesystem is None:
        return whereabouts(text)
    if "://" in text:
        raise ConfigError(f"{text.partition('?')[0]}: with storage_filesystem the path has no scheme; leave one of the two out.")
    while (inner := _unwrapped(filesystem, text)) is not None:
        text, filesystem = inner
    kind = _kind(filesystem)
    if kind == "local":
        return whereabouts(text)
    if kind == "s3":
        return _on_s3(text, filesystem)
    raise ConfigError(
        f"storage_filesystem={_name(filesystem)}: two drivers cannot be kept apart there, because nothing says that it creates a "
        "file only where none is. Give pyarrow's LocalFileSystem or S3FileSystem, fsspec's local one, or none and a URI as path "
        "(s3://, gs://, az://)."
    )


def _unwrapped(filesystem: Any, path: str) -> tuple[str, Any] | None:
    """What a file system and a path on it stand for one layer deeper; None where there is no other below."""
    if getattr(filesystem, "type_name", "") == "subtree":
        return os.path.join(filesystem.base_path, path.lstrip("/")), filesystem.base_fs
    if type(filesystem).__name__ == "DirFileSystem":  # fsspec's own
        return os.path.join(filesystem.path, path.lstrip("/")), filesystem.fs
    if getattr(filesystem, "type_name", "").startswith("py::fsspec"):
        return path, filesystem.handler.fs
    return None


def _kind(filesystem: Any) -> str:
    arrow = str(getattr(filesystem, "type_name", ""))
    if arrow:
        return arrow
    protocol = getattr(filesystem, "protocol", ())
    return "local" if "file" in ((protocol,) if isinstance(protocol, str) else protocol) else ""


def _name(filesystem: Any) -> str:
    """Its class: what it was given may be a secret."""
    return f"{type(filesystem).__module__.partition('.')[0]}.{type(filesystem).__name__}"


def _on_s3(path: str, filesystem: Any) -> str:
    given: dict[str, Any] = filesystem.__reduce__()[1][0]
    unknown = [name for name in _UNKNOWN if given.get(name)]
    if given.get("proxy_options", {}).get("host"):
        unknown.append("proxy_options")
    if unknown:
        raise ConfigError(f"storage_filesystem=S3FileSystem({unknown[0]}=...): holdfast's own client of S3 has no such setting.")
    options = {name: str(given[name]) for name in _PLAIN if given.get(name)}
    if not options.get("endpoint_override"):
        options.pop("scheme", None)
    if given.get("anonymous"):
        options["anonymous"] = "true"
    bucket, _, prefix = "/".join(part for part in path.split("/") if part).partition("/")
    place = parse(Place("s3", "s3", bucket, prefix, options).uri)
    if place.prefix != prefix:
        raise ConfigError(f"{path!r}: '%', '?' and '#' have a meaning in URIs; choose a path without them.")
    if given.get("access_key"):
        keys = {"access_key_id": given["access_key"], "secret_access_key": given["secret_key"]}
        remember_keys(place, {**keys, **({"session_token": given["session_token"]} if given.get("session_token") else {})})
    return place.uri
