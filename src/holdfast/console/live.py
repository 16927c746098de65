"""The live table, drawn with rich. Loaded only where there is a terminal; reads the state that it is given, keeps counts only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from holdfast._core.trial import ERROR, RUNNING, STATES, TrialState
from holdfast._projection.best import number
from holdfast._projection.table import status
from holdfast.console.lines import short
from holdfast.values import decode

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["LiveTable"]

_MOST_LINES = 16


class LiveTable:
    """What stands at the bottom of the terminal.

    Args:
        out: The terminal.
        metric, mode: What "best" means; empty where nothing does.
        total: How many trials there will be; -1 where nobody knows.
    """

    def __init__(self, out: TextIO, metric: str, mode: str, total: int) -> None:
        self._metric, self._mode, self._total = metric, mode, total
        self._best: tuple[float, TrialState] | None = None
        self._status: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._running: dict[str, TrialState] = {}
        self._failed: dict[str, TrialState] = {}
        self._live = Live(console=Console(file=out), auto_refresh=False, transient=False)
        self._live.start()

    def draw(self, state: ExperimentState, changed: Iterable[str]) -> None:
        """Draws the state as it is; `changed` names the trials that are not as they were at the last call."""
        for trial_id in changed:
            self._look_at(state.trials[trial_id])
        parts: list[Any] = [Text(self._headline(state))]
        if self._running:
            parts.append(self._table(list(islice(self._running.values(), _MOST_LINES))))
        if len(self._running) > _MOST_LINES:
            parts.append(Text(f"... and {len(self._running) - _MOST_LINES} more running"))
        failed = list(islice(reversed(self._failed.values()), 3))
        parts += [Text(f"failed: {trial.trial_id}: {trial.failure.message}") for trial in failed if trial.failure is not None]
        self._live.update(Group(*parts), refresh=True)

    def above(self, line: str) -> None:
        """Prints a line above the table."""
        self._live.console.print(Text(line))

    def close(self) -> None:
        """Leaves the last picture on the terminal."""
        self._live.stop()

    def _headline(self, state: ExperimentState) -> str:
        done = ", ".join(f"{self._counts[name]} {name}" for name in STATES if self._counts[name]) or "no trials yet"
        total = f" of {self._total}" if self._total >= 0 else ""
        minutes, seconds = divmod(int(state.time), 60)
        name = state.created.name if state.created else ""
        text = f"{name}  {minutes}:{seconds:02d}  {len(state.trials)}{total} trials: {done}"
        if self._best is not None:
            value, trial = self._best
            text += f"\nbest: {self._metric}={value:.6g} by {trial.trial_id} ({short(decode(trial.evaluated))})"
        return text

    def _table(self, trials: list[TrialState]) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("trial", "rows", "seconds", self._metric or "newest row", "parameters"):
            table.add_column(name, no_wrap=True)
        for trial in trials:
            row = trial.last
            newest = decode(row.metrics) if row is not None else {}
            value = number(newest, self._metric) if self._metric else None
            seconds = f"{row.time_total_s:.1f}" if row is not None else ""
            shown = short(newest) if not self._metric else "" if value is None else f"{value:.6g}"
            cells = (trial.trial_id, str(trial.number), seconds, shown, short(decode(trial.evaluated)))
            table.add_row(*map(Text, cells))
        return table

    def _look_at(self, trial: TrialState) -> None:
        now = status(trial)
        before = self._status.get(trial.trial_id)
        if now != before:
            self._status[trial.trial_id] = now
            self._counts[now] += 1
            if before is not None:
                self._counts[before] -= 1
            for name, these in ((RUNNING, self._running), (ERROR, self._failed)):
                if now == name:
                    these[trial.trial_id] = trial
                else:
                    these.pop(trial.trial_id, None)
        row = trial.last
        if not self._metric or not self._mode or row is None:
            return
        value = number(decode(row.metrics), self._metric)
        if value is None or value != value:
            return
        if self._best is None or (value > self._best[0] if self._mode == "max" else value < self._best[0]):
            self._best = value, trial
