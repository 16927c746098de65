"""What events hold: a checkpoint and a failure. They are as much for ever as the events; see `events.py`."""

from __future__ import annotations

import msgspec

__all__ = ["Failure", "Saved"]


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
