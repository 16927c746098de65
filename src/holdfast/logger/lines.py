"""How rows stand in files: a JSON object per line, or cells of a table.

Knows formats. Refuses to know files. `flat_cells` is for tables: one level, keys joined by "/", without `config`.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from holdfast.values import flatten, plain

__all__ = ["JsonText", "csv_text", "flat_cells", "json_line", "json_object", "json_text", "parse_csv"]

_encode = msgspec.json.Encoder().encode
_ALWAYS = "checkpoint_dir_name"
_ATOMS = frozenset({int, float, str, bool, type(None)})


class JsonText(bytes):
    """What is JSON text already."""


def json_text(value: object, indent: int | None = None) -> bytes:
    """Any value as JSON text; NaN and infinities as `NaN` and `Infinity`, which Python reads back."""
    import json

    return json.dumps(plain(value), indent=indent).encode()


def json_object(row: dict[str, Any]) -> bytes:
    """A dictionary as JSON text, as `json_text` gives it, but for blanks; fast where it holds plain values only."""
    if _ATOMS.issuperset(map(type, row.values())):
        try:
            body = _encode(row)
        except (OverflowError, ValueError):  # an int beyond 64 bits, or text with lone surrogates
            return json_text(row)
        # JSON proper has no NaN and no infinity: the encoder makes them null, so there must be no more nulls than Nones.
        if body.count(b":null") == list(row.values()).count(None):
            return body
    return json_text(row)


def json_line(row: dict[str, Any], config: bytes) -> bytes:
    """A row and its config (JSON text already) as one line; a `JsonText` in the row's own `config` goes before the other."""
    own = row.get("config")
    if isinstance(own, JsonText):
        row, config = {key: value for key, value in row.items() if key != "config"}, own
    body = json_object(row)
    if "config" in row or len(body) <= 2:
        return body + b"\n"
    return b'%b,"config":%b}\n' % (body[:-1], config)


def flat_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as cells. What is None has none, so that a column says that some row had a value, but for the checkpoint's."""
    cells = {key: value for key, value in row.items() if (value is not None or key == _ALWAYS) and key != "config"}
    if not _ATOMS.issuperset(map(type, cells.values())):
        cells = {key: plain(value) for key, value in flatten(cells).items() if value is not None or key == _ALWAYS}
    if cells.get(_ALWAYS, "") is None:
        cells[_ALWAYS] = ""
    return cells


def csv_text(lines: Iterable[Collection[Any]]) -> bytes:
    """Lines of cells as CSV, as Python's `csv` writes it."""
    out = []
    for cells in lines:
        text = ",".join(map(str, cells))
        # Cells that need quotes are rare: then, and only then, there is a quote, an end of line or a comma too many.
        if '"' in text or "\n" in text or "\r" in text or text.count(",") != len(cells) - 1 or not text:
            text = _quoted(cells)
        out.append(text)
    out.append("")
    joined = "\r\n".join(out)
    if "\0" in joined:  # no reader of tables takes it
        joined = joined.replace("\0", "\\0")
    return joined.encode("utf-8", "backslashreplace")


def _quoted(cells: Collection[Any]) -> str:
    import csv

    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([str(cell).replace("\0", "\\0") for cell in cells])  # Python 3.10 refuses to write a NUL
    return buffer.getvalue()[:-2]  # without the end of the line


def parse_csv(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table; a line without its end is one that was never finished, and is left out."""
    import csv

    lines = list(csv.reader(io.StringIO(data[: data.rfind(b"\n") + 1].decode("utf-8"), newline="")))
    return (lines[0], lines[1:]) if lines else ([], [])
