"""One trial: its states, what is legal in each, and what is known of it.

Knows one trial's own story as the journal tells it. Refuses to know: other trials, resources, who decides, and what
stands inside configs and metrics.

Words: a *row* is one report; its *number* counts the rows of a branch from 1. A *branch* is a stretch of the trial's
life with one config and one line of checkpoints; only a restart or a changed config opens a new one. The *mark* is the
highest number on which a decision stands: rows redone at or below it (after a crash) are not decided again.
"""

from __future__ import annotations

import msgspec

from holdfast._core.events import AttemptStarted, CheckpointCommitted, Failure, ResultReported, Saved
from holdfast._core.policy import Placement
from holdfast.errors import IllegalTransition, InternalError

__all__ = [
    "ERROR",
    "FINAL",
    "MEANING",
    "PAUSED",
    "PAUSING",
    "PENDING",
    "RUNNING",
    "SIGNALS",
    "STATES",
    "STOPPING",
    "TABLE",
    "TERMINATED",
    "Inherited",
    "Kept",
    "TrialState",
    "next_state",
]

PENDING = "PENDING"
RUNNING = "RUNNING"
STOPPING = "STOPPING"
PAUSING = "PAUSING"
PAUSED = "PAUSED"
TERMINATED = "TERMINATED"
ERROR = "ERROR"

STATES = (PENDING, RUNNING, STOPPING, PAUSING, PAUSED, TERMINATED, ERROR)
FINAL = frozenset({TERMINATED, ERROR})

MEANING = {
    PENDING: "has no worker and waits for one",
    RUNNING: "an attempt runs on a worker",
    STOPPING: "a decision to stop is on record, its worker has not ended yet",
    PAUSING: "a decision to pause is on record, its worker has not ended yet",
    PAUSED: "has no worker by decision, and goes on from its newest checkpoint when there is a free place",
    TERMINATED: "done",
    ERROR: "failed for good",
}

# What can happen to a trial: the event that says so, and the circumstance where one event means several things.
SIGNALS = {
    "started": "AttemptStarted",
    "reported": "ResultReported",
    "continue": "DecisionMade, CONTINUE",
    "pause": "DecisionMade, PAUSE",
    "stop": "DecisionMade, STOP",
    "completed": "AttemptEnded, completed: the function returned",
    "stopped": "AttemptEnded, stopped: unwound as told",
    "failed": "AttemptEnded, failed, and another attempt is allowed",
    "failed_for_good": "AttemptEnded, failed, and no attempt is left",
    "lost": "AttemptLost: the attempt ended with its driver",
    "owing": "AttemptEnded, failed, or AttemptLost, behind a decision to stop whose checkpoint at the end is still owed",
    "finishing": "AttemptStarted, to redo the rows up to the stop and save",
    "repeated": "ResultReported, on the way to the checkpoint that is owed",
    "cancelled": "the experiment is stopping, or somebody asked that the trial stop, and it has no worker",
    "called": "the scheduler wants it to run again",
    "extended": "JobExtended: it goes on under the job's new rules",
    "resumed": "EpochStarted, resuming trials in this state",
    "restarted": "EpochStarted, restarting trials in this state",
    "skipped": "EpochStarted, giving up trials in this state",
}

