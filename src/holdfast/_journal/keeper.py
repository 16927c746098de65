"""The keeper: fsync and heartbeat, beside the thread that appends.

Knows two duties and when each is due. It refuses to know what is synced and what a beat means. With a thread it lives by
the machine's clock; without one, `tick` does what is due at the time it is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from holdfast._journal.lease import BEAT_PERIOD_S
from holdfast.errors import TuneError

__all__ = ["SYNC_PERIOD_S", "Keeper"]

SYNC_PERIOD_S = 0.1


class Keeper:
    """Calls `sync` at most every 0.1 s once there is something to sync, and `beat` every 5 s.

    A duty that raises ends the keeper: the error goes to `failed`, nothing is tried again.
    """

    def __init__(self, sync: Callable[[], None], beat: Callable[[], object], failed: Callable[[TuneError], None]) -> None:
        self._sync = sync
        self._beat = beat
        self._failed = failed
        self._dirty = threading.Event()
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_sync = float("-inf")
        self._next_beat = float("-inf")

    def start(self) -> None:
        """Does the duties from a daemon thread from here on."""
        self._thread = threading.Thread(target=self._run, name="holdfast-journal", daemon=True)
        self._thread.start()

    @property
    def threaded(self) -> bool:
        """Whether a thread does the duties."""
        return self._thread is not None

    def stop(self) -> None:
        """Ends the thread; a sync in progress is waited for."""
        self._leave.set()
        self._dirty.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def note_write(self) -> None:
        """There is something to sync."""
        if not self._dirty.is_set():
            self._dirty.set()

    def tick(self, now: float) -> None:
        """Does what is due at `now` (monotonic seconds). Errors go to `failed`."""
        try:
            if now >= self._next_beat:
                self._next_beat = now + BEAT_PERIOD_S
                self._beat()
            if self._dirty.is_set() and now >= self._next_sync:
                self._next_sync = now + SYNC_PERIOD_S
                self._dirty.clear()
                self._sync()
        except TuneError as error:
            self._leave.set()
            self._failed(error)

    def _run(self) -> None:
        while not self._leave.is_set():
            self.tick(time.monotonic())
            now = time.monotonic()
            if self._next_sync > now:
                self._leave.wait(self._next_sync - now)
            else:
                self._dirty.wait(max(0.0, self._next_beat - now))
