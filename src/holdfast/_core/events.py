"""Events: the facts that an experiment consists of, in the past tense.

This module knows what may stand in a journal and nothing of how it gets there. A class may gain a field with a default
at its end; a field or class is never renamed, reused or removed, because journals written today must replay for ever.

Values that belong to the user (configs, metrics) stay encoded (`bytes`, see `holdfast.values`): the core never
looks inside.
"""

from __future__ import annotations

from typing import NoReturn, Union

import msgspec

from holdfast._core.checkpoint_events import (
    CheckpointBroken,
    CheckpointCommitted,
    CheckpointDeleted,
    CheckpointDropped,
    CheckpointLost,
)
from holdfast._core.details import Fact, Failure, Saved, Steering
from holdfast._core.policy import Placement, Policy, Resume
from holdfast.errors import InternalError

__all__ = [
    "AttemptEnded",
    "AttemptLost",
    "AttemptStarted",
    "CheckpointBroken",
    "CheckpointCommitted",
    "CheckpointDeleted",
    "CheckpointDropped",
    "CheckpointLost",
    "DecisionMade",
    "EpochEnded",
    "EpochStarted",
    "Event",
    "ExperimentCreated",
    "Failure",
    "InexactFound",
    "JobExtended",
    "NothingSuggested",
    "Record",
    "RequestReceived",
    "ResourcesChanged",
    "ResultReported",
    "Saved",
    "SchedulerOrdered",
    "Steering",
    "TailCut",
    "TrialChosen",
    "TrialSuggested",
    "Woke",
    "unexpected",
]


class ExperimentCreated(Fact, frozen=True):
    """The birth record, at position 0: what the job is.

    Attributes:
        experiment_id: 32 hexadecimal digits, drawn at creation.
        name: The experiment's name, which is also its directory's.
        trainable_name: What the trainable is called; a restore must bring one of the same name.
        trial_prefix: The 5 hexadecimal digits that its trial ids begin with.
        seed: The seed of all chance in the experiment.
        policy: The numbers that bound it.
        definitions: Name of a definition ("trainable", "job", ...) → sha256 of its pickle under `definitions/`.
        space_keys: The flattened keys of `param_space`, sorted.
        versions: "python", "holdfast", "platform" and library names → version.
        created_by: "host:pid:start ticks" of the creating process.
    """

    experiment_id: str
    name: str
    trainable_name: str
    trial_prefix: str
    seed: int
    policy: Policy
    definitions: dict[str, str]
    space_keys: list[str]
    versions: dict[str, str]
    created_by: str


class EpochStarted(Fact, frozen=True):
    """A driver took charge.

    Attributes:
        epoch: Its number, from 1.
        resources: What the engine can hold, such as `{"cpu": 2.0}`.
        resume: What it does with the trials that it finds.
        engine: The engine's name.
        host, pid, boot_id, start_ticks: Where it runs, for the next driver on the same host.
        versions: As in `ExperimentCreated`.
        definitions: Definitions that differ from the birth record's (a trainable with changed code).
    """

    epoch: int
    resources: dict[str, float]
    resume: Resume
    engine: str
    host: str
    pid: int
    boot_id: str
    start_ticks: int
    versions: dict[str, str]
    definitions: dict[str, str]


class EpochEnded(Fact, frozen=True):
    """A driver let go in good order.

    Attributes:
        reason: "finished", "interrupted", "fail_fast" or "error".
        detail: One line for people.
    """

    reason: str
    detail: str


class TailCut(Fact, frozen=True):
    """Recovery cut what lay behind the last sync mark and did not read; the bytes are kept in `journal/cut/`."""

    file: str
    offset: int
    size: int


class TrialSuggested(Fact, frozen=True):
    """The searcher answered with a configuration: a trial exists from here on.

    Attributes:
        order: The ask that this answers.
        heard: The last position that the searcher had heard.
        trial_id: Its id.
        config: The resolved configuration, encoded.
        evaluated: The resolved keys only (flattened), encoded: what the tag and `evaluated_params` show.
        tag: Ray Tune's experiment tag, such as `3_lr=0.1`.
        dirname: Its directory below the experiment's.
        name: Its display name.
        resources: What it is given, where that is not what every trial is given (`Policy.request`).
        placement: How those lie together, where the user said so.
    """

    order: str
    heard: int
    trial_id: str
    config: bytes
    evaluated: bytes
    tag: str
    dirname: str
    name: str
    resources: dict[str, float] | None = None
    placement: Placement | None = None


class NothingSuggested(Fact, frozen=True):
    """The searcher had no configuration to give: for now, or (`finished`) for good."""

    order: str
    heard: int
    finished: bool


class AttemptStarted(Fact, frozen=True):
    """A worker runs an attempt, behind the row of that number; -1: the row of the trial's resume point."""

    order: str
    trial_id: str
    attempt: int
    host: str
    ip: str
    pid: int
    number: int = -1


