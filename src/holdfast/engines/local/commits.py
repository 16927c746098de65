"""Checkpoints that a dead worker left staged: the driver's process completes them, in a thread beside the loop.

This module knows orders and files. It does not know workers or the journal: its answers go on record through `poll`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from holdfast._core.commands import CommitCheckpoint
from holdfast._core.events import CheckpointCommitted, CheckpointLost
from holdfast._worker.keeping import Keeper
from holdfast.errors import StorageError

__all__ = ["Commits"]


class Commits:
    """Does `CommitCheckpoint` orders one after another, in the order given; the thread lives while there are any.

    Args:
        keeper: Gives what keeps the checkpoints of the trial with that directory's name.
        wake: Called in the thread when there is an answer.
    """

    def __init__(self, keeper: Callable[[str], Keeper], wake: Callable[[], None]) -> None:
        self._keeper = keeper
        self._wake = wake
        self._lock = threading.Lock()
        self._orders: deque[CommitCheckpoint] = deque()
        self._answers: deque[CheckpointCommitted | CheckpointLost] = deque()
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    def take(self, order: CommitCheckpoint) -> None:
        """Takes an order on; returns at once."""
        with self._lock:
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="holdfast-commits", daemon=True)
                self._thread.start()

    def answers(self) -> list[CheckpointCommitted | CheckpointLost]:
        """What was done since the last call.

        Raises:
            StorageError: The disk refuses. The checkpoint stays staged: the next driver tries again.
        """
        if self._problem is not None:
            raise self._problem
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def close(self) -> None:
        """Drops the orders that were not begun and waits for the one that was."""
        with self._lock:
            self._orders.clear()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._orders:
                    self._thread = None
                    return
                order = self._orders.popleft()
            try:
                self._answers.append(self._done(order))
            except BaseException as problem:  # noqa: BLE001 - raised again by `answers`, in the loop's thread
                self._problem = problem
            self._wake()

    def _done(self, order: CommitCheckpoint) -> CheckpointCommitted | CheckpointLost:
        saved, keeper = order.saved, self._keeper(order.dirname)
        try:
            problem = keeper.commit(saved, check=True)
        except OSError as error:
            raise StorageError(
                error.errno,
                f"Checkpoint {saved.index} in {keeper.trial_dir} could not be made durable: {error}. Its files are kept; "
                "restore when the cause is mended.",
            ) from error
        if problem:
            return CheckpointLost(order.order, order.trial_id, saved.index, problem)
        return CheckpointCommitted(order.trial_id, order.attempt, order.number, saved, order=order.order)
