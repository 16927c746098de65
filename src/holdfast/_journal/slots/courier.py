"""The courier: takes records to the store in groups, one put in flight, beside the thread that appends.

Knows when a group is due: a second after its first record, at 256 KiB, or at once when somebody is in a hurry. What comes while a
put is in flight is a group like any other: to put it as soon as the store is free would make a slot of every few records. It
refuses to know what a group becomes. With a thread it lives by the machine's clock; without one, `tick` does what is due at the
time it is given.
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from holdfast.errors import StorageError, TuneError

__all__ = ["FLUSH_BYTES", "FLUSH_S", "Courier"]

FLUSH_S = 1.0
FLUSH_BYTES = 256 << 10
T = TypeVar("T")

_GROUP_BYTES = 8 << 20
_WAITING_BYTES = 64 << 20


class Courier:
    """Hands records to `carry`, in order, in one call at a time.

    Where `carry` raises, the error goes to `failed` and nothing is carried any more.

    Args:
        carry: Puts a group on the store; returns when it is there.
        rest: Called after a group, with nothing in flight: for what can wait.
        failed: Told of the error that ends it.
    """

    def __init__(
        self, carry: Callable[[list[bytes]], None], rest: Callable[[], None], failed: Callable[[TuneError], None]
    ) -> None:
        self._carry = carry
        self._rest = rest
        self._failed = failed
        self._flight = threading.Lock()  # held for a put
        self._changed = threading.Condition()  # guards what follows
        self._waiting: list[bytes] = []
        self._size = 0
        self._urgent = 0  # how many of those are to go at once: up to the last that somebody was in a hurry about
        self._leave = False
        self._since: float | None = None  # when the first waiting record was first seen by `tick`, or earlier
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Carries from a daemon thread from here on."""
        self._thread = threading.Thread(target=self._run, name="holdfast-courier", daemon=True)
        self._thread.start()

    @property
    def threaded(self) -> bool:
        """Whether a thread does the carrying."""
        return self._thread is not None

    def add(self, payloads: list[bytes], *, hurry: bool) -> None:
        """Takes records over. Waits while the store is so far behind that 64 MiB are waiting, if there is a thread."""
        with self._changed:
            while self._thread is not None and self._size >= _WAITING_BYTES and not self._leave:
                self._changed.wait()
            first = not self._waiting
            self._waiting += payloads
            self._size += sum(map(len, payloads))
            if hurry:
                self._urgent = len(self._waiting)
            if first or self._at_once():
                self._changed.notify_all()

    def drain(self) -> None:
        """Returns when all that was added is on the store.

        Raises:
            TuneError: As `carry` does; `failed` was told.
        """
        while self._one_group():
            pass

    def between(self, look: Callable[[], T]) -> T:
        """What `look` returns, called while nothing is in flight."""
        with self._flight:
            return look()

    def tick(self, now: float) -> None:
        """Carries a group if one is due at `now` (monotonic seconds). Errors go to `failed`."""
        with self._changed:
            if not self._waiting:
                return
            if self._since is None:
                self._since = now
            if not self._at_once() and now - self._since < FLUSH_S:
                return
            self._since = now  # whatever waits behind this group comes later
        try:
            self._one_group()
            self._rest()
        except TuneError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 - a thread that died in silence would leave records behind unseen
            self._give_up(StorageError(errno.EIO, f"the journal's thread failed: {type(error).__name__}: {error}"))

    def stop(self) -> None:
        """Ends the thread; a put in flight is waited for. What waits stays."""
        with self._changed:
            self._leave = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._leave:
            self.tick(time.monotonic())
            with self._changed:
                if self._since is None:
                    self._changed.wait_for(lambda: self._waiting or self._leave)
                else:
                    due_s = self._since + FLUSH_S - time.monotonic()
                    self._changed.wait_for(lambda: self._at_once() or self._leave, timeout=due_s)

    def _at_once(self) -> bool:
        return self._urgent > 0 or self._size >= FLUSH_BYTES

    def _one_group(self) -> bool:
        """Carries one group; False where none waits."""
        with self._flight:
            with self._changed:
                ends = itertools.accumulate(map(len, self._waiting))
                group = [it for it, end in zip(self._waiting, ends, strict=True) if end - len(it) < _GROUP_BYTES]
            if not group:
                return False
            self._carry(group)
            with self._changed:
                del self._waiting[: len(group)]
                self._size -= sum(map(len, group))
                self._urgent = max(0, self._urgent - len(group))
                if not self._waiting:
                    self._since = None
                self._changed.notify_all()
            return True

    def _give_up(self, error: TuneError) -> None:
        self._failed(error)
        with self._changed:
            self._leave = True
            self._changed.notify_all()
