"""The clock port: the only place where the library learns what time it is."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the driver asks for time. `holdfast.testing.FakeClock` is the other adapter."""

    def monotonic(self) -> float:
        """Seconds that only grow, from an arbitrary start."""

    def wall(self) -> float:
        """Seconds since 1970, UTC; may jump."""

    def sleep(self, seconds: float) -> None:
        """Returns after `seconds`."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
