"""The gate: which of the engine's observations go on record, and as what.

What comes from an attempt that is over is refused without harm; what the driver alone knows is added: the score of a
checkpoint, why an attempt was killed, that it left because it was asked to.
"""

from __future__ import annotations

import msgspec

from holdfast import values
from holdfast._core.commands import StartAttempt
from holdfast._core.controller import Controller
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    CheckpointCommitted,
    CheckpointLost,
    Event,
    Failure,
    ResourcesChanged,
    ResultReported,
)
from holdfast._core.policy import Policy
from holdfast._core.trial import RUNNING
from holdfast._runtime.advice import Advice
from holdfast.engines.base import Engine, Observation

__all__ = ["Gate"]


class Gate:
    """Stands between the engine and the journal."""

    def __init__(self, controller: Controller, advice: Advice) -> None:
        self._controller = controller
        self._state = controller.state
        self._advice = advice

    def admit(self, seen: Observation, *, leaving: bool) -> Event | None:
        """The observation as it goes on record; None where it is refused.

        Args:
            seen: What the engine saw.
            leaving: Whether trials have been told to leave with their next row.

        Raises:
            MetricMissing: A row lacks the metric that the job is about.
        """
        controller = self._controller
        if isinstance(seen, CheckpointLost) or (isinstance(seen, CheckpointCommitted) and seen.order):
            return seen if seen.order in controller.open_orders else None
        start = controller.open_orders.get(controller.running.get(seen.trial_id, ""))
        if not isinstance(start, StartAttempt) or start.attempt != seen.attempt:
            return None
        if seen.trial_id in controller.recalled:
            over = isinstance(seen, AttemptEnded)
            return AttemptLost(start.order, seen.trial_id, seen.attempt, "recalled") if over else None
        if isinstance(seen, ResultReported):
            return self._row(seen)
        if isinstance(seen, CheckpointCommitted):
            return self._committed(seen)
        if isinstance(seen, AttemptEnded):
            return self._end(start, seen, leaving=leaving)
        return seen

    def room(self, engine: Engine) -> list[ResourcesChanged]:
        """What there is for attempts, where that is another amount than on record."""
        epoch = self._state.epoch
        if epoch is None or not getattr(engine, "changing", False):
            return []
        has = engine.resources()
        return [] if has == epoch.resources else [ResourcesChanged(has)]

    def _row(self, seen: ResultReported) -> ResultReported | None:
        trial = self._state.trial(seen.trial_id)
        if trial.state != RUNNING and not trial.owes:
            return None
        self._advice.check(seen)
        if seen.saved is None and seen.pending is None:
            return seen
        return msgspec.structs.replace(seen, score=_score(seen, self._state.policy))

    def _committed(self, seen: CheckpointCommitted) -> CheckpointCommitted:
        row = self._state.trial(seen.trial_id).current
        if row is None or row.number != seen.number:
            return seen  # it was pending, and its score came with its row
        return msgspec.structs.replace(seen, score=_score(row, self._state.policy))

    def _end(self, start: StartAttempt, seen: AttemptEnded, *, leaving: bool) -> AttemptEnded | AttemptLost:
        if leaving and seen.outcome == "stopped" and self._state.trial(seen.trial_id).state == RUNNING:
            return AttemptLost(start.order, seen.trial_id, seen.attempt, "interrupted")
        why = self._controller.killing.get(seen.trial_id)
        if why is None or seen.failure is None:
            return seen
        return msgspec.structs.replace(seen, failure=_timed_out(seen.failure, why, self._state.policy))


def _score(row: ResultReported, policy: Policy) -> float | None:
    """What the row's checkpoint is ranked by; None where nobody asks, or it is no number."""
    if not policy.scored_by:
        return None
    value = values.flatten(values.decode(row.metrics, None)).get(policy.scored_by)
    return float(value) if isinstance(value, (int, float)) else None


def _timed_out(failure: Failure, why: str, policy: Policy) -> Failure:
    """The failure of an attempt that was killed because its time was over."""
    message = (
        f"The attempt took longer than FailureConfig(trial_timeout_s={policy.trial_timeout_s:g}) and was killed."
        if why == "timeout"
        else f"The attempt reported nothing for FailureConfig(no_progress_timeout_s={policy.no_progress_timeout_s:g}) seconds "
        "and was killed."
    )
    return msgspec.structs.replace(failure, kind="timeout", message=message)
