"""Laws of chance: how numbers from [0, 1) become values between bounds.

This module knows distributions and what bounds they need. It refuses to know whose chance it is: every draw takes its numbers
from a source that the caller gives, anything whose `random()` returns a float in [0, 1).
"""

from __future__ import annotations

import math
import sys
from typing import Any, Protocol

from holdfast.errors import SearchSpaceError

__all__ = [
    "Grid",
    "LogUniform",
    "Normal",
    "Quantized",
    "Source",
    "Uniform",
    "below",
    "bound",
    "check_order",
    "check_positive",
    "check_step",
    "is_finite",
    "listed",
    "source_of",
    "whole",
]


class Source(Protocol):
    """Where chance comes from: `random.Random`, `numpy.random.RandomState` and `numpy.random.Generator` all are one."""

    def random(self) -> float:
        """A number in [0, 1)."""


def source_of(random_state: Any) -> Source:
    """What a user's `random_state` means: an int is a seed, None the process's global generator (NumPy's where loaded)."""
    if random_state is None:
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            return numpy.random  # type: ignore[no-any-return]
    elif hasattr(random_state, "random"):
        return random_state  # type: ignore[no-any-return]
    import random

    if random_state is None:
        return random
    try:
        return random.Random(random_state.__index__())
    except AttributeError:
        raise SearchSpaceError(
            f"random_state={random_state!r} cannot be used: give an int, a random.Random, or a numpy RandomState or Generator."
        ) from None


# The laws. Each turns numbers from [0, 1) into values between the bounds it is given.


def below(n: int, source: Source) -> int:
    """A whole number in [0, n), evenly; takes more bits where 53 would be too few to be even."""
    value, bits = int(source.random() * 2**53), 53
    while bits < n.bit_length() + 21:
        value, bits = (value << 53) | int(source.random() * 2**53), bits + 53
    return (value * n) >> bits


class Uniform:
    """Evenly between the bounds."""

    def real(self, lower: float, upper: float, source: Source) -> float:
        return lower + source.random() * (upper - lower)

    def whole(self, lower: int, upper: int, source: Source) -> int:
        return lower + below(upper - lower, source)

    def __repr__(self) -> str:
        return "uniform"


class LogUniform:
    """Evenly between the bounds' logarithms."""

    def real(self, lower: float, upper: float, source: Source) -> float:
        low = math.log(lower)
        return math.exp(low + source.random() * (math.log(upper) - low))

    def whole(self, lower: int, upper: int, source: Source) -> int:
        return min(max(math.floor(self.real(lower, upper, source)), lower), upper - 1)

    def __repr__(self) -> str:
        return "log-uniform"


class Normal:
    """Gauss's law; the bounds are none."""

    def __init__(self, mean: float, sd: float) -> None:
        if not (is_finite(mean) and is_finite(sd) and sd > 0):
            raise SearchSpaceError(f"A normal domain needs a finite mean and sd > 0, not mean={mean!r}, sd={sd!r}.")
        self.mean = mean
        self.sd = sd

    def real(self, lower: float, upper: float, source: Source) -> float:
        # Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
        radius = math.sqrt(-2.0 * math.log(1.0 - source.random()))
        return self.mean + self.sd * radius * math.cos(2.0 * math.pi * source.random())

    def __repr__(self) -> str:
        return f"normal({self.mean}, {self.sd})"


class Quantized:
    """Another law, on the multiples of `q`."""

    def __init__(self, sampler: Any, q: float) -> None:
        self.sampler = sampler
        self.q = q

    def real(self, lower: float, upper: float, source: Source) -> float:
        value: float = round(self.sampler.real(lower, upper, source) / self.q) * self.q
        return min(max(value, lower), upper)  # a multiple may miss its own bound by a rounding error

    def whole(self, lower: int, upper: int, source: Source) -> int:
        first, last = -(-lower // self.q), upper // self.q
        # Ray Tune's rule: the upper bound belongs to the domain, but for q=1.
        return int(self.sampler.whole(int(first), int(last) + (self.q != 1), source) * self.q)

    def __repr__(self) -> str:
        return f"{self.sampler!r} in steps of {self.q}"


class Grid:
    """No law: each category is used once."""

    def __repr__(self) -> str:
        return "grid"


# Checks that domains share.


def is_finite(value: Any) -> bool:
    """Whether `value` is a number other than NaN and the infinities."""
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def bound(value: Any, default: float) -> float:
    """A bound as it was given; `default` for None."""
    if value is None:
        return default
    if not (is_finite(value) or value in (-math.inf, math.inf)):
        raise SearchSpaceError(f"A bound must be a number, not {value!r}.")
    return value  # type: ignore[no-any-return]


def whole(value: Any) -> int:
    """A whole number, given as one or as a float without fraction."""
    if is_finite(value) and value == int(value):
        return int(value)
    raise SearchSpaceError(f"A whole number is needed here, not {value!r}.")


def check_order(lower: float, upper: float) -> None:
    """Refuses bounds between which nothing lies."""
    if not lower < upper:
        raise SearchSpaceError(f"The lower bound {lower} must be below the upper bound {upper}.")


def check_positive(lower: float) -> None:
    """Refuses bounds without a logarithm."""
    if not lower > 0:
        raise SearchSpaceError(
            f"A logarithmic domain needs a lower bound above 0, not {lower}. Give the bounds themselves, not their logarithms."
        )


def check_step(q: Any) -> None:
    """Refuses a quantization step that is none."""
    if not (is_finite(q) and q > 0):
        raise SearchSpaceError(f"The step q must be a number above 0, not {q!r}.")


def listed(values: Any, of: str) -> list[Any]:
    """The values that a choice or grid is given, as a list."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise SearchSpaceError(f"{of} needs a list of values, not {values!r}.")
    found = list(values)
    if not found:
        raise SearchSpaceError(f"{of} needs at least one value; the list is empty.")
    return found
