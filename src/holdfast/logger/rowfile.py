"""One file with one row after another: `result.json` or `progress.csv` of a trial.

Knows how such a file grows and how rows in it are replaced. Refuses to know trials, and which row belongs where.

A file is created or appended to, never changed in place. What replaces rows is written aside as a copy and renamed
over: a driver that was fenced off meanwhile and wakes up appends to the old file, which nobody reads any more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import StorageError
from holdfast.logger.lines import csv_text, flat_cells, json_line, parse_csv

__all__ = ["CsvRows", "JsonRows", "RowFile", "create", "replace", "same", "sweep"]

Row = dict[str, Any]
_ASIDE = ".aside"
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_ALWAYS = "checkpoint_dir_name"


class RowFile:
    """Base of the two formats.

    Attributes:
        path: Of the file.
        count: How many rows it holds.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0
        self._descriptor = -1

    def adopt(self) -> None:
        """Goes on behind the whole rows that the file holds, if there is one; a torn last row is left behind."""
        try:
            with open(self.path, "rb") as file:
                self.count = self._counted(file.read())
        except FileNotFoundError:
            self.count = 0

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows at the end."""
        if self._descriptor >= 0 and (data := self._added(rows)) is not None:
            _write(self._descriptor, data)
            self.count += len(rows)
        elif self.count:
            self.rewrite(self.count, {}, rows)
        elif not self._create(self._whole(rows)):
            self.rebuild(rows)
        else:
            self.count = len(rows)

    def rewrite(self, keep: int, overlay: Mapping[int, Row], rows: Sequence[Row] = ()) -> None:
        """Keeps the first `keep` rows but for those in `overlay` (by number, from 1), and adds `rows` behind them.

        Raises:
            StorageError: Somebody made the file shorter than it was written.
        """
        if keep + len(rows) == 0:
            self.rebuild([])
            return
        with open(self.path, "rb") as file:
            data = file.read()
        self._renew(self._merged(data, keep, overlay, rows))
        self.count = keep + len(rows)

    def rebuild(self, rows: Sequence[Row], *, always: bool = True) -> None:
        """Makes the file hold exactly these rows; there is none where there are none.

        Args:
            rows: All of them.
            always: Whether a file that says so already is replaced too, so that no other driver can append to it.
        """
        self.count = len(rows)
        if not rows:
            self.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        data = self._whole(rows)
        if always or not same(self.path, data):
            self._renew(data)

    def close(self) -> None:
        """Lets the file go. The next `append` goes on in a copy."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _create(self, data: bytes) -> bool:
        """Creates the file, unless something stands there already."""
        descriptor = create(self.path, data)
        if descriptor is None:
            return False
        self.close()
        self._descriptor = descriptor
        return True

    def _renew(self, data: bytes) -> None:
        descriptor = replace(self.path, data)
        self.close()
        self._descriptor = descriptor

    def _short(self, there: int, keep: int) -> StorageError:
        return StorageError(
            f"{self.path} holds {there} rows where {keep} were written: it was changed by somebody else. "
            "The rows are in the journal; restore, and the file is written anew."
        )

    def _counted(self, data: bytes) -> int:
        """How many whole rows there are in a file's bytes."""
        raise NotImplementedError

    def _added(self, rows: Sequence[Row]) -> bytes | None:
        """The bytes to append for these rows; None where the file must be written anew to take them."""
        raise NotImplementedError

    def _whole(self, rows: Sequence[Row]) -> bytes:
        """A whole file with these rows."""
        raise NotImplementedError

    def _merged(self, data: bytes, keep: int, overlay: Mapping[int, Row], rows: Sequence[Row]) -> bytes:
        """A whole file made of an older one, see `rewrite`."""
        raise NotImplementedError


class JsonRows(RowFile):
    """`result.json`: one object per line, each with the config that its attempt ran with."""

    def __init__(self, path: str, config: bytes) -> None:
        super().__init__(path)
        self._config = config

    def _counted(self, data: bytes) -> int:
        return data.count(b"\n")

    def _added(self, rows: Sequence[Row]) -> bytes:
        config = self._config
        return b"".join([json_line(row, config) for row in rows])

    _whole = _added

    def _merged(self, data: bytes, keep: int, overlay: Mapping[int, Row], rows: Sequence[Row]) -> bytes:
        lines = data.splitlines(keepends=True)[:keep]
        if len(lines) < keep:
            raise self._short(len(lines), keep)
        for number, row in overlay.items():
            lines[number - 1] = json_line(row, self._config)
        return b"".join(lines) + self._added(rows)


class CsvRows(RowFile):
    """`progress.csv`: a table whose header holds every key that a row ever had, in the order in which they came."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._columns: list[str] = []

    def _counted(self, data: bytes) -> int:
        return len(parse_csv(data)[1])

    def _added(self, rows: Sequence[Row]) -> bytes | None:
        table = [flat_cells(row) for row in rows]
        columns = self._columns
        if all(list(cells) == columns for cells in table):
            return csv_text([cells.values() for cells in table])
        if not all(cells.keys() <= set(columns) for cells in table):
            return None
        return csv_text(self._lines(table))

    def _whole(self, rows: Sequence[Row]) -> bytes:
        table = [flat_cells(row) for row in rows]
        self._columns = list(dict.fromkeys(key for cells in table for key in cells))
        return csv_text([self._columns, *self._lines(table)])

    def _merged(self, data: bytes, keep: int, overlay: Mapping[int, Row], rows: Sequence[Row]) -> bytes:
        header, lines = parse_csv(data)
        if len(lines) < keep:
            raise self._short(len(lines), keep)
        table: list[dict[str, Any]] = [dict(zip(header, line, strict=False)) for line in lines[:keep]]
        for number, row in overlay.items():
            table[number - 1] = flat_cells(row)
        added = [flat_cells(row) for row in rows]
        known = [name for name in header if name == _ALWAYS or any(cells.get(name, "") != "" for cells in [*table, *added])]
        table = [{name: cell for name, cell in cells.items() if name in known or cell != ""} for cells in table]
        self._columns = list(dict.fromkeys([*known, *(key for cells in [*table, *added] for key in cells)]))
        return csv_text([self._columns, *self._lines([*table, *added])])

    def _lines(self, table: list[dict[str, Any]]) -> list[list[Any]]:
        return [[cells.get(column, "") for column in self._columns] for cells in table]


def create(path: str, data: bytes) -> int | None:
    """Writes a new file and returns it open for appending; None where one stands there already."""
    try:
        descriptor = os.open(path, _NEW, 0o666)
    except FileExistsError:
        return None
    try:
        _write(descriptor, data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def replace(path: str, data: bytes) -> int:
    """Puts a whole file in the place of another, atomically (not durably); returns it open for appending.

    Killed in the middle it leaves the old file and a hidden one beside it, which `sweep` removes.
    """
    directory, name = os.path.split(path)
    aside = os.path.join(directory, f".{name}.{os.urandom(4).hex()}{_ASIDE}")
    descriptor = os.open(aside, _NEW, 0o666)
    try:
        _write(descriptor, data)
        os.rename(aside, path)
    except BaseException:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    return descriptor


def sweep(directory: str) -> None:
    """Removes what a killed `replace` left in a directory."""
    for name in os.listdir(directory):
        if name.startswith(".") and name.endswith(_ASIDE):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))


def same(path: str, data: bytes) -> bool:
    """Whether a file holds exactly these bytes."""
    try:
        if os.stat(path).st_size != len(data):
            return False
        with open(path, "rb") as file:
            return file.read() == data
    except FileNotFoundError:
        return False


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
