"""The courier: takes records to the store in groups, one put in flight, beside the thread that appends.

Knows when a group is due: a second after its first record, at 256 KiB, or at once when somebody is in a hurry. It refuses to know
what a group becomes. Without a thread, `tick` does what is due at the time it is given.
"""

from __future__ import annotations

import errno
import itertools
import threading
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
        self._hurry = False
        self._leave = False
        self._since: float | None = None  # when the first waiting record was first seen by `tick`
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
            if not self._hurry and (hurry or self._size >= FLUSH_BYTES):
                self._hurry = first = True
            if first:
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
        """Carries what is due at `now` (monotonic seconds). Errors go to `failed`."""
        with self._changed:
            if self._since is None:
                self._since = now
            due = bool(self._waiting) and (self._hurry or now - self._since >= FLUSH_S)
            if not self._waiting:
                self._since = None
        if due:
            self._at_work()

    def stop(self) -> None:
        """Ends the thread; a put in flight is waited for. What waits stays."""
        with self._changed:
            self._leave = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._leave:
            with self._changed:
                while not self._waiting and not self._leave:
                    self._changed.wait()
                self._changed.wait_for(lambda: self._hurry or self._leave, timeout=FLUSH_S)
            if not self._leave:
                self._at_work()

    def _at_work(self) -> None:
        try:
            self.drain()
            self._rest()
        except TuneError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 - a thread that died in silence would leave records behind unseen
            self._give_up(StorageError(errno.EIO, f"the journal's thread failed: {type(error).__name__}: {error}"))

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
                self._since = None
                self._hurry = self._size >= FLUSH_BYTES
                self._changed.notify_all()
            return True

    def _give_up(self, error: TuneError) -> None:
        self._failed(error)
        with self._changed:
            self._leave = True
            self._changed.notify_all()
