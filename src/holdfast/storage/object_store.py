"""`ObjectStorage`: the storage port on an object store (S3, Google Cloud Storage, Azure Blob Storage), through obstore.

Knows that a conditional put is not to be believed by itself: a reply may be lost after the store has committed, and 409 comes
for an object that does not stand there. So each object carries a random nonce in its metadata, "already exists" is answered by
reading that back, and retries are ours, not the client's. It refuses to know what the objects hold. A directory is what the
names of objects have in common; there are no empty ones, and nothing can be appended to.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigError
from holdfast.storage.patience import AskAgain, Patience
from holdfast.storage.sending import NONCE, Sent, nonce_of, send_file

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["NONCE", "ObjectStorage"]

_PATIENCE_S = 60.0
_PIECE = 4 << 20  # of an object that is read a piece at a time


class ObjectStorage:
    """One experiment's objects: all below one prefix of one bucket.

    Args:
        connect: Makes obstore's client for the bucket, with the credentials as they are by then. Told True, one that tries
            requests again by itself, briefly: a part of a large file that fails must not take the others with it.
        prefix: What the names of all objects begin with, without "/" at its ends; may be empty.
        root: The place as it is shown: no query, no secret.
        uri: The place as `open_storage` takes it; by default `root`.
        patience_s: How long a store that fails is asked again.
        clock: For that.

    Attributes:
        root, uri: As given.
    """

    def __init__(
        self,
        connect: Callable[[bool], ObjectStore],
        prefix: str,
        root: str,
        *,
        uri: str = "",
        patience_s: float = _PATIENCE_S,
        clock: Clock | None = None,
    ) -> None:
        self.root = root
        self.uri = uri or root
        self._connect = connect
        self._store, self._for_parts = connect(False), connect(True)
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience = Patience(root, patience_s, clock or SystemClock(), self._reconnect)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Creates an object unless one stands there, in one request that nobody else's can come between.

        Returns:
            Whether this call created it, also where the store's reply was lost and the call repeated.

        Raises:
            StorageError: The store refuses, or cannot be reached; then the object may stand there, now or a little later.
        """
        from obstore.exceptions import AlreadyExistsError

        key, nonce = self._key(path), os.urandom(16).hex()

        def attempt() -> bool:
            try:
                self._put(key, data, nonce, mode="create")
            except AlreadyExistsError:
                try:
                    return nonce_of(self._store, key) == nonce
                except FileNotFoundError:  # S3's 409: another request for that name was under way, and has come to nothing
                    raise AskAgain("the store answered 409 for an object that does not stand there") from None
            return True

        return self._patience.call("create", path, attempt)

    def put(self, path: str, data: bytes) -> None:
        """Creates or replaces an object, atomically."""
        key, nonce = self._key(path), os.urandom(16).hex()
        self._patience.call("write", path, lambda: self._put(key, data, nonce, mode="overwrite"))

    def read(self, path: str, offset: int = 0) -> bytes:
        """The bytes from `offset` to the end.

        Raises:
            FileNotFoundError: There is no object.
        """
        import obstore

        key = self._key(path)

        def attempt() -> bytes:
            options: Any = {"range": {"offset": offset}} if offset else {}
            try:
                return bytes(obstore.get(self._store, key, options=options).bytes())
            except FileNotFoundError:
                raise
            except Exception as error:  # obstore has no class of its own for a range that begins at or behind the end
                if offset and ("416 Range" in str(error) or "Wanted range starting at" in str(error)):
                    return b""
                raise

        return self._patience.call("read", path, attempt)

    def exists(self, path: str) -> bool:
        """Whether an object of that name, or one below it, stands there."""
        import obstore

        key = self._key(path)

        def attempt() -> bool:
            try:
                obstore.head(self._store, key)
            except FileNotFoundError:
                return bool(next(iter(obstore.list(self._store, f"{key}/", chunk_size=1)), []))
            return True

        return self._patience.call("look at", path, attempt)

    def names(self, directory: str) -> list[str]:
        """The sorted names directly below a prefix, "" for all; empty where there are none. One request per 1,000 objects."""
        import obstore

        key = f"{self._key(directory)}/" if directory else self._prefix

        def attempt() -> list[str]:
            found = obstore.list_with_delimiter(self._store, key or None)
            below = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
            return sorted(name[len(key) :] for name in below if len(name) > len(key))

        return self._patience.call("list", directory, attempt)

    def sizes_below(self, directory: str) -> dict[str, int]:
        """All objects below a prefix, "" for all, at any depth: their sizes in bytes by their names relative to it."""
        import obstore

        key = f"{self._key(directory)}/" if directory else self._prefix

        def attempt() -> dict[str, int]:
            return {meta["path"][len(key) :]: meta["size"] for page in obstore.list(self._store, key or None) for meta in page}

        return self._patience.call("list", directory, attempt)

    def send(self, path: str, source: str, nonce: str) -> Sent:
        """Creates or replaces an object with a local file's content, atomically, in parts side by side where it is large.

        Safe in several threads. One object takes up to 64 MiB of memory, one of 8 MiB or less its size.

        Args:
            path: The object.
            source: The file.
            nonce: Stands in the object's metadata. When a reply was lost, an object that carries it is what was sent.

        Raises:
            OSError: The file cannot be read, or became shorter meanwhile.
            StorageError: The store refuses, or cannot be reached.
        """
        key, sent = self._key(path), list[Sent]()

        def attempt() -> Sent:
            if sent:
                with contextlib.suppress(FileNotFoundError):
                    if nonce_of(self._store, key) == nonce:
                        return sent[-1]
            try:
                return send_file(self._for_parts, key, source, nonce, sent)
            except FileNotFoundError as error:
                if "NoSuchUpload" in str(error):  # the parts were put together, and the reply to that was lost
                    raise AskAgain("the store forgot an upload in parts") from None
                raise

        return self._patience.call("write", path, attempt)

    def fetch(self, path: str, target: str) -> tuple[int, int]:
        """Writes an object into a new local file, a piece at a time; returns its size and CRC-32.

        Raises:
            FileNotFoundError: There is no object.
            OSError: The local disk refuses. A part of the file may be left.
        """
        import obstore

        key = self._key(path)

        def attempt() -> tuple[int, int]:
            size = checksum = 0
            reply = obstore.get(self._store, key)
            with open(target, "wb", buffering=0) as file:
                for piece in reply.stream(min_chunk_size=_PIECE):
                    view = memoryview(piece)
                    checksum = zlib.crc32(view, checksum)
                    size += len(view)
                    while view:
                        view = view[file.write(view) :]
            if size != reply.meta["size"]:
                raise AskAgain(f"it sent {size} of {reply.meta['size']} bytes")
            return size, checksum

        return self._patience.call("read", path, attempt)

    def delete(self, path: str) -> None:
        """Removes an object and all below that name; nothing where there is none. May be repeated."""
        import obstore

        key = self._key(path)

        def attempt() -> list[str]:
            return [meta["path"] for page in obstore.list(self._store, f"{key}/") for meta in page]

        below = self._patience.call("delete", path, attempt)
        _delete_all(self._patience, lambda: self._store, path, [key, *below])

    def delete_files(self, paths: Sequence[str]) -> None:
        """Removes objects, 1,000 in a request where the store can; passes over those that are not there."""
        if paths:
            _delete_all(self._patience, lambda: self._store, paths[0], [self._key(path) for path in paths])

    def nonce_at(self, path: str) -> str:
        """The nonce of the object that stands there; empty where it carries none.

        Raises:
            FileNotFoundError: There is none.
        """
        key = self._key(path)
        return self._patience.call("look at", path, lambda: nonce_of(self._store, key))

    def _put(self, key: str, data: bytes, nonce: str, *, mode: str) -> None:
        import obstore

        chosen: Any = mode
        obstore.put(self._store, key, data, mode=chosen, attributes={NONCE: nonce}, use_multipart=False)

    def _reconnect(self) -> None:
        self._store, self._for_parts = self._connect(False), self._connect(True)

    def _key(self, path: str) -> str:
        parts = path.split("/")
        if not path or path[0] == "/" or ".." in parts or any(ord(letter) < 32 for letter in path):
            raise ConfigError(f"{path!r} leaves the experiment's place {self.root}: give a relative path without '..'")
        return self._prefix + path


def _delete_all(patience: Patience, store: Callable[[], ObjectStore], path: str, keys: list[str], at_once: int = 1000) -> None:
    """Removes objects, so many at once; those of which a request fails, a quarter at a time.

    Some stores remove one object in a request. Of many some always fail, and to begin with all anew would come to no end.
    """
    for at in range(0, len(keys), at_once):
        request = _Deletion(store, keys[at : at + at_once])
        if not patience.call("delete", path, request):
            _delete_all(patience, store, path, request.keys, -(-len(request.keys) // 4))


class _Deletion:
    """A request to delete; when it is tried again it says that it should be split (False), unless it is about one object."""

    def __init__(self, store: Callable[[], ObjectStore], keys: list[str]) -> None:
        self.keys = keys
        self._store = store
        self._tried = False

    def __call__(self) -> bool:
        if self._tried and len(self.keys) > 1:
            return False
        self._tried = True
        _delete(self._store(), self.keys)
        return True


def _delete(store: ObjectStore, keys: list[str]) -> None:
    import obstore

    try:
        obstore.delete(store, keys)
    except FileNotFoundError:  # some stores say so of one that is gone, which it is to be; the others may be left
        if len(keys) > 1:
            for key in keys:
                _delete(store, [key])
