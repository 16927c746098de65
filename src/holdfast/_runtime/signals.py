"""Ctrl+C and SIGTERM while `fit()` runs: noted, and taken up by the loop at its next turn.

The second signal of a kind gets the handler that stood before, so an impatient user is never trapped. Off the main thread
Python delivers no signals and nothing is installed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from holdfast import settings

__all__ = ["Signals"]


class Signals:
    """A context in which SIGINT and SIGTERM are noted instead of ending the process.

    Attributes:
        caught: The first signal's number; 0 for none.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}
        self._wake: Callable[[], None] = lambda: None

    def tell(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when a signal comes."""
        self._wake = wake

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            wanted = [signal.SIGTERM] + ([signal.SIGINT] if settings.sigint_handler() else [])
            for number in wanted:
                before = signal.signal(number, self._note)
                self._before[number] = signal.SIG_DFL if before is None else before  # None: set by C code, and not ours to see
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = self.caught or number
        signal.signal(number, self._before[number])
        self._wake()
