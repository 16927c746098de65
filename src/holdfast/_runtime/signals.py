"""Ctrl+C, SIGTERM and SIGUSR1 (as SLURM sends) while `fit()` runs: noted, and taken up by the loop at its next turn.

The first lets trials leave, the second ends the run at once, and a third gets the handler that stood before, so an
impatient user is never trapped. Off the main thread Python delivers no signals and nothing is installed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from holdfast import settings

__all__ = ["Signals", "exit_code"]

_REQUEUE = 75  # EX_TEMPFAIL: try again later


class Signals:
    """A context in which SIGINT, SIGTERM and SIGUSR1 are noted instead of ending the process.

    Attributes:
        caught: The first signal's number; 0 for none.
        count: How many came.
    """

    def __init__(self) -> None:
        self.caught = 0
        self.count = 0
        self._before: dict[int, Any] = {}
        self._wake: Callable[[], None] = lambda: None

    def tell(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when a signal comes."""
        self._wake = wake

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            wanted = [signal.SIGTERM, signal.SIGUSR1] + ([signal.SIGINT] if settings.sigint_handler() else [])
            for number in wanted:
                before = signal.signal(number, self._note)
                self._before[number] = signal.SIG_DFL if before is None else before  # None: set by C code, and not ours to see
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = self.caught or number
        self.count += 1
        if self.count > 1:
            for noted, before in self._before.items():
                signal.signal(noted, before)
        self._wake()


def exit_code(caught: int, *, requeue: bool) -> int:
    """What a process that a signal ended exits with: 128 + its number; 75 where a scheduler is to queue the job again.

    Ctrl+C is a person who wants the job to end, and never queued again.
    """
    return _REQUEUE if requeue and caught != signal.SIGINT else 128 + caught