TABLE: dict[tuple[str, str], str] = {
    (PENDING, "started"): RUNNING,
    (PENDING, "finishing"): STOPPING,
    (PENDING, "failed"): PENDING,
    (PENDING, "failed_for_good"): ERROR,
    (PENDING, "lost"): PENDING,
    (PENDING, "cancelled"): TERMINATED,
    (PENDING, "extended"): PENDING,
    (PENDING, "resumed"): PENDING,
    (PENDING, "restarted"): PENDING,
    (PENDING, "skipped"): TERMINATED,
    (RUNNING, "reported"): RUNNING,
    (RUNNING, "continue"): RUNNING,
    (RUNNING, "pause"): PAUSING,
    (RUNNING, "stop"): STOPPING,
    (RUNNING, "completed"): TERMINATED,
    (RUNNING, "failed"): PENDING,
    (RUNNING, "failed_for_good"): ERROR,
    (RUNNING, "lost"): PENDING,
    (RUNNING, "resumed"): RUNNING,
    (RUNNING, "restarted"): PENDING,
    (RUNNING, "skipped"): TERMINATED,
    (STOPPING, "repeated"): STOPPING,
    (STOPPING, "owing"): PENDING,
    (STOPPING, "completed"): TERMINATED,
    (STOPPING, "stopped"): TERMINATED,
    (STOPPING, "failed"): TERMINATED,
    (STOPPING, "failed_for_good"): TERMINATED,
    (STOPPING, "lost"): TERMINATED,
    (STOPPING, "resumed"): STOPPING,
    (STOPPING, "restarted"): PENDING,
    (STOPPING, "skipped"): TERMINATED,
    (PAUSING, "completed"): PAUSED,
    (PAUSING, "stopped"): PAUSED,
    (PAUSING, "failed"): PAUSED,
    (PAUSING, "failed_for_good"): PAUSED,
    (PAUSING, "lost"): PAUSED,
    (PAUSING, "resumed"): PAUSING,
    (PAUSING, "restarted"): PENDING,
    (PAUSING, "skipped"): TERMINATED,
    (PAUSED, "started"): RUNNING,
    (PAUSED, "failed"): PAUSED,
    (PAUSED, "failed_for_good"): ERROR,
    (PAUSED, "lost"): PAUSED,
    (PAUSED, "cancelled"): TERMINATED,
    (PAUSED, "called"): PENDING,
    (PAUSED, "resumed"): PAUSED,
    (PAUSED, "restarted"): PENDING,
    (PAUSED, "skipped"): TERMINATED,
    # An attempt that was on its way to a worker when the experiment began to stop.
    (TERMINATED, "started"): TERMINATED,
    (TERMINATED, "completed"): TERMINATED,
    (TERMINATED, "stopped"): TERMINATED,
    (TERMINATED, "failed"): TERMINATED,
    (TERMINATED, "failed_for_good"): TERMINATED,
    (TERMINATED, "lost"): TERMINATED,
    (TERMINATED, "extended"): PENDING,
    (TERMINATED, "resumed"): PENDING,
    (TERMINATED, "restarted"): PENDING,
    (TERMINATED, "skipped"): TERMINATED,
    (ERROR, "lost"): ERROR,
    (ERROR, "resumed"): PENDING,
    (ERROR, "restarted"): PENDING,
    (ERROR, "skipped"): ERROR,
}


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A checkpoint that is on record and not dropped.

    Attributes:
        saved: The checkpoint as its row recorded it.
        number: The number of that row.
        iteration, time_total_s: The counters that an attempt from here goes on from.
        score: The value of the checkpoint score attribute; None where there is none or it is no number.
    """

    saved: Saved
    number: int
    iteration: int
    time_total_s: float
    score: float | None = None


class Inherited(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a trial that the scheduler changed goes on from, until it has a checkpoint of its own behind the change.

    Attributes:
        donor: The trial whose checkpoint it is; its own id where it is its own.
        source: That trial's directory.
        saved: The checkpoint; None: from scratch.
        number: The row of this trial behind which it goes on.
        iteration, time_total_s: The counters to go on from: the checkpoint's.
    """

    donor: str
    source: str
    saved: Saved | None
    number: int
    iteration: int
    time_total_s: float


