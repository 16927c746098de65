"""A simulated disk on which something else happens just before any call of whoever uses it: two drivers, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.storage.base import AppendFile
from holdfast.testing.disk import SimulatedStorage


class Interrupted(SimulatedStorage):
    """Runs `other` just before the `at`-th call of the port (reads count too); `calls` says how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.at = -1
        self.other: Callable[[], object] = lambda: None

    def _step(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.at = -1
            self.other()

    def create_append(self, path: str) -> AppendFile:
        self._step()
        return super().create_append(path)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        self._step()
        return super().put_if_absent(path, data)

    def put(self, path: str, data: bytes) -> None:
        self._step()
        super().put(path, data)

    def read(self, path: str, offset: int = 0) -> bytes:
        self._step()
        return super().read(path, offset)

    def exists(self, path: str) -> bool:
        self._step()
        return super().exists(path)

    def names(self, directory: str) -> list[str]:
        self._step()
        return super().names(directory)

    def append(self, path: str, data: bytes) -> int:
        self._step()
        return super().append(path, data)

    def sync(self, path: str) -> None:
        self._step()
        super().sync(path)

    def delete(self, path: str) -> None:
        self._step()
        super().delete(path)

    def delete_files(self, paths: Sequence[str]) -> None:
        self._step()
        super().delete_files(paths)
