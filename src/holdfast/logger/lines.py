"""How rows stand in files: a JSON object per line, or cells of a table.

Knows formats. Refuses to know files. `flat_cells` is for tables: one level, keys joined by "/", without `config`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from holdfast.values import flatten, plain

__all__ = ["csv_text", "flat_cells", "json_line", "json_text", "parse_csv"]

_encode = msgspec.json.Encoder().encode
_SIMPLE = frozenset({int, str, bool, type(None)})
_ATOMS = _SIMPLE | {float}


def json_text(value: object, indent: int | None = None) -> bytes:
    """Any value as JSON text; NaN and infinities as `NaN` and `Infinity`, which Python reads back."""
    import json

    return json.dumps(plain(value), indent=indent).encode()


def json_line(row: dict[str, Any], config: bytes) -> bytes:
    """A row and its config (JSON text already) as one line."""
    body = None
    for value in row.values():
        kind = type(value)
        if kind not in _SIMPLE and (kind is not float or value - value != 0.0):  # JSON proper has no NaN and no infinity
            break
    else:
        try:
            body = _encode(row)
        except (OverflowError, ValueError):  # an int beyond 64 bits, or text with lone surrogates
            body = None
    if body is None:
        body = json_text(row)
    if "config" in row:
        return body + b"\n"
    return b'%b,"config":%b}\n' % (body[:-1], config)


def flat_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as cells."""
    cells = {key: value for key, value in row.items() if key != "config"}
    if _ATOMS.issuperset(map(type, cells.values())):
        return cells
    return {key: value if type(value) in _ATOMS else plain(value) for key, value in flatten(cells).items()}


class _Sheet:
    """One text buffer for all tables: making a csv writer costs more than a row."""

    def __init__(self) -> None:
        import csv

        self._buffer = io.StringIO(newline="")
        self.writerow: Callable[[Iterable[Any]], Any] = csv.writer(self._buffer).writerow

    def take(self) -> bytes:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        if "\0" in text:  # no reader of tables takes it
            text = text.replace("\0", "\\0")
        return text.encode("utf-8", "backslashreplace")


_sheets: list[_Sheet] = []


def csv_text(lines: Iterable[Iterable[Any]]) -> bytes:
    """Lines of cells as CSV."""
    try:
        sheet = _sheets.pop()  # taken out while in use, so that two threads never share one
    except IndexError:
        sheet = _Sheet()
    for line in lines:
        sheet.writerow(line)
    text = sheet.take()
    _sheets.append(sheet)
    return text


def parse_csv(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table; a line without its end is one that was never finished, and is left out."""
    import csv

    lines = list(csv.reader(io.StringIO(data[: data.rfind(b"\n") + 1].decode("utf-8"), newline="")))
    return (lines[0], lines[1:]) if lines else ([], [])
