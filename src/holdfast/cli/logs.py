"""What `holdfast logs` prints: what a trial's attempts wrote to stdout and stderr, also while they write.

Reads the journal and the logs below the experiment's directory; writes, locks and unpickles nothing, and opens no file elsewhere.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

import click
import msgspec

from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import FINAL
from holdfast._journal import Follower
from holdfast._projection.history import Attempt, History
from holdfast.cli import options
from holdfast.cli.logfiles import log_files
from holdfast.cli.places import driver_state, experiment_at, trial_meant
from holdfast.cli.text import when
from holdfast.errors import JournalError, StorageError
from holdfast.storage.base import Storage
from holdfast.storage.uri import is_uri

__all__ = ["Watched", "logs"]

_PAUSE_S = 0.1
_STORE_PAUSE_S = 2.0
_AT_ONCE = 1024 * 1024


@click.command("logs", short_help="Show what a trial printed.")
@options.path
@options.one_trial
@click.option("-f", "--follow", is_flag=True, help="Go on until the trial ends, or Ctrl+C.")
@click.option("--attempt", type=click.IntRange(min=1), help="Only this attempt.")
@click.option("--stderr", is_flag=True, help="What went to stderr, where log_to_file keeps it apart.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per line that was printed.")
@click.pass_context
def logs(context: click.Context, path: str, trial: str, follow: bool, attempt: int | None, stderr: bool, as_json: bool) -> None:
    """Show what a TRIAL (its id or the beginning of it, its number or name) of the experiment at PATH printed."""
    watched = Watched(experiment_at(path), trial)
    known = watched.attempts()
    if attempt is not None and not follow and attempt not in {one.number for one in known}:
        raise click.UsageError(f"Trial {watched.trial_id} has no attempt {attempt}; it has had {len(known)}.")
    pieces = watched.read(follow=follow, attempt=attempt, stderr=stderr, notes=not as_json)
    try:
        if as_json:
            for number, line in _lines(watched, pieces):
                told = {"trial_id": watched.trial_id, "attempt": number, "line": line}
                click.echo(msgspec.json.encode(told).decode())
            return
        screen = _Screen() if sys.stdout.isatty() else None
        for data in pieces:
            click.echo(data if screen is None else screen.shown(data), nl=False)
    except KeyboardInterrupt:
        context.exit(130)


def _lines(watched: Watched, pieces: Iterator[bytes]) -> Iterator[tuple[int, str]]:
    """What was printed line by line, each with the number of its attempt; where attempts share a file, the first one's."""
    number, rest = 0, b""
    for piece in pieces:
        if watched.number != number and rest:
            yield number, rest.decode(errors="replace")
            rest = b""
        number = watched.number
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield number, line.decode(errors="replace")
    if rest:
        yield number, rest.decode(errors="replace")


class Watched:
    """A trial and its logs, looked at again and again.

    Args:
        storage: The experiment.
        wanted: What the user calls the trial.
        pause: What is done between two looks; by default a tenth of a second passes, on a store two seconds.

    Attributes:
        trial_id: The trial.
        number: The attempt that is being read; 0 before the first.
    """

    def __init__(self, storage: Storage, wanted: str, pause: Callable[[], object] | None = None) -> None:
        pause_s = _STORE_PAUSE_S if is_uri(storage.uri) else _PAUSE_S
        self._pause = pause or (lambda: time.sleep(pause_s))
        self._files = log_files(storage)
        self._follower = Follower(storage)
        self._state = ExperimentState()
        self._history = History()
        self._said_idle = False
        self.number = 0
        self.look()
        self.trial_id = trial_meant(self._state, wanted).trial_id

    def look(self) -> None:
        """Takes in what is new in the journal."""
        try:
            reset, records = self._follower.poll()
        except (JournalError, StorageError) as error:
            raise click.ClickException(str(error)) from error
        if reset:
            self._state, self._history = ExperimentState(), History()
        for record in records:
            self._state.fold(record)
            self._history.hear(record, self._state)

    def attempts(self) -> list[Attempt]:
        """The attempts that came to a worker, in order."""
        return [attempt for attempt in self._history.trial(self.trial_id).attempts.values() if attempt.host]

    def over(self) -> bool:
        """Whether the trial has ended for good: no attempt will write any more."""
        return self._state.trial(self.trial_id).state in FINAL and all(it.outcome != "running" for it in self.attempts())

    def read(
        self, *, follow: bool = False, attempt: int | None = None, stderr: bool = False, notes: bool = True
    ) -> Iterator[bytes]:
        """What was printed, attempt by attempt; the same file is read once.

        Args:
            follow: Wait for more until the trial is over.
            attempt: Only that one.
            stderr: What went to stderr, where that is apart.
            notes: Whether a line before each says which attempt it is, and one where nothing is kept says that.
        """
        shown: set[int] = set()
        paths: set[str] = set()
        while True:
            over = self.over()
            new = [it for it in self.attempts() if it.number not in shown and attempt in (None, it.number)]
            for one in new:
                shown.add(one.number)
                path = self._log_of(one, stderr=stderr)
                if path in paths:
                    continue
                paths.add(path)
                self.number = one.number
                if notes:
                    yield self._head(one)
                yield from self._read_one(path, follow=follow, notes=notes)
            if new:
                continue  # the journal has been looked at meanwhile
            if attempt is not None and attempt not in shown and over:
                raise click.UsageError(f"Trial {self.trial_id} ended without an attempt {attempt}.")
            if not follow or over or attempt in shown:
                return
            self._wait()

    def _read_one(self, path: str, *, follow: bool, notes: bool) -> Iterator[bytes]:
        """One log, to its end: with `follow`, to that of its attempt (of the trial, where its attempts share a file)."""
        reader, something, last = self._files.open(path), False, b"\n"
        with contextlib.closing(reader):
            while True:
                writing = follow and self._is_writing(path, self.number)
                while data := reader.read(_AT_ONCE):
                    something, last = True, data
                    yield data
                if not writing:
                    break
                self._wait()
        if notes and not something:
            yield b"(nothing is kept)\n"
        elif notes and not last.endswith(b"\n"):
            yield b"\n"

    def _wait(self) -> None:
        if not self._said_idle and driver_state(self._state) not in ("running", "open"):
            self._said_idle = True
            click.echo("holdfast: no driver is at work on the experiment; waiting for one (Ctrl+C ends this).", err=True)
        self._pause()
        self.look()

    def _is_writing(self, path: str, number: int) -> bool:
        if os.path.dirname(path) != "logs":
            return not self.over()
        return any(it.number == number and it.outcome == "running" for it in self.attempts())

    def _head(self, attempt: Attempt) -> bytes:
        told = f"began {when(attempt.began)}, pid {attempt.pid} on {attempt.host}, {attempt.outcome}"
        return f"==> {self.trial_id} attempt {attempt.number}: {told} <==\n".encode()

    def _log_of(self, attempt: Attempt, *, stderr: bool) -> str:
        """The log's name, relative to the experiment's directory."""
        names = self._files.noted()
        if names is None:
            return f"logs/{self.trial_id}-{attempt.number}.log"
        return os.path.join(self._state.trial(self.trial_id).dirname, names[stderr])


class _Screen:
    """What is printed, for a terminal: control characters are made visible, a carriage return ends a line."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def shown(self, data: bytes) -> str:
        """The next piece of a log as text."""
        text = self._decoder.decode(data).replace("\r\n", "\n").replace("\r", "\n")
        return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
