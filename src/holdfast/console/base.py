"""The consoles: silent, plain lines, and a live table on a terminal or in a notebook. Knows records; refuses to know the driver.

What is heard costs next to nothing until something is drawn: the live table is drawn at most four times a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TextIO

from holdfast import settings
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    DecisionMade,
    EpochStarted,
    Record,
    RequestReceived,
    ResultReported,
    TrialSuggested,
    Woke,
)
from holdfast._projection.disk import excess
from holdfast.console.lines import line_for, story

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["Console", "make_console"]

_INTERVAL_S = 0.25

AtWork = Callable[["ExperimentState"], bool]


class Painted(Protocol):
    """A picture that is painted again and again, and lines beside it."""

    def draw(self, state: ExperimentState, changed: Iterable[str], idle_s: float | None) -> None:
        """Paints.

        Args:
            state: Today's.
            changed: The trials that are not as they were at the last call.
            idle_s: Seconds since the newest record; None where no driver is at work.
        """

    def above(self, line: str) -> None:
        """Shows a line beside the picture."""

    def close(self) -> None:
        """Leaves the last picture."""


class Console:
    """Base of the consoles, and the one that shows nothing but the closing message of an abnormal end."""

    def __init__(self, out: TextIO) -> None:
        self._out: TextIO | None = out
        self._warned = False

    def hear(self, record: Record, state: ExperimentState) -> None:
        """Takes in a record that `state` has just folded."""

    def tick(self, now: float) -> None:
        """Draws if it is time to; `now` is monotonic seconds."""

    def say(self, text: str) -> None:
        """Shows a line that is about no record."""

    def close(self, message: str = "") -> None:
        """Draws for the last time, then shows the message, such as how to restore. May be called twice."""
        if message:
            self._write(message)

    @property
    def unheard(self) -> bool:
        """Whether the reader of a pipe has gone: a driver goes on all the same, who only shows may end."""
        return self._out is None

    def _warn(self, state: ExperimentState | None) -> None:
        """Says once that the checkpoints which are needed take more than they may."""
        if self._warned or state is None or not (why := excess(state)):
            return
        self._warned = True
        self._line(
            f"[{state.time:9.1f}s] checkpoints take {state.kept_bytes} bytes, max_total_bytes is "
            f"{state.policy.max_total_bytes}: {why}"
        )

    def _about(self, record: Record, state: ExperimentState, verbose: int, metric: str) -> list[str]:
        """The lines that a record is worth; for an attempt that failed as `TUNE_PRINT_ALL_TRIAL_ERRORS` has it."""
        failure = record.event.failure if isinstance(record.event, AttemptEnded) else None
        errors = None if failure is None else settings.trial_errors_printed()
        if errors is False or (verbose < 1 and not errors):
            return []
        line = line_for(record, state, verbose, metric)
        told = story(failure) if failure is not None and errors else []
        return [line, *told] if line else told

    def _line(self, text: str) -> None:
        self._write(text)

    def _write(self, text: str) -> None:
        if self._out is None:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except (OSError, ValueError):  # the reader of the pipe has gone, or the stream was closed: an experiment goes on
            self._out = None


class PlainConsole(Console):
    """One line per event, easy to grep."""

    def __init__(self, out: TextIO, verbose: int, metric: str) -> None:
        super().__init__(out)
        self._verbose = verbose
        self._metric = metric
        self._state: ExperimentState | None = None

    def tick(self, now: float) -> None:
        self._warn(self._state)

    def say(self, text: str) -> None:
        self._write(text)

    def hear(self, record: Record, state: ExperimentState) -> None:
        self._state = state
        event = record.event
        if self._verbose < 3 and isinstance(event, (ResultReported, DecisionMade)):
            return
        for line in self._about(record, state, self._verbose, self._metric):
            self._write(line)


class LiveConsole(Console):
    """A live table at the bottom of a terminal, or in a notebook.

    Args:
        out: Where the closing message goes.
        verbose: From 3 on the plain lines are shown too.
        table: Makes the table when it is first drawn.
        at_work: Whether a driver is in charge, so that time goes on also where no record comes.
    """

    def __init__(self, out: TextIO, verbose: int, table: Callable[[], Painted], at_work: AtWork) -> None:
        super().__init__(out)
        self._verbose = verbose
        self._make = table
        self._at_work = at_work
        self._table: Painted | None = None
        self._state: ExperimentState | None = None
        self._changed: set[str] = set()
        self._all_changed = True
        self._due = 0.0

    def hear(self, record: Record, state: ExperimentState) -> None:
        self._state = state
        event = record.event
        if isinstance(event, (ResultReported, DecisionMade, AttemptStarted, AttemptEnded, AttemptLost, TrialSuggested)):
            self._changed.add(event.trial_id)
        if isinstance(event, (EpochStarted, RequestReceived, Woke)) or (isinstance(event, DecisionMade) and event.stop_all):
            self._all_changed = True
        for line in self._about(record, state, self._verbose if self._verbose >= 3 else 0, ""):
            self._opened().above(line)

    def tick(self, now: float) -> None:
        if now >= self._due and self._state is not None:
            self._due = now + _INTERVAL_S
            self._draw(self._state)

    def close(self, message: str = "") -> None:
        if self._state is not None:
            self._draw(self._state)
        if self._table is not None:
            self._table.close()
            self._table = None
            self._state = None
        super().close(message)

    def _draw(self, state: ExperimentState) -> None:
        changed = list(state.trials) if self._all_changed else sorted(self._changed)
        self._all_changed = False
        self._changed.clear()
        idle_s = max(0.0, time.time() - state.wall) if self._at_work(state) else None
        self._opened().draw(state, changed, idle_s)
        self._warn(state)

    def _line(self, text: str) -> None:
        self._opened().above(text)

    def _opened(self) -> Painted:
        if self._table is None:
            self._table = self._make()
        return self._table


def make_console(
    verbose: int,
    *,
    metric: str | None = None,
    mode: str | None = None,
    total: int = -1,
    out: TextIO | None = None,
    at_work: AtWork = lambda state: not state.ended,
    picture: bool = False,
) -> Console:
    """The console for this stdout.

    Args:
        verbose: 0 to 3, see the table in docs/cli.md.
        metric: Whose best value is shown.
        mode: "max" or "min".
        total: How many trials there will be; -1 where nobody knows.
        out: Where to write; stdout by default.
        at_work: Whether a driver is in charge; by default until one has ended in good order.
        picture: Show the table elsewhere too, as it is at the close: not what happens, but how it stands.
    """
    stream = sys.stdout if out is None else out
    if verbose <= 0:
        return Console(stream)
    notebook = out is None and in_notebook()
    if not notebook and not picture and not stream.isatty():
        return PlainConsole(stream, verbose, metric or "")

    def table() -> Painted:
        from holdfast.console.picture import Subject

        subject = Subject(metric or "", mode or "", total)
        if notebook:
            from holdfast.console.notebook import NotebookTable

            return NotebookTable(subject)
        from holdfast.console.live import LiveTable

        return LiveTable(stream, subject)

    return LiveConsole(stream, verbose, table, at_work)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, whose cells have outputs. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
