"""The files that keep what attempts print: their names, how they are rotated, how they are read on across a rotation.

A log that has grown past `HOLDFAST_LOG_BYTES` becomes `<log>.1`, what was that becomes `<log>.2`, and what was that goes. Only
the process that writes a log rotates it, between two rows; a child that it has started before goes on writing where it
wrote. This module knows files and nothing of trials.
"""

from __future__ import annotations

import io
import os

__all__ = ["KEPT", "LogReader", "note_names", "noted_names", "open_log", "parts_of", "rotate", "tail_of"]

_NAMES = "log_to_file.json"

KEPT = 2
"""How many older parts of a log are kept."""


def parts_of(path: str) -> list[str]:
    """The files that a log consists of, the oldest first; those that are there."""
    return [part for part in [*(f"{path}.{age}" for age in range(KEPT, 0, -1)), path] if os.path.exists(part)]


def open_log(path: str, number: int) -> None:
    """Makes descriptor `number` of this process append to the log, which is made where it is missing.

    Raises:
        OSError: It cannot be made; the descriptor is what it was.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(descriptor, number)
    os.close(descriptor)


def rotate(path: str, number: int) -> None:
    """Begins a new file for the log that descriptor `number` of this process writes. A crash in between loses no other part.

    A log that another process has rotated already is only opened anew. Nothing happens where the descriptor has been led
    elsewhere.

    Raises:
        OSError: The disk refuses: the log is as it was, and written as before.
    """
    mine = os.fstat(number)
    parts = [path, *(f"{path}.{age}" for age in range(1, KEPT + 1))]
    place = _place_of(mine, parts)
    if place is None:
        return
    if place == 0:
        for older, younger in zip(reversed(parts), reversed(parts[:-1]), strict=False):
            if os.path.exists(younger):
                os.replace(younger, older)
    try:
        open_log(path, number)
    except OSError:
        if place == 0:
            os.replace(parts[1], path)
        raise


def tail_of(path: str, size: int) -> str:
    """The last `size` bytes of a log, as text.

    Raises:
        FileNotFoundError: There is no such log.
    """
    parts, data = parts_of(path), b""
    if not parts:
        raise FileNotFoundError(path)
    while parts and len(data) < size:
        with open(parts.pop(), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (size - len(data))))
            data = file.read() + data
    return data.decode(errors="replace")


def note_names(logs_dir: str, names: tuple[str, str]) -> None:
    """Leaves word, for those who look at logs and may not unpickle, of the names that the user gave for stdout and stderr."""
    import json

    aside = os.path.join(logs_dir, f".{_NAMES}.{os.getpid()}")
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(names, file)
    os.replace(aside, os.path.join(logs_dir, _NAMES))


def noted_names(logs_dir: str) -> tuple[str, str] | None:
    """The names that `note_names` left, or None."""
    import json

    try:
        with open(os.path.join(logs_dir, _NAMES), encoding="utf-8") as file:
            stdout, stderr = json.load(file)
    except (OSError, ValueError, TypeError):  # there are none, or what is there is none of ours
        return None
    return str(stdout), str(stderr)


class LogReader:
    """Reads a log that may still be written, from its oldest part on, through every rotation.

    Args:
        path: The log. It need not be there yet.
        file: Where to read on instead: a part of it that is open already.
    """

    def __init__(self, path: str, file: io.FileIO | None = None) -> None:
        self._parts = [path, *(f"{path}.{age}" for age in range(1, KEPT + 1))]
        self._file = file

    @classmethod
    def from_end(cls, path: str) -> LogReader:
        """Reads what is added from now on; the log is made where it is missing."""
        return cls(path, io.FileIO(path, "ab+"))

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; nothing where there are none yet."""
        while True:
            data = self._file.read(size) if self._file is not None else b""
            if data:
                return data
            following = self._following()
            if following is None:
                return b""
            # The file got a new name before the following one was there: what it holds now is all that its writer wrote to it.
            data = self._file.read(size) if self._file is not None else b""
            if data:
                following.close()
                return data
            self.close()
            self._file = following

    def close(self) -> None:
        """Lets the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _following(self) -> io.FileIO | None:
        """The part behind the present one, open; None where this is the newest."""
        while True:
            place = len(self._parts) if self._file is None else _place_of(os.fstat(self._file.fileno()), self._parts)
            if place is None and not os.path.exists(self._parts[0]):
                return None  # the newest was removed, because it was empty
            found = self._part_before(len(self._parts) if place is None else place)
            if found is None or self._file is None or place is None:
                return found
            if _place_of(os.fstat(self._file.fileno()), self._parts) == place:
                return found
            found.close()  # it was rotated at this very moment: another part has that name now

    def _part_before(self, place: int) -> io.FileIO | None:
        """The oldest part that is younger than the one at `place`."""
        for part in reversed(self._parts[:place]):
            try:
                return io.FileIO(part, "rb")
            except FileNotFoundError:
                continue
        return None


def _place_of(status: os.stat_result, parts: list[str]) -> int | None:
    for place, part in enumerate(parts):
        try:
            found = os.stat(part)
        except FileNotFoundError:
            continue
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            return place
    return None
