"""What becomes of an experiment that is asked for more than was submitted. Part of the fold; see `experiment.py`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from holdfast._core.events import JobExtended
from holdfast._core.trial import PENDING, TERMINATED, TrialState

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["extend", "in_the_way", "stopped_by_old_rules"]

_RULES = frozenset({"stop", "stopper"})  # who stops trials by `stop=`


def extend(state: ExperimentState, event: JobExtended, position: int) -> None:
    """Folds an extension: other rules, and finished trials that go on under them."""
    state.requests.add(event.request)
    state.extensions.append(event)
    state.extended_at = position
    state.rules = msgspec.structs.replace(state.policy, num_samples=event.num_samples, time_budget_s=event.time_budget_s)
    state.definitions.update(event.definitions)
    state.exhausted = False
    state.stopping = in_the_way(state, event.changed)  # what a driver's first decisions have ended since it was asked for
    state.revived = list(event.revived)
    for trial_id in event.revived:
        trial = state.trial(trial_id)
        state.move(trial, "extended")
        trial.owes = False
        trial.stopped_by = trial.cut_short = ""


def stopped_by_old_rules(state: ExperimentState, changed: Collection[str]) -> list[TrialState]:
    """The trials that were stopped by what is `changed` now, in order of creation.

    Not those that ended by themselves, by the scheduler, or because somebody asked for just that.
    """
    return [trial for trial in state.trials.values() if _over(trial) and _no_longer(trial, changed)]


def in_the_way(state: ExperimentState, changed: Collection[str]) -> str:
    """Why the whole experiment has ended, where that is so and stays so: "budget" or "stopper"; else empty."""
    return state.stopping if state.stopping and state.stopping not in _lifted(changed) else ""


def _over(trial: TrialState) -> bool:
    return trial.state == TERMINATED or (trial.state == PENDING and trial.owes)


def _no_longer(trial: TrialState, changed: Collection[str]) -> bool:
    return trial.cut_short in _lifted(changed) or ("stop" in changed and trial.stopped_by in _RULES)


def _lifted(changed: Collection[str]) -> set[str]:
    """Which reasons to end the whole experiment hold no more; who asks for more has done with "request"."""
    return {"request"} | ({"budget"} if "time_budget_s" in changed else set()) | ({"stopper"} if "stop" in changed else set())
