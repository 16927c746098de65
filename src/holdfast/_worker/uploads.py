"""Uploads: how checkpoints that were staged become durable while the trial goes on.

This module knows one attempt's staged checkpoints and a thread. It does not know rows, sockets or what a checkpoint holds:
`persist` makes it durable, and who began the attempt tells the driver.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from holdfast import faults
from holdfast._core.events import Saved
from holdfast._worker import persist
from holdfast.clock import Clock
from holdfast.errors import StorageError

__all__ = ["MOST_IN_FLIGHT", "Uploads", "patiently"]

MOST_IN_FLIGHT = 2
_DELAYS_S = (0.1, 0.4, 1.6)

T = TypeVar("T")


def patiently(action: Callable[[int], T], clock: Clock) -> T:
    """Does what the disk may refuse for a moment: tries again three times, later and later, each time with some jitter.

    Args:
        action: Is told which try it is, from 0.
        clock: Waits.

    Raises:
        OSError: What the last try raised, or the first that found what it works on gone.
    """
    for number, delay in enumerate(_DELAYS_S):
        try:
            return action(number)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise  # a driver that took over has swept it away: what were written now would be nobody's
            clock.sleep(delay * (1.0 + os.urandom(1)[0] / 256))  # the user's generators are not touched
    return action(len(_DELAYS_S))


class Uploads:
    """Completes staged checkpoints one after another, in the order in which they came, in a thread that lives while it has work.

    Args:
        trial_dir: Where they are staged.
        tell: Called in the thread with a row's number and its checkpoint, when that is durable under its name.
        clock: Waits between tries.
    """

    def __init__(self, trial_dir: str, tell: Callable[[int, Saved], None], clock: Clock) -> None:
        self._trial_dir = trial_dir
        self._tell = tell
        self._clock = clock
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
        problem = patiently(lambda tries: persist.commit(self._trial_dir, saved, check=tries > 0), self._clock)
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
                f"Checkpoint {index} was staged in {self._trial_dir} and could not be made durable: {why}. "
                "Free space there and restore."
            )
            self._working = False
            self._changed.notify_all()
