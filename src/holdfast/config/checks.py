"""What the configs have in common: how they are shown and compared, and how numbers are looked at."""

from __future__ import annotations

import datetime
import operator
from math import isfinite
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["Shown", "seconds", "whole"]


class Shown:
    """Gives the configs a repr of what was set, and equality by value."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in _said(self).items() if value is not None)
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _said(other) == _said(self)

    __hash__ = None  # type: ignore[assignment]


def whole(value: Any) -> int | None:
    """The value as an int where it is a whole number (of NumPy too, `2.0` too), else None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return operator.index(value) if hasattr(value, "__index__") else None


def seconds(name: str, given: Any) -> float:
    """A length of time, of a `timedelta` too, as seconds.

    Raises:
        ConfigError: It is none, or below 0.
    """
    value = given.total_seconds() if isinstance(given, datetime.timedelta) else given
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value) or value < 0:
        raise ConfigError(f"{name} is {given!r}: give a number of seconds, or a timedelta.")
    return float(value)


def _said(config: Shown) -> dict[str, Any]:
    """All values; one that was stored before there was such a parameter has its default."""
    return {name: getattr(config, name) for name in type(config).__annotations__}
