"""What becomes of trials when the scheduler orders something beside its answer. Part of the fold; see `experiment.py`.

A changed trial goes on from a checkpoint that is not the one of its newest row: another trial's, or an older one of its
own. Its rows go on behind those it has, so what is decided is not decided again, and none of its older checkpoints
counts any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from holdfast._core.details import Steering
from holdfast._core.trial import FINAL, PAUSED, PAUSING, PENDING, RUNNING, STOPPING, Inherited, Kept, TrialState

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["pinned", "settle", "spoil", "steer"]


def steer(state: ExperimentState, orders: Iterable[Steering]) -> None:
    """Folds what the scheduler ordered. An order that comes too late for its trial does nothing."""
    for order in orders:
        trial = state.trial(order.trial_id)
        if trial.state in FINAL or trial.state == STOPPING or trial.owes:
            continue
        match order.verb:
            case "stop":
                _stop(state, trial)
            case "pause" if trial.state == RUNNING:
                trial.ordered = "PAUSE"
            case "resume" if trial.state == PAUSED:
                state.move(trial, "called")
            case "resume" if trial.state == PAUSING:
                trial.ordered = "RESUME"
            case "change":
                _change(state, trial, order)
            case _:
                pass


def settle(state: ExperimentState, trial: TrialState) -> None:
    """A trial has a new checkpoint: one that went on from another's needs that no longer."""
    if trial.inherited is not None and trial.kept and trial.kept[-1].number > trial.floor:
        trial.inherited = None
        state.heirs.discard(trial.trial_id)


def spoil(state: ExperimentState, trial: TrialState, index: int, donor_id: str) -> None:
    """A checkpoint that the trial wanted to load is no good: the one before it is used, where there is one."""
    owner, point = state.trial(donor_id) if donor_id else trial, trial.resume_point()
    if isinstance(point, Inherited) and point.source != owner.dirname:
        _fall_back(state, trial, owner, before=None)  # the donor has begun anew since: what it had before is not on record
        return
    state.kept_bytes -= sum(kept.saved.size for kept in owner.kept if kept.saved.index == index)
    owner.forget(index)
    for heir in [state.trial(heir_id) for heir_id in sorted(state.heirs)]:
        if heir.inherited is not None and _place(state, heir.inherited) == (owner.trial_id, index):
            _fall_back(state, heir, owner, before=owner.kept[-1] if owner.kept else None)


def pinned(state: ExperimentState) -> set[tuple[str, int]]:
    """Trial ids and indices of the checkpoints that changed trials go on from: no retention drops them."""
    inherited = [state.trials[heir].inherited for heir in state.heirs]
    return {place for one in inherited if one is not None and (place := _place(state, one)) is not None}


def _place(state: ExperimentState, inherited: Inherited) -> tuple[str, int] | None:
    """Trial id and index of an inherited checkpoint; None where there is none, or its trial has begun anew elsewhere."""
    if inherited.saved is None or state.trials[inherited.donor].dirname != inherited.source:
        return None
    return inherited.donor, inherited.saved.index


def _fall_back(state: ExperimentState, heir: TrialState, owner: TrialState, before: Kept | None) -> None:
    if before is None:
        heir.inherited = None
        state.heirs.discard(heir.trial_id)
    else:
        place = (before.saved, heir.floor, before.iteration, before.time_total_s)
        heir.inherited = Inherited(owner.trial_id, owner.dirname, *place)


def _stop(state: ExperimentState, trial: TrialState) -> None:
    if trial.state in (PENDING, PAUSED) and not trial.owes:
        trial.stopped_by = "scheduler"
        state.move(trial, "cancelled")
    else:
        trial.ordered = "STOP"


def _change(state: ExperimentState, trial: TrialState, order: Steering) -> None:
    if order.config:
        trial.config, trial.evaluated = order.config, order.evaluated
    if order.tag:
        trial.tag = order.tag
    if order.resources is not None:
        trial.resources, trial.placement = order.resources, order.placement
        state.varied = True
    if order.donor:
        _inherit(state, trial, state.trial(order.donor), order.index)


def _inherit(state: ExperimentState, trial: TrialState, donor: TrialState, index: int) -> None:
    point = next((kept for kept in donor.kept if kept.saved.index == index), None) or donor.resume_point()
    trial.floor = trial.mark
    place = (point.donor, point.source) if isinstance(point, Inherited) else (donor.trial_id, donor.dirname)
    saved, iteration, time_s = (point.saved, point.iteration, point.time_total_s) if point else (None, 0, 0.0)
    trial.inherited = Inherited(*place, saved, trial.mark, iteration, time_s)
    trial.donor = "" if place[0] == trial.trial_id else place[0]
    state.heirs.add(trial.trial_id)
