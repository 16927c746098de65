"""The engine port: what runs attempts.

An engine is told what to do by the driver's loop, from one thread, and answers only through `poll`: the events that
it returns are observations, not yet on record. It knows no controller and no journal. An attempt is named by
`(trial_id, attempt)`. An engine may yield events of attempts that are over (a worker that was killed while it
reported): the loop refuses those without harm.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from holdfast._core.commands import CommitCheckpoint, StartAttempt
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointBroken,
    CheckpointCommitted,
    CheckpointLost,
    ResultReported,
)

__all__ = ["Engine", "Job", "Observation"]

Observation = AttemptStarted | ResultReported | AttemptEnded | CheckpointBroken | CheckpointCommitted | CheckpointLost


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine needs to know of the experiment before its first attempt.

    Attributes:
        experiment_dir: Absolute local path below which attempts run and their logs are: the experiment's directory, or where that
            is in a cloud its working directory on this machine.
        storage: What `open_storage` takes for the place where checkpoints and definitions are kept; empty: `experiment_dir`.
        storage_timeout_s: How long a store that fails is asked again, in each call.
        experiment_name: The experiment's name.
        trainable: The pickled trainable (cloudpickle).
        seed: The experiment's seed.
        token: `<experiment id>.<place>.<epoch>`, set as `HOLDFAST_TOKEN` in every process that the engine starts.
        environment: The driver's `os.environ` as at `fit()`.
        sys_path: The driver's `sys.path`, made absolute.
        working_dir: The driver's working directory.
        chdir: Whether attempts run in their trial's directory.
        log_to_file: False, or the names of the files for stdout and stderr.
        artifacts_s: How many seconds after a look at what trials write the next follows, where that goes to the store; else None.
        echo: Whether what trials print is also shown on the driver's terminal, prefixed.
        reuse_workers: Whether a worker may run one attempt after another.
        references: By place in `param_space`, the pickled references that stand there, which configs only name.
        upload: "sync": a row is reported when its checkpoint is durable; "async": when that is staged.
        class_trainable: Whether the trainable is a class (`holdfast.Trainable`); else it is a function.
        checkpoint_frequency: A class trainable saves every so many iterations; 0: not by itself.
        checkpoint_at_end: Whether a class trainable saves its last row.
        begin_from: A checkpoint's directory from which trials begin that have none of their own; empty: from scratch.
        export_formats: What a class trainable exports when its trial ends well.
        grace_s: Seconds that attempts of a class trainable may take to clean up, also when the engine is closed.
    """

    experiment_dir: str
    storage: str = ""
    storage_timeout_s: float = 60.0
    experiment_name: str
    trainable: bytes
    seed: int
    token: str
    environment: dict[str, str]
    sys_path: list[str]
    working_dir: str
    chdir: bool = True
    log_to_file: tuple[str, str] | None = None
    artifacts_s: float | None = None
    echo: bool = False
    reuse_workers: bool = False
    references: dict[str, bytes] = {}
    upload: str = "sync"
    class_trainable: bool = False
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool = False
    grace_s: float = 600.0
    begin_from: str = ""
    export_formats: tuple[str, ...] = ()


class Engine(Protocol):
    """The port. `LocalEngine` runs processes on this machine, `SimulatedEngine` virtual time."""

    name: str

    def resources(self) -> dict[str, float]:
        """What attempts can be given in all, such as `{"cpu": 2.0}`. May be called before `open`.

        An engine whose machines come and go has `changing = True`: the loop then asks again, at each tick.
        """

    def open(self, job: Job) -> None:
        """Gets ready to run attempts. Called once."""

    def start(self, order: StartAttempt) -> None:
        """Begins an attempt; `AttemptStarted` follows from `poll`, then rows, then one `AttemptEnded`."""

    def reply(self, trial_id: str, attempt: int, number: int, action: str, *, save: bool = False) -> None:
        """Answers the report of row `number`: "CONTINUE" lets it return, "STOP" and "PAUSE" unwind the attempt.

        `save` asks a class trainable for a checkpoint of that row; `CheckpointCommitted` follows.
        """

    def commit(self, order: CommitCheckpoint) -> None:
        """Completes a checkpoint that an attempt, which is over, left pending; one answer that quotes the order follows."""

    def kill(self, trial_id: str, attempt: int) -> None:
        """Ends an attempt at once, with its process tree. Nothing happens when it is over."""

    def poll(self, timeout: float) -> list[Observation]:
        """Waits up to `timeout` seconds for something to happen; returns what did, in order, maybe nothing."""

    def wake(self) -> None:
        """Makes a `poll` in progress return; safe from signal handlers and other threads."""

    def close(self) -> None:
        """Ends all attempts with their process trees and lets everything go. May be called twice."""
