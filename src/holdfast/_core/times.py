"""What is waited for: a while before a retry, the bounds of an attempt's time. Part of the controller; see `controller.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast._core import retry
from holdfast._core.commands import KillAttempt, WakeAt
from holdfast._core.events import AttemptEnded, AttemptStarted, Woke
from holdfast._core.trial import FINAL, TrialState

if TYPE_CHECKING:
    from holdfast._core.controller import Turn

__all__ = ["bound", "delay_retry", "set_bounds"]


def delay_retry(turn: Turn, trial: TrialState) -> None:
    """Has a trial whose attempt has just failed wait before it is tried again."""
    event, created = turn.record.event, turn.state.created
    if not isinstance(event, AttemptEnded) or event.outcome != "failed" or trial.state in FINAL or created is None:
        return
    wait = retry.delay(trial, turn.state.policy, created.seed)
    if wait:
        order = WakeAt(turn.next_id(), turn.record.time + wait, trial.trial_id, "retry")
        turn.it.delayed[trial.trial_id] = order.order
        turn.order(order)


def set_bounds(turn: Turn, event: AttemptStarted) -> None:
    """Bounds the time of an attempt that has just started."""
    policy = turn.state.policy
    for why, seconds in (("timeout", policy.trial_timeout_s), ("no_progress", policy.no_progress_timeout_s)):
        if seconds:
            _set_bound(turn, event.trial_id, why, turn.record.time + seconds)


def bound(turn: Turn, event: Woke) -> None:
    """Ends an attempt that has taken too long, or has not reported for too long; looks again later where it has reported."""
    trial, it = turn.state.trial(event.trial_id), turn.it
    it.deadlines[trial.trial_id] = [order for order in it.deadlines.get(trial.trial_id, ()) if order != event.order]
    again = trial.progressed + turn.state.policy.no_progress_timeout_s
    if event.why == "no_progress" and again > turn.record.time:
        _set_bound(turn, trial.trial_id, event.why, again)
    elif trial.trial_id in it.running:
        it.killing[trial.trial_id] = event.why
        turn.commands.append(KillAttempt(trial.trial_id, trial.attempt, event.why))


def _set_bound(turn: Turn, trial_id: str, why: str, time: float) -> None:
    order = WakeAt(turn.next_id(), time, trial_id, why)
    turn.it.deadlines.setdefault(trial_id, []).append(order.order)
    turn.order(order)
