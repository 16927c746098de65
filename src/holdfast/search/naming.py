"""Names made of a trial's configuration: its tag and its directory.

This module knows Ray Tune's form of both. It refuses to look at the disk: that no two directories have one name is its
caller's care.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["format_tag", "safe_dirname"]

_LONGEST_VALUE = 120  # a directory's name is cut anyway; a whole dataset's text must not stand in each record
_LONGEST_NAME = 255  # bytes that a file system takes
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/()<>:"\\|?*\ud800-\udfff]')
_ODD = re.compile(r"[^a-zA-Z0-9_-]+")


def format_tag(index: int, evaluated: dict[str, Any]) -> str:
    """Ray Tune's experiment tag, such as `3_layers=2,lr=0.0100`.

    Args:
        index: The trial's number.
        evaluated: Flattened key → value of the resolved keys. They stand sorted, each with the last part of its path; floats have
            four decimals; runs of characters other than letters, digits, `_` and `-` become one `_`.
    """
    if not evaluated:
        return str(index)
    pairs = sorted(((key.split("/"), value) for key, value in evaluated.items()), key=lambda pair: pair[0])
    return f"{index}_" + ",".join(f"{_clean(path[-1])}={_clean(value)}" for path, value in pairs)


def safe_dirname(trial_name_prefix: str, tag: str, date: str, longest: int) -> str:
    """A trial's directory name: `<name>_<tag>` cut at `longest` characters, then `_<date>`; one that every file system takes."""
    name = f"{trial_name_prefix}_{tag}"[:longest]
    end = f"_{date}" if date else ""
    while len((name + end).encode("utf-8", "replace")) > _LONGEST_NAME:
        name = name[:-1]
    safe = _UNSAFE.sub("_", name + end)
    return "_" + safe[1:] if safe.startswith(".") else safe


def _clean(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - the user's own __str__ may fail; a name must not
        text = type(value).__name__
    return _ODD.sub("_", text[:_LONGEST_VALUE]).strip("_")
