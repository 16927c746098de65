"""Extending: an experiment is asked for more, on record, when its driver has put in order what the last one left.

Knows who goes on under the new rules. Refuses to know what the rules are made of: the plug-ins hear that at the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from holdfast import values
from holdfast._core.events import JobExtended
from holdfast._core.experiment import ExperimentState
from holdfast._core.extension import stopped_by_old_rules
from holdfast._core.trial import TrialState
from holdfast._runtime.advice import reached
from holdfast._runtime.loop import Driver
from holdfast.errors import JobChanged, NothingToGoOnFrom

__all__ = ["Extension", "check_checkpoints", "extend", "to_go_on"]

Row = Callable[[TrialState], Mapping[str, Any]]


class Extension(NamedTuple):
    """What was asked for.

    Attributes:
        base: sha256 of the job that it was asked of.
        event: What goes on record; who goes on is not known yet.
        criteria: The bounds of `stop=` that hold then: flattened key → bound.
        from_scratch_ok: Whether trials without a checkpoint may begin from scratch.
    """

    base: str
    event: JobExtended
    criteria: dict[str, Any]
    from_scratch_ok: bool


def extend(driver: Driver, asked: Extension) -> None:
    """Puts an extension on record, once, and has the epoch go on where it had found nothing to do.

    Raises:
        JobChanged: Somebody else has extended the experiment since this was asked for. Nothing was recorded of it.
        NothingToGoOnFrom: A trial that is to go on has no checkpoint, which `from_scratch_ok` does not allow; likewise.
    """
    state, roll = driver.state, driver.parts.advice.roll
    if asked.event.request in state.requests:
        return
    if state.definitions["job"] != asked.base:
        raise JobChanged("The experiment was extended meanwhile, by somebody else: call Tuner.extend again.")
    revived = to_go_on(state, asked.event.changed, asked.criteria, lambda trial: values.flatten(roll.last_row(trial)))
    check_checkpoints(revived, from_scratch_ok=asked.from_scratch_ok)
    names = [trial.trial_id for trial in revived]
    driver.ending = ""  # there was nothing left to do; now there may be
    driver.parts.advice.asks_user_code = True  # as far as is known before its fold: what it brings may be asked right there
    driver.record([msgspec.structs.replace(asked.event, revived=names)])


def to_go_on(state: ExperimentState, changed: Collection[str], criteria: Mapping[str, Any], row: Row) -> list[TrialState]:
    """The finished trials that go on: stopped by a rule that holds no more, and short of the bounds that hold now.

    Args:
        state: The experiment.
        changed: What is another now, as in `JobExtended.changed`.
        criteria: The bounds.
        row: Gives the newest row of a trial, flattened.
    """
    return [trial for trial in stopped_by_old_rules(state, changed) if not reached(criteria, row(trial))]


def check_checkpoints(trials: Collection[TrialState], *, from_scratch_ok: bool) -> None:
    """Refuses to throw away what trials have done, unless somebody said so.

    Raises:
        NothingToGoOnFrom: They have rows and no checkpoint; names them.
    """
    bare = [trial.trial_id for trial in trials if trial.mark and trial.resume_point() is None and not trial.pending]
    if bare and not from_scratch_ok:
        raise NothingToGoOnFrom(bare)
