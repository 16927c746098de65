"""The consoles: silent, plain lines, and a live table. Knows records; refuses to know the driver.

What is heard costs next to nothing until something is drawn: the live table is drawn at most four times a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    DecisionMade,
    EpochStarted,
    Record,
    ResultReported,
    TrialSuggested,
    Woke,
)
from holdfast._projection.disk import excess
from holdfast.console.lines import line_for

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState
    from holdfast.console.live import LiveTable

__all__ = ["Console", "make_console"]

_INTERVAL_S = 0.25


class Console:
    """Base of the consoles, and the one that shows nothing but the closing message of an abnormal end."""

    def __init__(self, out: TextIO) -> None:
        self._out: TextIO | None = out
        self._warned = False

    def hear(self, record: Record, state: ExperimentState) -> None:
        """Takes in a record that `state` has just folded."""

    def tick(self, now: float) -> None:
        """Draws if it is time to; `now` is monotonic seconds."""

    def close(self, message: str = "") -> None:
        """Draws for the last time, then shows the message, such as how to restore. May be called twice."""
        if message:
            self._write(message)

    def _warn(self, state: ExperimentState | None) -> None:
        """Says once that the checkpoints which are needed take more than they may."""
        if self._warned or state is None or not (why := excess(state)):
            return
        self._warned = True
        self._line(
            f"[{state.time:9.1f}s] checkpoints take {state.kept_bytes} bytes, max_total_bytes is "
            f"{state.policy.max_total_bytes}: {why}"
        )

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

    def hear(self, record: Record, state: ExperimentState) -> None:
        self._state = state
        event = record.event
        if self._verbose < 3 and isinstance(event, (ResultReported, DecisionMade)):
            return
        line = line_for(record, state, self._verbose, self._metric)
        if line:
            self._write(line)


class LiveConsole(Console):
    """A live table at the bottom of a terminal."""

    def __init__(self, out: TextIO, verbose: int, table: Callable[[], LiveTable]) -> None:
        super().__init__(out)
        self._verbose = verbose
        self._make = table
        self._table: LiveTable | None = None
        self._state: ExperimentState | None = None
        self._changed: set[str] = set()
        self._all_changed = True
        self._due = 0.0

    def hear(self, record: Record, state: ExperimentState) -> None:
        self._state = state
        event = record.event
        if isinstance(event, (ResultReported, DecisionMade, AttemptStarted, AttemptEnded, AttemptLost, TrialSuggested)):
            self._changed.add(event.trial_id)
        if isinstance(event, (EpochStarted, Woke)) or (isinstance(event, DecisionMade) and event.stop_all):
            self._all_changed = True
        if self._verbose >= 3:
            line = line_for(record, state, self._verbose, "")
            if line:
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
        self._opened().draw(state, changed)
        self._warn(state)

    def _line(self, text: str) -> None:
        self._opened().above(text)

    def _opened(self) -> LiveTable:
        if self._table is None:
            self._table = self._make()
        return self._table


def make_console(
    verbose: int, *, metric: str | None = None, mode: str | None = None, total: int = -1, out: TextIO | None = None
) -> Console:
    """The console for this stdout.

    Args:
        verbose: 0 to 3, see the package's table.
        metric: Whose best value is shown.
        mode: "max" or "min".
        total: How many trials there will be; -1 where nobody knows.
        out: Where to write; stdout by default.
    """
    stream = sys.stdout if out is None else out
    if verbose <= 0:
        return Console(stream)
    if not stream.isatty():
        return PlainConsole(stream, verbose, metric or "")

    def table() -> LiveTable:
        from holdfast.console.live import LiveTable

        return LiveTable(stream, metric or "", mode or "", total)

    return LiveConsole(stream, verbose, table)
