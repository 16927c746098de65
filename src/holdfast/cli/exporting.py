"""`holdfast export`: an experiment's rows as CSV, JSON lines or Parquet.

The same columns in each: keys flattened by "/", the configuration below "config/". Reads the journal's projection and unpickles
nothing; writes one file, the one that was asked for, whole or not at all, and never into an experiment.
"""

from __future__ import annotations

import csv
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import click
import msgspec

from holdfast._journal import exists
from holdfast.cli import options
from holdfast.cli.places import experiment_at, told_at
from holdfast.cli.text import echo
from holdfast.storage.local import LocalStorage

__all__ = ["FORMATS", "export"]

Rows = Callable[[], Iterator[dict[str, Any]]]

_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


@click.command("export", short_help="Write rows as CSV, JSON lines, Parquet.")
@options.path
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="The file to write; by default stdout.")
@click.option(
    "-f", "--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), help="By default as the file's name says, else csv."
)
@click.option("--rows", is_flag=True, help="All rows of all trials; by default one line per trial, its newest row.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def export(path: str, output: str | None, form: str | None, rows: bool, force: bool) -> None:
    """Write the trials of the experiment at PATH, or all their rows, as CSV, JSON lines or Parquet."""
    storage = experiment_at(path)
    form = form or _SUFFIXES.get(os.path.splitext(output or "")[1], "csv")
    if form == "parquet":
        _pyarrow()
    told = told_at(storage)
    lines: Rows = told.rows if rows else told.newest_rows
    write = FORMATS[form]
    if output is None:
        if form == "parquet" and sys.stdout.isatty():
            raise click.UsageError("Parquet is no text: give a file with -o.")
        write(lines, sys.stdout.buffer)
        return
    _refuse(output, force=force)
    count = _write(output, lambda file: write(lines, file))
    echo(f"{output}: {count} {'rows' if rows else 'trials'}")


def _refuse(output: str, *, force: bool) -> None:
    folder = os.path.dirname(os.path.realpath(output))
    if not os.path.isdir(folder):
        raise click.UsageError(f"There is no directory {folder}.")
    if os.path.lexists(output) and not force:
        raise click.UsageError(f"{output} is there already: --force writes over it.")
    while folder != os.path.dirname(folder):
        if exists(LocalStorage(folder)):
            raise click.UsageError(
                f"{output} lies in the experiment at {folder}, into which nothing else is written: choose another place."
            )
        folder = os.path.dirname(folder)


def _write(output: str, write: Callable[[IO[bytes]], int]) -> int:
    """Writes the file aside and gives it its name when it is complete."""
    staged = f"{output}.tmp-{secrets.token_hex(4)}"
    try:
        with open(staged, "xb") as file:
            count = write(file)
        os.replace(staged, output)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from error
    finally:
        if os.path.lexists(staged):
            os.unlink(staged)
    return count


def _as_csv(rows: Rows, file: IO[bytes]) -> int:
    """Two passes, so that a key that comes late is a column too and rows need not be held."""
    columns = list(_columns(rows()))
    text = _Encoded(file)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows():
        writer.writerow(["" if row.get(name) is None else _cell(row[name]) for name in columns])
        count += 1
    return count


def _as_json_lines(rows: Rows, file: IO[bytes]) -> int:
    count = 0
    for row in rows():
        file.write(msgspec.json.encode(row) + b"\n")
        count += 1
    return count


def _as_parquet(rows: Rows, file: IO[bytes]) -> int:
    pyarrow = _pyarrow()
    from pyarrow import parquet

    table = list(rows())
    columns = {name: [row.get(name) for row in table] for name in _columns(table)}
    arrays = {name: _array(pyarrow, column) for name, column in columns.items()}
    parquet.write_table(pyarrow.table(arrays), file)
    return len(table)


Form = Callable[[Rows, IO[bytes]], int]
FORMATS: dict[str, Form] = {"csv": _as_csv, "jsonl": _as_json_lines, "parquet": _as_parquet}


class _Encoded:
    """A binary file that takes text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> None:
        self._file.write(text.encode())


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, None]:
    """All keys, in the order in which they come."""
    found: dict[str, None] = {}
    for row in rows:
        found.update(dict.fromkeys(row))
    return found


def _array(pyarrow: Any, column: list[Any]) -> Any:
    try:
        return pyarrow.array(_of_one_type(column))
    except (OverflowError, pyarrow.ArrowInvalid):  # a whole number that is too large, text that is no Unicode
        return pyarrow.array([None if value is None else ascii(value) for value in column])


def _of_one_type(column: list[Any]) -> list[Any]:
    """The values as one type that Parquet has: as they are, as floats, or as text."""
    kinds = {type(value) for value in column} - {type(None)}
    if len(kinds) <= 1 and kinds <= {bool, int, float, str}:
        return column
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in column]
    return [None if value is None else str(_cell(value)) for value in column]


def _cell(value: Any) -> Any:
    """A list or what is left of a dictionary as JSON text; all else as it is."""
    return msgspec.json.encode(value).decode() if isinstance(value, (list, dict)) else value


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise click.ClickException(
            "Parquet needs pyarrow, which is not installed: pip install 'holdfast[parquet]'. CSV and JSON lines need nothing."
        ) from None
    return pyarrow
