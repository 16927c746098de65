"""A bell that any thread and any signal handler may ring, and what it says has happened."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import Any

__all__ = ["Bell"]


class Bell:
    """Holds what has happened until somebody asks."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.RLock()  # a signal's handler may ring while its thread does
        self._happened: deque[Any] = deque()
        self._closed = False

    def ring(self, happening: Any = None) -> None:
        """Has a `wait` in progress return; what is given is kept for `happened`."""
        with self._lock:
            if happening is not None:
                self._happened.append(happening)
            if not self._closed:
                os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        """A descriptor that can be read from when the bell has rung since `happened` was last called."""
        return self._descriptor

    def happened(self) -> list[Any]:
        """What has happened since the last call, in order."""
        with contextlib.suppress(BlockingIOError):  # it has not rung
            os.eventfd_read(self._descriptor)
        return [self._happened.popleft() for _ in range(len(self._happened))]

    def close(self) -> None:
        """Lets the descriptor go; a late ring is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)