class TrialState(msgspec.Struct, gc=False):
    """What the journal says of one trial.

    Attributes:
        trial_id, index, name, dirname, tag, config, evaluated: As suggested; `dirname` changes with a restart.
        state: One of `STATES`.
        attempt: The number of the newest attempt, from 1; 0 before the first.
        branch: The number of the branch, from 0.
        number: The number of the newest row of the newest attempt.
        mark: The decided mark.
        failures: Failed attempts that count against `max_failures`.
        spent: Failed attempts by kind that count against a budget of their kind's own.
        progressed: Experiment time at which the newest attempt began or reported last.
        failure: The newest failure, None once a later attempt ended well.
        next_index: The first checkpoint index that no attempt so far may have begun to write.
        kept: Checkpoints on record, oldest first.
        pending: Checkpoints whose files are staged and not durable yet, oldest first.
        owes: Whether the trial was told to stop and its checkpoint at the end is still to be made.
        held: Whether somebody asked that it pause: it is given no worker until somebody asks that it resume.
        unwanted: Whether somebody asked that it stop: it ends with its next row.
        resources, placement: What it is given, where that is its own; see `TrialSuggested`.
        ordered: What the scheduler ordered to become of it when that is possible: "STOP" or "PAUSE" with its next row, "RESUME"
            when its worker is gone.
        inherited: Where it goes on from after a change of the scheduler's, while it has no checkpoint of its own behind it.
        donor: The trial whose checkpoint it went on from last, where that was another one.
        floor: The row behind which the newest change took effect: checkpoints of rows up to it are never gone on from.
        last: The newest row of the history that a user sees; None before the first.
        changes: What callbacks changed in `last`, encoded.
        current: The newest row of the newest attempt.
        stopped_by: Who decided that the trial stops, if somebody did.
        cut_short: Why the whole experiment was ending when this ended the trial; empty where it ended for reasons of its own.
        began: Seconds since 1970 at which its newest attempt started.
    """

    trial_id: str
    index: int
    name: str
    dirname: str
    tag: str
    config: bytes
    evaluated: bytes
    state: str = PENDING
    attempt: int = 0
    branch: int = 0
    number: int = 0
    mark: int = 0
    failures: int = 0
    failure: Failure | None = None
    next_index: int = 0
    kept: tuple[Kept, ...] = ()  # tuples: two empty lists for each of 100,000 trials cost the garbage collector time
    last: ResultReported | None = None
    changes: bytes = b""
    current: ResultReported | None = None
    stopped_by: str = ""
    began: float = 0.0
    host: str = ""
    ip: str = ""
    pid: int = 0
    pending: tuple[Kept, ...] = ()
    owes: bool = False
    held: bool = False
    unwanted: bool = False
    spent: dict[str, int] = {}
    progressed: float = 0.0
    resources: dict[str, float] | None = None
    placement: Placement | None = None
    ordered: str = ""
    inherited: Inherited | None = None
    donor: str = ""
    floor: int = 0
    cut_short: str = ""

    def resume_point(self) -> Kept | Inherited | None:
        """What the next attempt begins from; None: from scratch."""
        if self.kept and self.kept[-1].number > self.floor:
            return self.kept[-1]
        return self.inherited

    def may_resume(self) -> bool:
        """Whether the trial can go on at all: not when the last of its checkpoints was broken; it must be restarted then."""
        return self.resume_point() is not None or self.failure is None or self.failure.kind != "checkpoint"

    def begin(self, event: AttemptStarted, wall: float) -> None:
        """A worker runs an attempt, from the resume point on."""
        point = self.resume_point()
        self.attempt = event.attempt
        self.number = event.number if event.number >= 0 else point.number if point else 0
        self.current = None
        self.began = wall
        self.host, self.ip, self.pid = event.host, event.ip, event.pid

    def take(self, row: ResultReported) -> None:
        """The trial reported a row; a redone one takes the place of the first, whose changes by callbacks stay."""
        self.number = row.number
        self.current = row
        if self.last is None or row.number >= self.last.number:
            if self.last is None or row.number > self.last.number:
                self.changes = b""
            self.last = row
        saved = row.saved or row.pending
        if saved is not None:
            new = Kept(saved, row.number, row.iteration, row.time_total_s, row.score)
            if row.saved is not None:
                self.kept = (*self.kept, new)
            else:
                self.pending = (*self.pending, new)
            self.next_index = saved.index + 1

    def commit(self, event: CheckpointCommitted) -> None:
        """A checkpoint of a row that is on record became durable: a pending one, or one of the newest row."""
        index, row = event.saved.index, self.current
        committed = next((kept for kept in self.pending if kept.saved.index == index), None)
        if committed is not None:
            self.pending = tuple(kept for kept in self.pending if kept is not committed)
        elif row is not None and row.number == event.number:
            committed = Kept(event.saved, row.number, row.iteration, row.time_total_s, event.score)
            self.next_index = index + 1
            self.current = msgspec.structs.replace(row, saved=event.saved)
            if self.last == row:
                self.last = self.current
        else:
            raise InternalError(f"checkpoint {index} of {self.trial_id} belongs to row {event.number}, which is not its newest")
        # In the order of their indices: a small file may be durable before a large one that is older.
        self.kept = tuple(sorted((*self.kept, committed), key=lambda kept: kept.saved.index))

    def forget(self, index: int) -> None:
        """A checkpoint was given up, is broken or lost."""
        self.kept = tuple(kept for kept in self.kept if kept.saved.index != index)
        self.pending = tuple(kept for kept in self.pending if kept.saved.index != index)

    def has_saved(self, number: int) -> bool:
        """Whether the row of that number, or a later one, has a checkpoint, durable or pending."""
        return any(kept.number >= number for kept in (*self.kept, *self.pending))

    def end_early(self) -> None:
        """A redo returned earlier than the first time: the trial ends where the redo ended."""
        self.mark = self.number
        if self.current is not None:
            self.last, self.changes = self.current, b""

    def branch_off(self) -> None:
        """The trial begins anew: a new directory, no checkpoint, a new history."""
        self.branch += 1
        self.dirname = f"{self.dirname.partition('_restart')[0]}_restart{self.branch}"
        self.number = self.mark = self.failures = self.next_index = self.floor = 0
        self.inherited = None
        self.ordered = ""
        self.spent = {}
        self.kept = self.pending = ()
        self.owes = False
        self.last = self.current = self.failure = None
        self.changes = b""
        self.stopped_by = self.cut_short = ""

    def move(self, signal: str) -> None:
        """Goes to the next state, or raises `IllegalTransition` and changes nothing."""
        self.state = next_state(self, signal)

    def story(self) -> str:
        """One line for people."""
        return (
            f"trial {self.index}, {self.state}, branch {self.branch}, attempt {self.attempt}, row {self.number}, "
            f"decided up to {self.mark}, {len(self.kept)} checkpoints, {self.failures} failures"
        )


def next_state(trial: TrialState, signal: str) -> str:
    """The state that `signal` leads to.

    Raises:
        IllegalTransition: The table has no such pair. Nothing is changed.
    """
    try:
        return TABLE[trial.state, signal]
    except KeyError:
        raise IllegalTransition(trial.trial_id, trial.state, signal, trial.story()) from None
