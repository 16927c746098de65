"""File systems that users hand over: from a `pyarrow.fs` or fsspec object and a path on it to one place.

    place_on("bucket/results", pyarrow.fs.S3FileSystem(...))       "s3://bucket/results?..."
    place_on("bucket/results", gcsfs.GCSFileSystem(...))           "gs://bucket/results?..."
    place_on("results", SubTreeFileSystem("/mnt/x", LocalFileSystem()))    "/mnt/x/results"

Knows what such an object stands for. It refuses to work through one: our own clients say of a lost reply whose file stands there,
and no other interface does. Neither package is imported here.
"""

from __future__ import annotations

import os
from typing import Any

from holdfast.errors import ConfigError
from holdfast.storage.cloud_filesystems import Said, said_by
from holdfast.storage.opening import whereabouts
from holdfast.storage.uri import Place, parse, remember_keys

__all__ = ["place_on"]


def place_on(path: str | os.PathLike[str], filesystem: Any = None) -> str:
    """A path on a file system as `open_storage` takes it; keys that the file system was given are remembered by this process.

    Args:
        path: Without a scheme where there is a file system; else as for `whereabouts`.
        filesystem: A `pyarrow.fs.LocalFileSystem`, `S3FileSystem`, `GcsFileSystem`, `AzureFileSystem` or `SubTreeFileSystem` over
            one; fsspec's local one, s3fs, gcsfs or adlfs, bare or in `PyFileSystem(FSSpecHandler(...))`; or None.

    Raises:
        ConfigError: Another file system, one with a setting that our client does not have, or a path with a scheme.
    """
    text = os.fspath(path)
    if filesystem is None:
        return whereabouts(text)
    if "://" in text:
        raise ConfigError(f"{text.partition('?')[0]}: with storage_filesystem the path has no scheme; leave one of the two out.")
    while (inner := _unwrapped(filesystem, text)) is not None:
        text, filesystem = inner
    if _is_local(filesystem):
        return whereabouts(text)
    said = said_by(filesystem)
    if said is not None:
        return _in_cloud(text, said)
    raise ConfigError(
        f"storage_filesystem={_name(filesystem)}: two drivers cannot be kept apart there, because nothing says that it creates a "
        "file only where none is, and whose it is when a reply is lost. Give one of pyarrow's (LocalFileSystem, S3FileSystem, "
        "GcsFileSystem, AzureFileSystem), s3fs, gcsfs, adlfs, fsspec's local one, or none and a URI as path (s3://, gs://, az://)."
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


def _is_local(filesystem: Any) -> bool:
    protocol = getattr(filesystem, "type_name", "") or getattr(filesystem, "protocol", ())
    return bool({"local", "file"} & set((protocol,) if isinstance(protocol, str) else protocol))


def _name(filesystem: Any) -> str:
    """Its class: what it was given may be a secret."""
    return f"{type(filesystem).__module__.partition('.')[0]}.{type(filesystem).__name__}"


def _in_cloud(path: str, said: Said) -> str:
    bucket, _, prefix = "/".join(part for part in path.split("/") if part).partition("/")
    place = parse(Place(said.cloud, said.cloud, bucket, prefix, said.options).uri)
    if place.prefix != prefix:
        raise ConfigError(f"{path!r}: '%', '?' and '#' have a meaning in URIs; choose a path without them.")
    if said.keys:
        remember_keys(place, said.keys)
    return place.uri
