"""What becomes of a trial when an attempt of it starts or ends. Part of the fold; see `experiment.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast._core import retry
from holdfast._core.events import AttemptEnded, AttemptLost, AttemptStarted, Record
from holdfast._core.policy import Policy
from holdfast._core.trial import PAUSED, PENDING, RUNNING, STOPPING, TERMINATED, TrialState
from holdfast.errors import InternalError

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["Tally", "attempted"]


class Tally(msgspec.Struct):
    """How the attempts have gone since the newest driver took charge.

    Attributes:
        over: How many have ended.
        failed: How many of them failed.
        in_a_row: How many have failed since the last that did not.
    """

    over: int = 0
    failed: int = 0
    in_a_row: int = 0

    def count(self, event: AttemptEnded) -> None:
        """Takes one more in."""
        failed = event.failure is not None and retry.counts(event.failure)
        self.over += 1
        self.failed += failed
        self.in_a_row = self.in_a_row + 1 if failed else 0

    def too_many(self, policy: Policy) -> bool:
        """Whether so many have failed that the user wants to look first."""
        bound = policy.stop_after_failures
        if bound >= 1:
            return self.in_a_row >= bound
        return self.over >= retry.TOO_FEW and 0 < bound < self.failed / self.over


def attempted(state: ExperimentState, event: AttemptStarted | AttemptEnded | AttemptLost, record: Record) -> None:
    """Folds one of these events."""
    trial = state.trial(event.trial_id)
    if isinstance(event, AttemptStarted):
        state.move(trial, "finishing" if trial.owes else "started")
        trial.begin(event, record.wall)
        trial.progressed = record.time
        return
    trial.attempt = event.attempt
    if isinstance(event, AttemptLost):
        trial.next_index += 1  # the lost attempt may have begun to write under the index that it was granted
        state.move(trial, "owing" if _owes(trial, state.policy) else "lost")
    else:
        state.tally.count(event)
        _ended(state, trial, event)
    if trial.ordered and trial.state == PAUSED:
        _carry_out(state, trial)
    if state.stopping and trial.state in (PENDING, PAUSED) and not trial.owes:
        state.cut_short(trial)


def _ended(state: ExperimentState, trial: TrialState, event: AttemptEnded) -> None:
    if event.outcome == "failed":
        trial.next_index += 1
        _failed(state, trial, event)
        return
    if event.outcome == "completed" and trial.number < trial.mark:
        trial.end_early()
    state.move(trial, event.outcome)
    if trial.state == TERMINATED:
        trial.failure = trial.current = None


def _failed(state: ExperimentState, trial: TrialState, event: AttemptEnded) -> None:
    failure = event.failure
    if failure is None:
        raise InternalError(f"attempt {event.attempt} of {event.trial_id} failed without a failure")
    owes = _owes(trial, state.policy)
    if owes or trial.state in (PENDING, RUNNING, PAUSED):
        trial.failure = failure
        retry.charge(trial, failure, state.policy)
    allowed = retry.allowed(trial, failure, state.policy)
    state.move(trial, "owing" if owes and allowed else "failed" if allowed else "failed_for_good")


def _carry_out(state: ExperimentState, trial: TrialState) -> None:
    """What the scheduler ordered while the trial's worker was on its way out."""
    ordered, trial.ordered = trial.ordered, ""
    if ordered == "RESUME":
        state.move(trial, "called")
    elif ordered == "STOP":
        trial.stopped_by = "scheduler"
        state.move(trial, "cancelled")


def _owes(trial: TrialState, policy: Policy) -> bool:
    """Whether a trial that was told to stop, and whose attempt is gone, has yet to save its last row."""
    return policy.end_checkpoint and trial.state == STOPPING and not trial.has_saved(trial.mark)
