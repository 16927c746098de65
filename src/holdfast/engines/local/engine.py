"""The local engine: the port's methods, and what may be asked of it when.

Nothing of it is global: several engines live in one process, in any threads, without signal handlers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite

from holdfast import settings
from holdfast._core.commands import CommitCheckpoint, StartAttempt
from holdfast._core.events import AttemptEnded
from holdfast._worker.keepers import keeper_of
from holdfast._worker.protocol import Answer
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.commits import Commits
from holdfast.engines.local.fleet import Fleet
from holdfast.engines.local.gpus import Gpus, gpu_ids
from holdfast.engines.local.machine import available_cpus, available_memory
from holdfast.errors import ConfigError, InternalError

__all__ = ["LocalEngine"]


class LocalEngine:
    """Runs each attempt in a process of its own on this machine. Linux only.

    However the driver ends, `kill -9` included, its attempts end with it, with all processes that they started.

    Args:
        cpus: How many CPUs attempts may use in all; None: `HOLDFAST_CPUS`, else as many as this process may use.
        gpus: How many GPUs; None: `HOLDFAST_GPUS`, else as many as this process sees (`CUDA_VISIBLE_DEVICES`, else as many as the
            driver shows). Each attempt sees those that it was given and no other.
        resources: What else attempts may ask for, such as `{"hdd": 80}`; None: `HOLDFAST_RESOURCES`. "memory" (bytes) is what
            this process may use unless it is named here.
        preload: Modules that are loaded once, before workers are forked, beside the installed ones that the trainable
            names. With one that leaves a thread that does not bear a fork, as polars does, all are loaded in each worker instead.

    Raises:
        ConfigError: `cpus` is not positive, or another amount is no number that is 0 or more.
    """

    name = "local"

    def __init__(
        self,
        cpus: float | None = None,
        gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        *,
        preload: Sequence[str] = (),
    ) -> None:
        count = cpus if cpus is not None else settings.cpus()
        if count is not None and not (isfinite(count) and count > 0):
            raise ConfigError(
                f"LocalEngine(cpus={count}): trials need more than 0 CPUs. Leave it out to use what the machine has."
            )
        self._cpus = count
        self._others = dict(resources) if resources is not None else settings.custom_resources()
        if {"cpu", "gpu", "CPU", "GPU"} & set(self._others):
            raise ConfigError(f"LocalEngine(resources={self._others}): CPUs and GPUs are given as cpus= and gpus=.")
        self._gpu_count = gpus if gpus is not None else settings.gpus()
        amounts = {**self._others, "gpu": self._gpu_count or 0.0}
        wrong = {kind: amount for kind, amount in amounts.items() if not isfinite(amount) or amount < 0}
        if wrong:
            raise ConfigError(f"LocalEngine: the machine cannot have {wrong}; give numbers, 0 or more.")
        self._preload = tuple(preload)
        self._gpus: Gpus | None = None
        self._waiting: deque[StartAttempt] = deque()  # for a GPU with room enough: what is left may be in pieces
        self._called_back: list[Observation] = []
        self._hurried = False
        self._fleet: Fleet | None = None
        self._commits: Commits | None = None

    def resources(self) -> dict[str, float]:
        """What attempts can be given in all."""
        has = {"cpu": float(self._cpus if self._cpus is not None else available_cpus()), "memory": available_memory()}
        has["gpu"] = float(self._gpu_count if self._gpu_count is not None else len(gpu_ids()))
        has |= {kind: float(amount) for kind, amount in self._others.items()}
        return {kind: amount for kind, amount in has.items() if amount}

    def open(self, job: Job) -> None:
        """Starts the guardian and its server; returns before they are ready.

        Raises:
            ConfigError: A name in `log_to_file` leads out of the trial's directory without being absolute.
            InternalError: The engine is open already.
        """
        if self._fleet is not None:
            raise InternalError("LocalEngine.open() was called twice.")
        self._gpus = Gpus(self.resources().get("gpu", 0.0), gpu_ids())
        self._fleet = Fleet(job, self._preload)
        keeper = partial(keeper_of, job.experiment_dir, job.storage, patience_s=job.storage_timeout_s)
        self._commits = Commits(keeper, self.wake)

    def start(self, order: StartAttempt) -> None:
        """Begins an attempt in a new process, or in an idle one where the job reuses workers.

        One that no GPU has room for waits for the end of others: `AttemptStarted` follows then.

        Raises:
            ConfigError: The trial's directory name is no plain name.
        """
        if os.path.basename(order.dirname) != order.dirname or order.dirname in ("", ".", ".."):
            raise ConfigError(f"A trial's directory must be a plain name, not {order.dirname!r}. Correct trial_dirname_creator.")
        fleet = self._opened()
        if not order.resources.get("gpu"):
            fleet.start(order)
            return
        self._waiting.append(order)
        self._start_waiting()

    def reply(self, trial_id: str, attempt: int, number: int, action: str, *, save: bool = False) -> None:
        """Answers a report. Nothing happens when the attempt is over."""
        self._opened().reply(Answer(trial_id, attempt, number, action, save))

    def kill(self, trial_id: str, attempt: int) -> None:
        """Kills an attempt's process tree; its end follows from `poll`. Nothing happens when it is over."""
        fleet = self._opened()
        for order in [it for it in self._waiting if (it.trial_id, it.attempt) == (trial_id, attempt)]:
            self._waiting.remove(order)
            self._called_back.append(AttemptEnded(trial_id, attempt, "stopped"))
            fleet.wake()
        fleet.kill(trial_id, attempt)

    def commit(self, order: CommitCheckpoint) -> None:
        """Completes a pending checkpoint; the answer follows from `poll`."""
        if self._commits is None:
            raise InternalError("The engine is not open: call open(job) first.")
        self._commits.take(order)

    def poll(self, timeout: float) -> list[Observation]:
        """Waits up to `timeout` seconds; returns what happened, each attempt's part in order.

        Raises:
            WorkerLost: The processes that run attempts cannot be started on this machine; says why.
            StorageError: The disk refuses to complete a pending checkpoint.
        """
        observed = self._opened().poll(timeout)
        if self._commits is not None:
            observed += self._commits.answers()
        for seen in observed:
            if isinstance(seen, AttemptEnded) and self._gpus is not None:
                self._gpus.give_back((seen.trial_id, seen.attempt))
                self._start_waiting()
        observed += self._called_back
        self._called_back = []
        return observed

    def _start_waiting(self) -> None:
        """Starts those that wait, in their order, as long as there are GPUs for the first."""
        while self._waiting and self._gpus is not None:
            order = self._waiting[0]
            devices = self._gpus.take((order.trial_id, order.attempt), order.resources["gpu"])
            if devices is None:
                return
            self._opened().start(self._waiting.popleft(), devices)

    def wake(self) -> None:
        """Makes a `poll` in progress return."""
        if self._fleet is not None:
            self._fleet.wake()

    def hurry(self) -> None:
        """Says that what still runs when the engine is closed is given no time to clean up."""
        self._hurried = True

    def close(self) -> None:
        """Kills everything; when it returns, no process is left."""
        if self._commits is not None:
            self._commits.close()
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.close(at_once=self._hurried)

    def _opened(self) -> Fleet:
        if self._fleet is None:
            raise InternalError("The engine is not open: call open(job) first.")
        return self._fleet
