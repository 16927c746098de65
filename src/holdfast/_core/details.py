"""What events are made of: their base, a checkpoint, a failure, an order of the scheduler's. For ever, as events; see there."""

from __future__ import annotations

import msgspec

from holdfast._core.policy import Placement

__all__ = ["Fact", "Failure", "Saved", "Steering"]


class Fact(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all events: encoded as an array whose first element is the class's name."""


class Saved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A checkpoint as it stands on record.

    `ResultReported.saved` and `CheckpointCommitted` name one that is complete and durable; `ResultReported.pending` one
    whose files are staged and survive the death of any process.

    Attributes:
        index: The number in its directory's name.
        files: Number of files.
        size: Bytes in all.
        manifest: sha256 of the manifest that stands beside the files' checksums.
    """

    index: int
    files: int
    size: int
    manifest: str


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an attempt failed.

    Attributes:
        kind: "code" (the user's exception), "worker" (its process died), "storage" (the disk refused), "checkpoint" (the one to
            resume from did not verify), "oom" (its memory ran out), "timeout" (it took too long, or made no progress), "node"
            (its machine was lost), "preempted" (its machine was taken away).
        message: One line.
        traceback: The user's traceback, or empty.
        exception: The pickled exception, empty where it cannot be.
        exit_code, signal: Of the process, where it died.
        log_tail: The end of what it printed.
        peak_memory: The most bytes of memory that its process tree was seen to use; 0 where nobody looked.
    """

    kind: str
    message: str
    traceback: str = ""
    exception: bytes = b""
    exit_code: int | None = None
    signal: int | None = None
    log_tail: str = ""
    peak_memory: int = 0


class Steering(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the scheduler ordered about a trial through its view, beside its answer.

    Attributes:
        trial_id: Which trial.
        verb: "stop", "pause" (with its next row), "resume" (a paused one waits for a worker again) or "change" (from its next
            start on it runs with what follows).
        config: The whole new configuration, encoded; empty: as it was.
        evaluated: The keys that the tag and `evaluated_params` show, encoded; empty: as they were.
        tag: Its new experiment tag; empty: as it was.
        donor: The trial from whose checkpoint it goes on (its own id for its own); empty: its resume point stays.
        index: That checkpoint's index; -1: from scratch.
        resources, placement: What it is given from then on; None: as it was.
    """

    trial_id: str
    verb: str
    config: bytes = b""
    evaluated: bytes = b""
    tag: str = ""
    donor: str = ""
    index: int = -1
    resources: dict[str, float] | None = None
    placement: Placement | None = None
