"""What a new driver does with the trials that it finds. Part of the fold; see `experiment.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast._core.attempts import Tally
from holdfast._core.events import EpochStarted, ResourcesChanged
from holdfast._core.trial import ERROR, FINAL, TERMINATED, TrialState

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["hold", "take_over"]


def hold(state: ExperimentState, event: ResourcesChanged) -> None:
    """Folds a change of what the epoch's engine has."""
    if state.epoch is not None:
        state.epoch = msgspec.structs.replace(state.epoch, resources=event.resources)


def take_over(state: ExperimentState, event: EpochStarted) -> None:
    """Folds the begin of an epoch: each trial is gone on with, begun anew or left, as the epoch says for its state."""
    first = state.epoch is None
    state.epoch = event
    state.ended = ""
    state.tally = Tally()
    state.revived = []
    state.definitions.update(event.definitions)
    if first:
        return
    for trial in state.trials.values():
        if trial.state == TERMINATED:
            how = event.resume.finished
        elif trial.state == ERROR:
            how = event.resume.errored
        else:
            how = event.resume.unfinished
        _take_up(state, trial, how)
    if state.stopping:
        state.stop_all(state.stopping)


def _take_up(state: ExperimentState, trial: TrialState, how: str) -> None:
    if how == "resume" and trial.state == ERROR and not trial.may_resume():
        how = "skip"
    if how != "skip" and trial.state in FINAL:
        state.revived.append(trial.trial_id)
    if how == "resume":
        if trial.state == ERROR:
            trial.failures, trial.spent = 0, {}
        if trial.state in FINAL:
            trial.stopped_by = trial.cut_short = ""
        state.move(trial, "resumed")
    elif how == "restart":
        state.kept_bytes -= sum(kept.saved.size for kept in trial.kept)
        trial.branch_off()
        state.heirs.discard(trial.trial_id)
        state.move(trial, "restarted")
    else:
        trial.mark = max(trial.mark, trial.number)  # a row that waited for a decision stands without one
        state.move(trial, "skipped")
