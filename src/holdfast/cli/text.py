"""Text for terminals: tables, times, sizes. Control characters of whatever origin are made visible, never sent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

from holdfast.values import flatten

__all__ = ["ago", "columns", "echo", "echo_json", "pairs", "shown", "size", "when"]

_LONGEST = 48


def echo(text: str = "") -> None:
    """Prints text."""
    click.echo("".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text))


def echo_json(value: object) -> None:
    """Prints a value as JSON; NaN and infinities as null, which JSON proper has no word for."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def columns(head: Sequence[str], lines: Iterable[Sequence[object]], indent: str = "") -> str:
    """A table with aligned columns."""
    table = [list(head), *([str(cell) for cell in line] for line in lines)]
    widths = [max(len(line[at]) for line in table) for at in range(len(head))]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def pairs(values: dict[str, Any], most: int = 6) -> str:
    """A dictionary on one line: `a=1 b/c=0.25`."""
    flat = flatten(values)
    shown = [f"{key}={_number(value)}" for key, value in list(flat.items())[:most]]
    return " ".join(shown) + (f" (+{len(flat) - most})" if len(flat) > most else "")


def shown(value: object) -> str:
    """A value in a cell of a table: not too long, a dash where there is none."""
    text = "-" if value is None else _number(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def when(wall: float) -> str:
    """Seconds since 1970 as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall)) if wall else "-"


def ago(wall: float) -> str:
    """How long ago that was."""
    seconds = max(0.0, time.time() - wall)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
