"""Removals: checkpoints that are to go, where experiment and attempts keep them.

Knows which files those are, and that a store may take its time: there they go one after another in a thread, because a store that
does not answer must not keep the driver from its trials. It does not know why a checkpoint is to go, or when it may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from holdfast import faults
from holdfast._core.commands import DeleteCheckpoint
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast.storage.base import Storage

__all__ = ["Removals"]


class Removals:
    """One driver's. One thread calls it.

    Args:
        storage: Where checkpoints are kept.
        staged: Where attempts stage them: the same, unless that is a store.
        wake: Called from the thread after each removal.
        aside: Whether there is a thread; else each call returns when it is done.
    """

    def __init__(self, storage: Storage, staged: Storage, wake: Callable[[], None], *, aside: bool) -> None:
        self._storage = storage
        self._staged = staged
        self._wake = wake
        self._pool = ThreadPoolExecutor(1, "holdfast-removals") if aside else None
        self._dropped: deque[tuple[int, DeleteCheckpoint]] = deque()
        self._under_way: deque[tuple[DeleteCheckpoint | None, Future[None] | None]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether a dropped checkpoint waits until its drop is durable."""
        return bool(self._dropped)

    def drop(self, position: int, order: DeleteCheckpoint) -> None:
        """Has a dropped checkpoint go once the journal is durable up to `position`; `done` says when it is gone."""
        self._dropped.append((position, order))

    def sweep(self, dirname: str, index: int) -> None:
        """Removes what a trial may have under an index that no record names, staged files too."""
        self._staged.delete(f"{dirname}/{pending_name(index)}")
        self._remove(f"{dirname}/{checkpoint_name(index)}", None)

    def done(self, durable: int, *, wait: bool = False) -> list[DeleteCheckpoint]:
        """Removes what may go by now; returns the orders whose files have gone since the last call, in their order.

        Args:
            durable: How far the journal is durable.
            wait: Whether to wait for all that is under way.

        Raises:
            StorageError: The disk or store refuses. What is left goes with the next driver.
        """
        while self._dropped and self._dropped[0][0] <= durable:
            _, dropped = self._dropped.popleft()
            faults.reach("before_delete")
            self._remove(f"{dropped.dirname}/{checkpoint_name(dropped.index)}", dropped)
        gone = []
        while self._under_way:
            order, future = self._under_way[0]
            if future is not None:
                if not (wait or future.done()):
                    break
                future.result()
            self._under_way.popleft()
            if order is not None:
                gone.append(order)
        return gone

    def close(self) -> None:
        """Begins no other; waits for nothing."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _remove(self, path: str, order: DeleteCheckpoint | None) -> None:
        if self._pool is None:
            self._storage.delete(path)
            self._under_way.append((order, None))
            return
        future = self._pool.submit(self._storage.delete, path)
        future.add_done_callback(lambda _: self._wake())
        self._under_way.append((order, future))
