"""Shows on the driver's terminal what trials print, line by line, each with the trial's name before it."""

from __future__ import annotations

import sys
import time

from holdfast._worker.logs import LogReader

__all__ = ["INTERVAL_S", "Echo"]

INTERVAL_S = 0.1
_AT_ONCE = 64 * 1024


class Echo:
    """Follows the logs of running attempts."""

    def __init__(self) -> None:
        self._expected: dict[tuple[str, int], list[LogReader]] = {}
        self._followed: dict[tuple[str, int], _Log] = {}
        self._next = 0.0

    def expect(self, attempt: tuple[str, int], paths: tuple[str, str]) -> None:
        """An attempt is about to begin: what is added to the files from now on is its own."""
        for reader in self._expected.pop(attempt, ()):  # expected before, and its worker died before it began
            reader.close()
        self._expected[attempt] = [LogReader.from_end(path) for path in dict.fromkeys(paths)]

    def follow(self, attempt: tuple[str, int], prefix: str) -> None:
        """Shows what an expected attempt prints."""
        self._followed[attempt] = _Log(self._expected.pop(attempt), prefix)

    def show(self) -> None:
        """Prints what is new, at most every `INTERVAL_S` seconds."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_S
            for log in self._followed.values():
                log.show()

    def finish(self, attempt: tuple[str, int]) -> None:
        """Prints the rest of an attempt's output, an unfinished line too, and forgets it."""
        for reader in self._expected.pop(attempt, ()):
            reader.close()
        log = self._followed.pop(attempt, None)
        if log is not None:
            log.show()
            log.close()


class _Log:
    """The one or two logs of an attempt, and how far they have been shown."""

    def __init__(self, readers: list[LogReader], prefix: str) -> None:
        self._readers = readers
        self._rests = [b""] * len(self._readers)
        self._prefix = prefix

    def show(self) -> None:
        for place, reader in enumerate(self._readers):
            while data := reader.read(_AT_ONCE):
                *lines, self._rests[place] = (self._rests[place] + data).split(b"\n")
                self._print(lines)

    def close(self) -> None:
        for place, reader in enumerate(self._readers):
            if self._rests[place]:
                self._print([self._rests[place]])
            reader.close()

    def _print(self, lines: list[bytes]) -> None:
        text = "".join(f"{self._prefix}{line.decode(errors='replace')}\n" for line in lines)
        sys.stdout.write(text)
        sys.stdout.flush()
