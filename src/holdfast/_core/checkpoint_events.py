"""The events that checkpoints have a life by; see `events.py`, which counts them among all."""

from __future__ import annotations

from holdfast._core.details import Fact, Saved

__all__ = ["CheckpointBroken", "CheckpointCommitted", "CheckpointDeleted", "CheckpointDropped", "CheckpointLost"]


class CheckpointCommitted(Fact, frozen=True):
    """A checkpoint became complete and durable after its row was recorded.

    It was pending (`upload="async"`), or it was asked for by the decision on its row.

    Attributes:
        trial_id, attempt: Whose.
        number: The row that it belongs to.
        saved: What it is.
        order: The `CommitCheckpoint` that this answers; empty where the worker did it by itself.
        score: As in `ResultReported`.
    """

    trial_id: str
    attempt: int
    number: int
    saved: Saved
    order: str = ""
    score: float | None = None


class CheckpointLost(Fact, frozen=True):
    """A pending checkpoint cannot be made durable any more: its files are gone. Its row stands.

    Attributes:
        order: The `CommitCheckpoint` that this answers.
        problem: One line for people.
    """

    order: str
    trial_id: str
    index: int
    problem: str


class CheckpointDropped(Fact, frozen=True):
    """Retention gave a checkpoint up. Its files go when this record is durable."""

    order: str
    trial_id: str
    index: int


class CheckpointDeleted(Fact, frozen=True):
    """The files of a dropped checkpoint are gone."""

    order: str
    trial_id: str
    index: int


class CheckpointBroken(Fact, frozen=True):
    """A checkpoint did not verify when an attempt wanted to load it; the one before it is used.

    `donor`: the trial whose checkpoint it is, where that is another one.
    """

    trial_id: str
    attempt: int
    index: int
    problem: str
    donor: str = ""
