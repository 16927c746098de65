"""`pretty_print`: a row as text for people."""

from __future__ import annotations

from typing import Any

from holdfast.logger.lines import json_text
from holdfast.values import plain

__all__ = ["pretty_print"]


def pretty_print(result: dict[str, Any], exclude: set[str] | None = None) -> str:
    """A row as lines of `key: value`, sorted, nested ones indented: YAML, as Ray Tune's.

    Args:
        result: The row; its config and what is None are left out.
        exclude: Keys to leave out as well.
    """
    hidden = {"config", "hist_stats", *(exclude or ())}
    shown = plain({key: value for key, value in result.items() if value is not None and key not in hidden})
    return "".join(f"{line}\n" for line in _lines(shown)) or "{}\n"


def _lines(value: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for key in sorted(value):
        inside = value[key]
        if isinstance(inside, dict) and inside:
            lines += [f"{_scalar(key)}:", *(f"  {line}" for line in _lines(inside))]
        elif isinstance(inside, list) and inside and not any(isinstance(item, (dict, list)) for item in inside):
            lines += [f"{_scalar(key)}:", *(f"- {_scalar(item)}" for item in inside)]
        else:
            lines.append(f"{_scalar(key)}: {_scalar(inside)}")
    return lines


def _scalar(value: object) -> str:
    """YAML takes JSON as it is; words need no quotes."""
    if isinstance(value, float) and value - value != 0.0:
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    if isinstance(value, str) and value.replace("_", "").replace("-", "").isalpha() and value.lower() not in _MEANT_OTHERWISE:
        return value
    return json_text(value).decode()


_MEANT_OTHERWISE = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
