"""What must hold of any experiment that has come to its end, whatever happened on the way."""

from __future__ import annotations

from holdfast._core.admission import capacity
from holdfast._core.commands import StartAttempt
from holdfast._core.controller import Controller
from holdfast._core.events import AttemptStarted, DecisionMade, JobExtended, ResultReported
from holdfast._core.ids import checkpoint_name
from holdfast._core.trial import FINAL
from holdfast._journal import read, verify
from holdfast._projection.history import load_history
from holdfast.storage.base import Storage


def problems_of(storage: Storage) -> list[str]:
    """Everything wrong with the experiment, one line each."""
    return [*_journal(storage), *_story(storage), *_rows(storage), *_checkpoints(storage)]


def _journal(storage: Storage) -> list[str]:
    return [f"journal: {problem}" for problem in verify(storage)]


def _story(storage: Storage) -> list[str]:
    """One decision per row of a branch and none changed; never more attempts than places; no new row behind a stop.

    A trial that owes the checkpoint of its last row redoes rows up to its stop.
    """
    controller, found = Controller(), []
    decided: dict[tuple[str, int, int], str] = {}
    stopped: set[tuple[str, int]] = set()
    for record in read(storage):
        controller.handle(record)
        event, state = record.event, controller.state
        if isinstance(event, DecisionMade):
            trial = state.trial(event.trial_id)
            row = (event.trial_id, trial.branch, event.number)
            if row in decided:
                found.append(f"row {row} was decided twice, at position {record.position}")
            decided[row] = event.action
            if event.action == "STOP":
                stopped.add((event.trial_id, trial.branch))
        elif isinstance(event, JobExtended):
            stopped -= {(trial_id, state.trial(trial_id).branch) for trial_id in event.revived}
        elif isinstance(event, (ResultReported, AttemptStarted)):
            trial = state.trial(event.trial_id)
            if (event.trial_id, trial.branch) in stopped and not (trial.owes and trial.number <= trial.mark):
                found.append(f"{event.trial_id} went on after its stop, at position {record.position}")
        places = capacity(state.epoch.resources, state.policy) if state.epoch else 0
        if state.epoch is not None and len(controller.running) > places:
            found.append(f"{len(controller.running)} attempts had {places} places at position {record.position}")
    if controller.state.policy.end_checkpoint:
        unsaved = [it.trial_id for it in controller.state.trials.values() if it.stopped_by and not it.has_saved(it.mark)]
        found += [f"{trial_id} was stopped and its last row has no checkpoint" for trial_id in unsaved]
    starts = [order for order in controller.open_orders.values() if isinstance(order, StartAttempt)]
    unfinished = [trial.trial_id for trial in controller.state.trials.values() if trial.state not in FINAL]
    if starts or unfinished:
        found.append(f"the end left {len(starts)} attempts and the trials {unfinished} open")
    return found


def _rows(storage: Storage) -> list[str]:
    """P2: each number once, in order, up to the decided mark."""
    state, history = load_history(storage)
    return [
        f"{trial.trial_id} has rows {[row.number for row in history.rows(trial.trial_id)]}, decided up to {trial.mark}"
        for trial in state.trials.values()
        if [row.number for row in history.rows(trial.trial_id)] != list(range(1, trial.mark + 1))
    ]


def _checkpoints(storage: Storage) -> list[str]:
    """P5 and P8: all on record exist, nothing else does."""
    state, _ = load_history(storage)
    found = []
    for trial in state.trials.values():
        named = {checkpoint_name(kept.saved.index) for kept in trial.kept}
        there = {name for name in storage.names(trial.dirname) if name.startswith(("checkpoint_", ".staging", ".pending"))}
        if named != there:
            found.append(f"{trial.trial_id} has {sorted(named)} on record and {sorted(there)} on disk")
    return found
