"""Uploads: how checkpoints that were staged become durable while the trial goes on.

This module knows one attempt's staged checkpoints and a thread. It does not know rows, sockets or what a checkpoint holds:
its keeper makes it durable, and who began the attempt tells the driver.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from holdfast import faults
from holdfast._core.events import Saved
from holdfast._worker.keeping import Keeper
from holdfast.errors import StorageError

__all__ = ["MOST_IN_FLIGHT", "Uploads"]

MOST_IN_FLIGHT = 2


class Uploads:
    """Completes staged checkpoints one after another, in the order in which they came, in a thread that lives while it has work.

    Args:
        keeper: Has staged them, and completes them.
        tell: Called in the thread with a row's number and its checkpoint, when that is durable under its name.
    """

    def __init__(self, keeper: Keeper, tell: Callable[[int, Saved], None]) -> None:
        self._keeper = keeper
        self._tell = tell
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, Saved]] = []
        self._thread: threading.Thread | None = None
        self._working = False
        self._failure = ""

    def make_room(self) -> None:
        """Waits until fewer than `MOST_IN_FLIGHT` are under way.

        Raises:
            StorageError: One could not be completed. It and those behind it stay staged, for the driver to try once more.
        """
        self._wait_for(MOST_IN_FLIGHT - 1)

    def finish(self) -> None:
        """Waits until none is under way and no thread is left; raises as `make_room` does."""
        try:
            self._wait_for(0)
        finally:
            if self._thread is not None:
                self._thread.join()

    def add(self, number: int, saved: Saved) -> None:
        """Takes over the staged checkpoint of the row with that number; returns at once."""
        with self._changed:
            self._waiting.append((number, saved))
            if not self._working and not self._failure:
                thread = threading.Thread(target=self._run, name="holdfast-uploads", daemon=True)
                thread.start()
                self._thread, self._working = thread, True

    def _wait_for(self, most: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure or len(self._waiting) <= most)
            if self._failure:
                raise StorageError(self._failure)

    def _run(self) -> None:
        try:
            while self._complete_one():
                pass
        except OSError as error:
            self._give_up(str(error))
        except BaseException:
            self._give_up("the thread that completes checkpoints ended with an error of its own; the trial's log has it")
            raise

    def _complete_one(self) -> bool:
        """Completes the oldest and tells; returns whether there are more."""
        number, saved = self._waiting[0]
        problem = self._keeper.commit(saved, check=False)
        if problem:
            raise OSError(problem)
        faults.reach("before_checkpoint_told")
        self._tell(number, saved)
        with self._changed:
            del self._waiting[0]
            self._working = bool(self._waiting)
            self._changed.notify_all()
            return self._working

    def _give_up(self, why: str) -> None:
        with self._changed:
            index = self._waiting[0][1].index
            self._failure = (
                f"Checkpoint {index} was staged in {self._keeper.trial_dir} and could not be made durable: {why}. "
                "Free space there and restore."
            )
            self._working = False
            self._changed.notify_all()
