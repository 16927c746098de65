"""Patience with a disk: what it refuses for a moment is tried again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

from holdfast.clock import Clock

__all__ = ["patiently"]

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
