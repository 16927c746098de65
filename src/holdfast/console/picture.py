"""What a live screen shows of an experiment, made with rich. Reads the state that it is given; keeps counts and newest values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from holdfast._core.trial import ERROR, FINAL, RUNNING, STATES, TrialState
from holdfast._projection.best import number
from holdfast._projection.table import status
from holdfast.console.lines import one_line, short
from holdfast.values import decode

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["Picture", "Subject", "clock_time"]

_MOST_TROUBLES = 4
_AROUND = 11  # lines beside those of running trials: headline, bar, counts, best, heads, troubles
_FADED = "dim"


class Subject(NamedTuple):
    """What a screen is about.

    Attributes:
        metric, mode: What "best" means; empty where nothing does.
        total: How many trials there will be; -1 where nobody knows.
    """

    metric: str = ""
    mode: str = ""
    total: int = -1


class Picture:
    """The picture of one experiment, brought up to date trial by trial."""

    def __init__(self, subject: Subject) -> None:
        self._metric, self._mode, self._total = subject
        self._best: tuple[float, TrialState] | None = None
        self._best_is_stale = False
        self._values: dict[str, tuple[float, TrialState]] = {}
        self._status: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._running: dict[str, TrialState] = {}
        self._troubled: dict[str, TrialState] = {}
        self._retried: set[str] = set()

    def look_at(self, trials: Iterable[TrialState]) -> None:
        """Takes in trials that are not as they were at the last call."""
        for trial in trials:
            self._count(trial)
            self._judge(trial)

    def drawn(self, state: ExperimentState, idle_s: float | None, width: int, height: int) -> RenderableType:
        """The picture.

        Args:
            state: Today's.
            idle_s: Seconds since its newest record; None where no driver is at work.
            width: Of the screen, in characters.
            height: Likewise, in lines.
        """
        parts: list[RenderableType] = [self._headline(state, idle_s)]
        if self._total > 0:
            parts.append(self._bar(width))
        parts.append(Text(self._counted(), no_wrap=True, overflow="ellipsis"))
        best = self._best_line()
        if best is not None:
            parts.append(best)
        if self._running:
            most = max(2, height - _AROUND)
            parts += ["", self._table(list(islice(self._running.values(), most)), width)]
            if len(self._running) > most:
                parts.append(Text(f"... and {len(self._running) - most} more running", _FADED))
        if self._troubled:
            parts += ["", self._troubles()]
        return Group(*parts)

    def _headline(self, state: ExperimentState, idle_s: float | None) -> Text:
        name = state.created.name if state.created else ""
        text = Text(name, "bold", no_wrap=True, overflow="ellipsis")
        at_work = state.ended or idle_s is not None
        text.append(f"  {_standing(state) if at_work else 'no driver is at work'}", "")
        used = state.time + (idle_s or 0.0)
        text.append(f"  {clock_time(used)} used", "")
        left = self._left(state, used)
        if left is not None:
            text.append(f", about {clock_time(left)} left", "")
        return text

    def _left(self, state: ExperimentState, used: float) -> float | None:
        """A guess from the trials that are done, never beyond the time that the job was given; None where there is none."""
        if state.ended or state.created is None:
            return None
        budget = state.policy.time_budget_s
        guesses = [max(0.0, budget - used)] if budget else []
        done = sum(self._counts[name] for name in FINAL)
        if done and self._total > 0:
            guesses.append(used / done * max(0, self._total - done))
        return min(guesses, default=None)

    def _bar(self, width: int) -> RenderableType:
        done = sum(self._counts[name] for name in FINAL)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=self._total, completed=done, width=min(60, width // 2)),
            Text(f"{done} of {self._total} trials done"),
        )
        return line

    def _counted(self) -> str:
        counts = ", ".join(f"{self._counts[name]} {name}" for name in STATES if self._counts[name]) or "no trials yet"
        return f"trials: {counts}" + (f"; {len(self._retried)} retried" if self._retried else "")

    def _best_line(self) -> Text | None:
        if self._best_is_stale:
            choose = max if self._mode == "max" else min
            self._best = choose(self._values.values(), key=lambda pair: pair[0], default=None)
            self._best_is_stale = False
        if self._best is None:
            return None
        value, trial = self._best
        text = Text(f"best: {self._metric}={value:.6g} ({self._mode}) by {trial.trial_id}", "green")
        text.append(f"  {short(decode(trial.evaluated))}", "")
        return text

    def _table(self, trials: list[TrialState], width: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_FADED)
        table.add_column("trial", no_wrap=True)
        table.add_column("row", justify="right", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        if width >= 100:
            table.add_column("attempt", justify="right", no_wrap=True)
        table.add_column(self._metric or "newest row", no_wrap=bool(self._metric))
        table.add_column("parameters")
        for trial in trials:
            cells = [trial.trial_id, str(trial.number), "" if trial.last is None else clock_time(trial.last.time_total_s)]
            if width >= 100:
                cells.append(str(trial.attempt))
            table.add_row(*map(Text, cells), _cut(self._newest(trial)), _cut(short(decode(trial.evaluated))))
        return table

    def _newest(self, trial: TrialState) -> str:
        if trial.last is None:
            return ""
        newest = decode(trial.last.metrics)
        if not self._metric:
            return short(newest)
        value = number(newest, self._metric)
        return "" if value is None else f"{value:.6g}"

    def _troubles(self) -> Table:
        """The newest trials that have failed, for good or not: the newest attempt's number, and why the newest failure came."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_FADED)
        for name in ("trouble", "trial", "attempt"):
            table.add_column(name, no_wrap=True)
        table.add_column("cause")
        shown = [trial for trial in reversed(self._troubled.values()) if trial.failure is not None]
        for trial in shown[:_MOST_TROUBLES]:
            assert trial.failure is not None
            again = "retried" if status(trial) == RUNNING else "to be retried"
            what = ("failed", "red") if trial.state == ERROR else (again, "yellow")
            cause = f"{trial.failure.kind}: {one_line(trial.failure.message)}"
            table.add_row(Text(*what), Text(trial.trial_id), Text(str(trial.attempt)), _cut(cause))
        if len(shown) > _MOST_TROUBLES:
            table.add_row("", Text(f"and {len(shown) - _MOST_TROUBLES} more", _FADED), "", "")
        return table

    def _count(self, trial: TrialState) -> None:
        name, now = trial.trial_id, status(trial)
        before = self._status.get(name)
        if now != before:
            self._status[name] = now
            self._counts[now] += 1
            if before is not None:
                self._counts[before] -= 1
        _keep(self._running, trial, where=now == RUNNING)
        if trial.failure is not None and trial.state != ERROR:
            self._retried.add(name)
        elif trial.state == ERROR:
            self._retried.discard(name)
        _keep(self._troubled, trial, where=trial.failure is not None and (trial.state == ERROR or trial.state not in FINAL))

    def _judge(self, trial: TrialState) -> None:
        """Keeps the trial's newest value, and whether it is the best: as `best_trial` has it with the scope "last"."""
        row = trial.last
        if not self._metric or not self._mode or row is None:
            return
        value = number(decode(row.metrics), self._metric)
        if value is None:
            return  # an older row's value stands for it
        if isfinite(value):
            self._values[trial.trial_id] = value, trial
        else:
            self._values.pop(trial.trial_id, None)
        if self._best is None or self._best[1] is trial:
            self._best_is_stale = True  # its own new value may be worse than another's
        elif isfinite(value) and (value > self._best[0] if self._mode == "max" else value < self._best[0]):
            self._best = value, trial


def clock_time(seconds: float) -> str:
    """A length of time: `0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _cut(text: str) -> Text:
    """Text on one line; its column gives way where there is no room, and it ends in an ellipsis."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _standing(state: ExperimentState) -> str:
    if state.ended:
        return state.ended
    if state.stopping:
        return f"stopping ({state.stopping})"
    return "paused by request" if state.held else "running"


def _keep(these: dict[str, TrialState], trial: TrialState, *, where: bool) -> None:
    if where:
        these[trial.trial_id] = trial
    else:
        these.pop(trial.trial_id, None)