class ResultReported(Fact, frozen=True):
    """A trial reported a row.

    Attributes:
        trial_id, attempt: Who.
        number: The row's number in its branch, from 1: our own counter.
        metrics: The user's dictionary, encoded.
        iteration: The auto-filled `training_iteration`.
        time_this_iter_s, time_total_s, time_since_restore: The auto-filled times.
        since_restore: The auto-filled `iterations_since_restore`.
        timestamp: Seconds since 1970 at the worker.
        done: Whether the user reported `done=True`.
        saved: The checkpoint that came with the row.
        score: The row's value of the checkpoint score attribute, set by the driver where one is asked for.
        pending: The checkpoint that came with the row and is not durable yet (`upload="async"`).
            `CheckpointCommitted` or `CheckpointLost` follows.
    """

    trial_id: str
    attempt: int
    number: int
    metrics: bytes
    iteration: int
    time_this_iter_s: float
    time_total_s: float
    time_since_restore: float
    since_restore: int
    timestamp: float
    done: bool = False
    saved: Saved | None = None
    score: float | None = None
    pending: Saved | None = None


class DecisionMade(Fact, frozen=True):
    """The one decision on a row; it is written before it is sent.

    Attributes:
        trial_id, number: The row.
        action: "CONTINUE", "PAUSE" or "STOP".
        by: Who decided: "scheduler" (its answer), "order" (the scheduler, through its view), "stop", "stopper", "done", "request"
            or "budget".
        heard: The position of the row: what the deciders had heard.
        changes: What callbacks changed in the row, encoded; empty for nothing.
        stop_all: Whether a stopper ends the whole experiment.
        save: Whether a callback or the scheduler asked for a checkpoint of the row (class trainables).
        orders: What the scheduler ordered while it decided.
    """

    trial_id: str
    number: int
    action: str
    by: str
    heard: int
    changes: bytes = b""
    stop_all: bool = False
    save: bool = False
    orders: list[Steering] = msgspec.field(default_factory=list)


class AttemptEnded(Fact, frozen=True):
    """A worker is done with an attempt: it "completed" (the function returned), was "stopped" as told, or "failed"."""

    trial_id: str
    attempt: int
    outcome: str
    failure: Failure | None = None


class AttemptLost(Fact, frozen=True):
    """An attempt ended with its driver. No failure of the trial: it counts against no budget."""

    order: str
    trial_id: str
    attempt: int
    cause: str


class Woke(Fact, frozen=True):
    """The time that a `WakeAt` waited for has come; `trial_id` and `why` are the order's."""

    order: str
    trial_id: str = ""
    why: str = ""


class RequestReceived(Fact, frozen=True):
    """Somebody asked for something from outside (`holdfast stop`, `pause`, `resume`).

    Attributes:
        request: Its id: the name of the file in `requests/` that asked.
        verb: "stop", "pause" or "resume".
        trial_id: Which trial; empty for the whole experiment.
    """

    request: str
    verb: str
    trial_id: str = ""


class TrialChosen(Fact, frozen=True):
    """The scheduler said which trial is to run next; empty: none for now.

    Attributes:
        order: The `ChooseTrial` that this answers.
        heard: The last position that the scheduler had heard.
        trial_id: Its choice.
        orders: What it ordered while it chose.
    """

    order: str
    heard: int
    trial_id: str
    orders: list[Steering] = msgspec.field(default_factory=list)


class SchedulerOrdered(Fact, frozen=True):
    """What the scheduler ordered while it heard the record at position `heard`."""

    heard: int
    orders: list[Steering]


class JobExtended(Fact, frozen=True):
    """Somebody asked for more than was submitted: from here on the job is this one.

    Attributes:
        request: Drawn when it was asked for, so that it is taken up once.
        changed: What is another now ("num_samples", "time_budget_s", "stop", "new_space") → how, for people.
        samples: How many samples more the searcher gives.
        num_samples: As `Policy.num_samples`, all trials counted.
        time_budget_s: As `Policy.time_budget_s`.
        definitions: "job" → sha256 of the whole job as it is now.
        revived: Finished trials that go on.
    """

    request: str
    changed: dict[str, str]
    samples: int
    num_samples: int
    time_budget_s: float
    definitions: dict[str, str]
    revived: list[str]


class InexactFound(Fact, frozen=True):
    """A plug-in gave another answer on replay than the one on record, which stands."""

    plugin: str
    position: int
    detail: str


class ResourcesChanged(Fact, frozen=True):
    """The engine can hold more, or less, than it could: machines came or went. What runs goes on.

    Attributes:
        resources: What it can hold from now on, in the place of `EpochStarted.resources`.
    """

    resources: dict[str, float]


Event = Union[
    ExperimentCreated,
    EpochStarted,
    EpochEnded,
    TailCut,
    TrialSuggested,
    NothingSuggested,
    AttemptStarted,
    ResultReported,
    DecisionMade,
    AttemptEnded,
    AttemptLost,
    CheckpointDropped,
    CheckpointDeleted,
    CheckpointBroken,
    Woke,
    InexactFound,
    CheckpointCommitted,
    CheckpointLost,
    RequestReceived,
    TrialChosen,
    SchedulerOrdered,
    JobExtended,
    ResourcesChanged,
]


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event in its place.

    Attributes:
        position: 0, 1, 2 ... over the whole experiment, without gaps.
        epoch: The driver that wrote it.
        time: Experiment time in seconds: how long drivers have been in charge, never downtime.
        wall: Seconds since 1970 at the driver.
        event: The fact.
    """

    position: int
    epoch: int
    time: float
    wall: float
    event: Event


def unexpected(event: NoReturn) -> NoReturn:
    """Ends a match over events: the type checker proves that it is never reached.

    Raises:
        InternalError: It was reached all the same.
    """
    raise InternalError(f"an event that nothing handles: {event!r}")
