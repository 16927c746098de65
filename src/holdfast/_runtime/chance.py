"""Chance is given: user functions and plug-ins that draw from global generators draw the same numbers on every replay.

For the duration of a call `random`, NumPy's global generator and torch's (the last two where they are loaded) are set from
(the experiment's seed, who is called, which call), and put back after. One lock for the process, because the
generators are the process's.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["draw_seed", "given_chance", "has_own_chance"]

_lock = threading.RLock()


def draw_seed() -> int:
    """A seed for an experiment whose user gave none.

    Drawn from NumPy's global generator where NumPy is loaded, so that `np.random.seed(n)` before it repeats an
    experiment, else from Python's.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        return int(numpy.random.randint(0, 2**31 - 1))
    return random.randrange(2**31 - 1)


def has_own_chance(plugin: Any) -> bool:
    """Whether a plug-in's `own_chance` counts: its class says so itself, or is this library's.

    What a user's class inherits says nothing about what its own methods draw.
    """
    kind = type(plugin)
    return bool(plugin.own_chance) and ("own_chance" in vars(kind) or kind.__module__.startswith("holdfast."))


@contextmanager
def given_chance(seed: int, *who: object) -> Iterator[None]:
    """Sets the global generators from `seed` and `who`, and puts them back at the end."""
    number = int.from_bytes(hashlib.blake2b(repr((seed, *who)).encode(), digest_size=4).digest(), "big")
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    with _lock:
        python_state = random.getstate()
        numpy_state = numpy.random.get_state() if numpy is not None else None
        torch_state = torch.random.get_rng_state() if torch is not None else None
        try:
            random.seed(number)
            if numpy is not None:
                numpy.random.seed(number)
            if torch is not None:
                torch.random.manual_seed(number)
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None and numpy_state is not None:
                numpy.random.set_state(numpy_state)
            if torch is not None:
                torch.random.set_rng_state(torch_state)
