"""Named crash points.

`reach("after_append")` does nothing until a test arms the point, in its own process with `arm` or in a child
through `HOLDFAST_FAULTS="after_append:3=stop"` (the third time that the point is reached, SIGSTOP to itself; `kill`
is SIGKILL). The names in use are listed in `POINTS`, so that a test cannot wait for a point that does not exist.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from holdfast import settings

__all__ = ["POINTS", "arm", "armed", "disarm", "reach"]

POINTS = (
    "before_write",
    "in_write",
    "after_write",
    "after_claim_check",
    "after_append",
    "before_dispatch",
    "after_reply",
    "before_delete",
    "after_claim",
    "before_seal",
    "after_seal",
    "mid_checkpoint_stage",
    "mid_checkpoint_upload",
    "after_checkpoint_stage",
    "before_checkpoint_sync",
    "before_checkpoint_rename",
    "after_checkpoint_rename",
    "before_checkpoint_told",
    "mid_delete",
    "before_end_checkpoint",
    "after_end_checkpoint",
    "after_event",
)

_armed: dict[str, Callable[[], None]] = {}


def reach(point: str) -> None:
    """Runs what is armed at `point`; nothing otherwise."""
    if _armed and point in _armed:
        _armed[point]()


def arm(point: str, action: Callable[[], None]) -> None:
    """Makes `reach(point)` call `action` in this process, until `disarm`."""
    if point not in POINTS:
        raise ValueError(f"{point!r} is no crash point; there are {POINTS}")
    _armed[point] = action


def armed(point: str) -> bool:
    """Whether `reach(point)` would do something: for a step that is only taken apart where a test asks for it."""
    return point in _armed


def disarm() -> None:
    """Forgets all armed points of this process."""
    _armed.clear()


def _arm_from_environment(text: str) -> None:
    """Arms `point:count=stop|kill` entries, separated by commas."""
    for entry in filter(None, text.split(",")):
        where, _, what = entry.partition("=")
        point, _, count = where.partition(":")
        number = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}[what]
        left = [int(count or 1)]

        def act(left: list[int] = left, number: int = number) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), number)

        arm(point, act)


_arm_from_environment(settings.faults())
