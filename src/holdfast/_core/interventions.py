"""What follows when somebody asks from outside, or the scheduler orders or chooses. Part of the controller; see there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from holdfast._core.commands import KillAttempt, StartAttempt, WakeAt
from holdfast._core.events import JobExtended, RequestReceived, Steering, TrialChosen
from holdfast._core.trial import FINAL, PAUSED, PENDING, RUNNING, TrialState

if TYPE_CHECKING:
    from holdfast._core.controller import Turn

__all__ = ["heed", "note_lost", "on_choice", "on_extension", "on_request", "start_lost", "stop"]


def on_request(turn: Turn, event: RequestReceived) -> None:
    """Running attempts hear of it with the answer to their next row; one still on its way is called back."""
    if event.verb == "stop" and not event.trial_id:
        stop(turn)
    else:
        _call_back(turn, event.trial_id)


def on_extension(turn: Turn, event: JobExtended) -> None:
    """There may be more to do: what the epoch was about to end for holds no more, nor does the old budget of time."""
    it = turn.it
    it.ending = False
    if "time_budget_s" in event.changed:
        for order in [order for order in it.open_orders.values() if isinstance(order, WakeAt) and not order.trial_id]:
            del it.open_orders[order.order]
        turn.order(WakeAt(turn.next_id(), event.time_budget_s))


def stop(turn: Turn) -> None:
    """The whole experiment ends early: attempts still on their way to a worker are called back."""
    for trial_id in turn.it.running:
        _call_back(turn, trial_id)
    turn.fill()


def heed(turn: Turn, orders: Iterable[Steering]) -> None:
    """Calls back attempts whose trials the scheduler has just stopped, or changed while they were on their way to a worker."""
    for order in orders:
        if order.verb == "stop":
            _call_back(turn, order.trial_id)
        elif order.verb == "change" and turn.state.trial(order.trial_id).state in (PENDING, PAUSED, RUNNING):
            _recall(turn, order.trial_id)


def note_lost(turn: Turn, trial: TrialState) -> None:
    """A trial that the scheduler had chosen has lost its attempt: not one whose attempt had come to rest by a decision."""
    rested = trial.state == PAUSED and trial.current is not None and trial.current.attempt == trial.attempt
    if trial.state in (PENDING, PAUSED) and not rested:
        turn.it.lost.append(trial.trial_id)


def start_lost(turn: Turn) -> None:
    """Starts the trials that the scheduler had chosen and whose attempt was lost, at no cost to its order."""
    it = turn.it
    waiting = [turn.state.trial(trial_id) for trial_id in it.lost]
    it.lost = [trial.trial_id for trial in waiting if trial.state in (PENDING, PAUSED)]
    for trial in waiting:
        if trial.trial_id in it.lost and it.startable(trial):
            it.lost.remove(trial.trial_id)
            turn.start(trial)


def on_choice(turn: Turn, event: TrialChosen) -> None:
    """Starts the trial that the scheduler chose, if it still may be; asks again only where it chose one."""
    it = turn.it
    it.open_orders.pop(event.order, None)
    it.choosing = ""
    trial = turn.state.trials.get(event.trial_id)
    if trial is None and not (it.running or it.delayed or it.asking or it.wants_another()):
        trial = it.first(it.idle) or it.first(turn.state.paused)  # none is left without a worker for good
    it.news = trial is not None
    if trial is not None and it.startable(trial):
        turn.start(trial)


def _recall(turn: Turn, trial_id: str) -> None:
    """Takes an attempt back that begins from where its trial does not go on from any more. It is lost, and costs nothing."""
    it = turn.it
    start = it.open_orders.get(it.running.get(trial_id, ""))
    if isinstance(start, StartAttempt) and trial_id not in it.deciding and trial_id not in it.recalled:
        it.recalled.add(trial_id)
        turn.commands.append(KillAttempt(trial_id, start.attempt))


def _call_back(turn: Turn, trial_id: str) -> None:
    """Ends an attempt that is still on its way to a worker when its trial is over already."""
    start = turn.it.open_orders.get(turn.it.running.get(trial_id, ""))
    if isinstance(start, StartAttempt) and turn.state.trial(trial_id).state in FINAL:
        turn.commands.append(KillAttempt(trial_id, start.attempt))
