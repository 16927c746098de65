"""The local engine: the port's methods, and what may be asked of it when.

Nothing of it is global: several engines live in one process, in any threads, without signal handlers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from holdfast import settings
from holdfast._core.commands import StartAttempt
from holdfast._worker.protocol import Answer
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.fleet import Fleet
from holdfast.engines.local.machine import available_cpus
from holdfast.errors import ConfigError, InternalError

__all__ = ["LocalEngine"]


class LocalEngine:
    """Runs each attempt in a process of its own on this machine. Linux only.

    However the driver ends, `kill -9` included, its attempts end with it, with all processes that they started.

    Args:
        cpus: How many CPUs attempts may use in all; None: `HOLDFAST_CPUS`, else as many as this process may use.
        preload: Modules that are loaded once, before workers are forked, beside the installed ones that the trainable
            names. One that starts a thread is loaded in each worker instead.

    Raises:
        ConfigError: `cpus` is not positive.
    """

    name = "local"

    def __init__(self, cpus: float | None = None, *, preload: Sequence[str] = ()) -> None:
        count = cpus if cpus is not None else settings.cpus()
        if count is not None and count <= 0:
            raise ConfigError(
                f"LocalEngine(cpus={count}): trials need more than 0 CPUs. Leave it out to use what the machine has."
            )
        self._cpus = count
        self._preload = tuple(preload)
        self._fleet: Fleet | None = None

    def resources(self) -> dict[str, float]:
        """What attempts can be given in all."""
        return {"cpu": float(self._cpus if self._cpus is not None else available_cpus())}

    def open(self, job: Job) -> None:
        """Starts the guardian and its server; returns before they are ready.

        Raises:
            ConfigError: A name in `log_to_file` leads out of the trial's directory without being absolute.
            InternalError: The engine is open already.
        """
        if self._fleet is not None:
            raise InternalError("LocalEngine.open() was called twice.")
        self._fleet = Fleet(job, self._preload)

    def start(self, order: StartAttempt) -> None:
        """Begins an attempt in a new process, or in an idle one where the job reuses workers.

        Raises:
            ConfigError: The trial's directory name is no plain name.
        """
        if os.path.basename(order.dirname) != order.dirname or order.dirname in ("", ".", ".."):
            raise ConfigError(f"A trial's directory must be a plain name, not {order.dirname!r}. Correct trial_dirname_creator.")
        self._opened().start(order)

    def reply(self, trial_id: str, attempt: int, number: int, action: str) -> None:
        """Answers a report. Nothing happens when the attempt is over."""
        self._opened().reply(Answer(trial_id, attempt, number, action))

    def kill(self, trial_id: str, attempt: int) -> None:
        """Kills an attempt's process tree; its end follows from `poll`. Nothing happens when it is over."""
        self._opened().kill(trial_id, attempt)

    def poll(self, timeout: float) -> list[Observation]:
        """Waits up to `timeout` seconds; returns what happened, each attempt's part in order.

        Raises:
            WorkerLost: The processes that run attempts cannot be started on this machine; says why.
        """
        return self._opened().poll(timeout)

    def wake(self) -> None:
        """Makes a `poll` in progress return."""
        if self._fleet is not None:
            self._fleet.wake()

    def close(self) -> None:
        """Kills everything; when it returns, no process is left."""
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.close()

    def _opened(self) -> Fleet:
        if self._fleet is None:
            raise InternalError("The engine is not open: call open(job) first.")
        return self._fleet
