"""Orders to give checkpoints up, and what becomes of them when things change. Part of the controller; see `controller.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast._core import retention
from holdfast._core.commands import CommitCheckpoint, DropCheckpoint
from holdfast._core.steering import pinned
from holdfast._core.trial import FINAL, RUNNING, TrialState

if TYPE_CHECKING:
    from holdfast._core.controller import Controller, Turn

__all__ = ["drop_surplus", "forget_moot"]


def drop_surplus(turn: Turn, trial: TrialState) -> None:
    """Gives up what the trial has too much of, and what all have too much of together."""
    state, policy = turn.state, turn.state.policy
    if not policy.num_to_keep and not 0 < policy.max_total_bytes < state.kept_bytes:
        return
    pins = pinned(state)
    for owner in (trial, *([state.trial(trial.donor)] if trial.donor else [])):  # a donor's may not be needed any more
        for index in retention.surplus(owner, policy, pins):
            turn.order(DropCheckpoint(turn.next_id(), owner.trial_id, index))
    if 0 < policy.max_total_bytes < state.kept_bytes:
        given_up = {(it.trial_id, it.index) for it in turn.it.open_orders.values() if isinstance(it, DropCheckpoint)}
        for trial_id, index in retention.over_budget(state.trials.values(), policy, given_up, pins):
            turn.order(DropCheckpoint(turn.next_id(), trial_id, index))


def forget_moot(controller: Controller) -> None:
    """Drops what the last driver left open about trials that a new one has just skipped, begun anew or taken up again."""
    for trial_id, order in list(controller.deciding.items()):
        if controller.state.trial(trial_id).state != RUNNING:
            del controller.deciding[trial_id]
            controller.open_orders.pop(order)
    for left in list(controller.open_orders.values()):
        if isinstance(left, DropCheckpoint):
            trial = controller.state.trial(left.trial_id)
            resumes = trial.state not in FINAL and bool(trial.kept) and trial.kept[-1].saved.index == left.index
            if resumes or all(one.saved.index != left.index for one in trial.kept):
                controller.open_orders.pop(left.order)
        elif isinstance(left, CommitCheckpoint):
            pending = controller.state.trial(left.trial_id).pending
            if all(one.saved.index != left.saved.index for one in pending):
                controller.open_orders.pop(left.order)
