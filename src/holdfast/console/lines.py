"""Records as single lines of text. Knows what an event means to someone who reads along; nothing of screens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast._core.details import Failure
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointDropped,
    CheckpointLost,
    DecisionMade,
    EpochEnded,
    EpochStarted,
    InexactFound,
    Record,
    RequestReceived,
    ResultReported,
    TailCut,
    TrialSuggested,
)
from holdfast._core.ids import checkpoint_name
from holdfast._core.trial import FINAL, TrialState
from holdfast._projection.best import number
from holdfast.values import decode, flatten, plain

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["line_for", "one_line", "short", "story"]


def line_for(record: Record, state: ExperimentState, verbose: int, metric: str) -> str:
    """The line that a record is worth at this level of detail; empty for none."""
    event = record.event
    text = ""
    if isinstance(event, (EpochStarted, EpochEnded, TailCut, InexactFound)):
        text = _of_the_whole(event)
    elif isinstance(event, RequestReceived):
        text = f"{event.verb} was asked for{f': trial {event.trial_id}' if event.trial_id else ''}"
    elif isinstance(event, AttemptEnded):
        text = _ended(event, state.trial(event.trial_id), metric)
    elif isinstance(event, CheckpointLost):
        text = f"trial {event.trial_id} lost {checkpoint_name(event.index)}, which was pending: {event.problem}"
    elif isinstance(event, DecisionMade) and event.action != "CONTINUE" and verbose >= 3:
        text = f"trial {event.trial_id} {event.action.lower()} at row {event.number} by {event.by}"
    elif isinstance(event, ResultReported) and verbose >= 3:
        text = f"trial {event.trial_id} row {event.number}: {short(decode(event.metrics))}"
    elif verbose >= 2:
        text = _detail(event, state)
    return f"[{record.time:9.1f}s] {one_line(text)}" if text else ""


def one_line(text: str) -> str:
    """The text on one line, with control characters made visible: what trials say never moves a cursor."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(text.split()))


def story(failure: Failure) -> list[str]:
    """The traceback of an attempt that failed, line by line, with control characters made visible."""
    return ["".join(char if char.isprintable() else repr(char)[1:-1] for char in line) for line in failure.traceback.splitlines()]


def short(values: dict[str, Any]) -> str:
    """A dictionary on one line: `a=1 b/c=0.25`."""
    return one_line(" ".join(f"{key}={_cell(value)}" for key, value in flatten(plain(values)).items()))


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _of_the_whole(event: EpochStarted | EpochEnded | TailCut | InexactFound) -> str:
    if isinstance(event, EpochStarted):
        where = f"pid {event.pid} on {event.host}, engine {event.engine}"
        amounts: dict[str, object] = dict(event.resources)
        if "memory" in event.resources:
            amounts["memory"] = f"{event.resources['memory'] / 2**30:.1f}GiB"
        return f"driver {event.epoch} in charge: {where}, {short(amounts)}"
    if isinstance(event, EpochEnded):
        return f"driver ended: {event.reason}{': ' + event.detail if event.detail else ''}"
    if isinstance(event, TailCut):
        return f"cut a torn tail: {event.size} bytes of {event.file} at byte {event.offset}, kept in journal/cut"
    return f"{event.plugin} is inexact from position {event.position}: {event.detail}"


def _ended(event: AttemptEnded, trial: TrialState, metric: str) -> str:
    name = f"trial {trial.trial_id}"
    if event.failure is not None:
        end = "failed for good" if trial.state in FINAL else "failed, another attempt follows"
        return f"{name} attempt {event.attempt} {end} ({event.failure.kind}): {event.failure.message}"
    if trial.state not in FINAL:
        return f"{name} {trial.state.lower()} after {trial.number} rows"
    value = None
    if trial.last is not None and metric:
        value = number(decode(trial.last.metrics), metric)
    return f"{name} {trial.state.lower()} after {trial.number} rows{'' if value is None else f' {metric}={value:.6g}'}"


def _detail(event: object, state: ExperimentState) -> str:
    if isinstance(event, TrialSuggested):
        return f"trial {event.trial_id} created: {short(decode(event.evaluated))}"
    if isinstance(event, AttemptStarted):
        point = state.trial(event.trial_id).number
        after = f", resumed after row {point}" if point else ""
        return f"trial {event.trial_id} attempt {event.attempt} started: pid {event.pid} on {event.host}{after}"
    if isinstance(event, AttemptLost):
        return f"trial {event.trial_id} attempt {event.attempt} lost with its driver ({event.cause})"
    if isinstance(event, CheckpointDropped):
        return f"trial {event.trial_id} gave up {checkpoint_name(event.index)}"
    return ""
