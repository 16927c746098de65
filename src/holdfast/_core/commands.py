"""Commands: the orders that the controller gives, in the imperative.

An order with an `order` id waits for an event that quotes it. *Repeatable* ones are given again by a recovery that finds no
answer; a *single* one (`StartAttempt`) is never given twice: recovery answers it with `AttemptLost` and a new
attempt with a new number is ordered. A `Reply` has no answer: a worker that misses it ends with its driver.
"""

from __future__ import annotations

from typing import Union

import msgspec

from holdfast._core.events import Saved
from holdfast._core.policy import Placement

__all__ = [
    "AskSearcher",
    "ChooseTrial",
    "Command",
    "CommitCheckpoint",
    "Decide",
    "DeleteCheckpoint",
    "DropCheckpoint",
    "EndEpoch",
    "KillAttempt",
    "Order",
    "Reply",
    "StartAttempt",
    "WakeAt",
]


class _Command(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all commands; encoded only inside snapshots."""


class AskSearcher(_Command, frozen=True):
    """Ask the searcher for the next trial. Answered by `TrialSuggested` or `NothingSuggested`. Repeatable."""

    order: str
    index: int


class Decide(_Command, frozen=True):
    """Ask stop rules, scheduler and callbacks about a row. Answered by `DecisionMade`. Repeatable."""

    order: str
    trial_id: str
    number: int


class ChooseTrial(_Command, frozen=True):
    """Ask the scheduler which trial is to have a free place. Answered by `TrialChosen`. Repeatable."""

    order: str


class StartAttempt(_Command, frozen=True):
    """Run a trial on a worker. Answered by `AttemptEnded` or `AttemptLost`. Single.

    Attributes:
        trial_id, attempt: What to run; attempts of a trial count from 1 and no number comes twice.
        index: The trial's number, from 0.
        config: Encoded.
        name, dirname, tag: The trial's names.
        resume: The checkpoint to begin from, or None.
        number: The number of the row that `resume` came with; 0 from scratch. The next row is `number + 1`.
        iteration, time_total_s: The counters to go on from.
        grant: The first checkpoint index that the attempt may use; it goes on upwards from there.
        resources: What it is given.
        placement: How those lie together, where the user said so.
        donor: The trial whose checkpoint `resume` is, where that is another one.
        source: The directory of the trial whose checkpoint it was, where that is not `dirname`.
    """

    order: str
    trial_id: str
    attempt: int
    index: int
    config: bytes
    name: str
    dirname: str
    tag: str
    resume: Saved | None
    number: int
    iteration: int
    time_total_s: float
    grant: int
    resources: dict[str, float]
    placement: Placement | None = None
    donor: str = ""
    source: str = ""


class Reply(_Command, frozen=True):
    """Send a decision to the worker that waits for it in `report()`; `save` asks for a checkpoint of the row."""

    trial_id: str
    attempt: int
    number: int
    action: str
    save: bool = False


class KillAttempt(_Command, frozen=True):
    """End an attempt at once. `cause` is the kind of failure that this is, empty where it is none."""

    trial_id: str
    attempt: int
    cause: str = ""


class DropCheckpoint(_Command, frozen=True):
    """Put on record that a checkpoint is given up. Answered by `CheckpointDropped`. Repeatable."""

    order: str
    trial_id: str
    index: int


class DeleteCheckpoint(_Command, frozen=True):
    """Delete a dropped checkpoint's files, once the record that caused this is durable.

    Answered by `CheckpointDeleted`. Repeatable. `dirname` is the trial's directory at the time.
    """

    order: str
    trial_id: str
    dirname: str
    index: int


class CommitCheckpoint(_Command, frozen=True):
    """Complete a pending checkpoint that its attempt left behind, from the files that it staged.

    Answered by `CheckpointCommitted` or `CheckpointLost`. Repeatable.

    Attributes:
        trial_id, attempt: Whose.
        dirname: The trial's directory.
        number: The row that it belongs to.
        saved: What it is to be.
    """

    order: str
    trial_id: str
    attempt: int
    dirname: str
    number: int
    saved: Saved


class WakeAt(_Command, frozen=True):
    """Say so when experiment time reaches `time`. Answered by `Woke`. Repeatable.

    Attributes:
        trial_id: Whose time it is; empty for the whole experiment's budget.
        why: "retry" (it may be tried again), "timeout" or "no_progress" (a bound of its attempt).
    """

    order: str
    time: float
    trial_id: str = ""
    why: str = ""


class EndEpoch(_Command, frozen=True):
    """Nothing is left to do ("finished"), or nothing more may be done ("fail_fast")."""

    reason: str


Command = Union[
    AskSearcher,
    ChooseTrial,
    Decide,
    StartAttempt,
    Reply,
    KillAttempt,
    DropCheckpoint,
    DeleteCheckpoint,
    CommitCheckpoint,
    WakeAt,
    EndEpoch,
]
Order = Union[AskSearcher, ChooseTrial, Decide, StartAttempt, DropCheckpoint, DeleteCheckpoint, CommitCheckpoint, WakeAt]
