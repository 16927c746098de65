"""The Ray engine: the port's methods, and what may be asked of it when."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from math import isfinite
from typing import Any

import ray

from holdfast._core.commands import CommitCheckpoint, StartAttempt
from holdfast._core.policy import Placement
from holdfast._worker.keepers import keeper_of
from holdfast._worker.protocol import Answer
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.commits import Commits
from holdfast.engines.ray.cluster import Nodes, amounts_of, check_shared, connect, is_outside
from holdfast.engines.ray.crew import Crew
from holdfast.errors import ConfigError, InternalError
from holdfast.storage.uri import is_uri

__all__ = ["RayEngine"]


class RayEngine:
    """Runs each attempt in an actor of its own on a Ray cluster. Linux only; holdfast is installed on each node.

    However the driver ends, `kill -9` included, its actors and placement groups end with it, and so do all processes that they
    started. An attempt whose node is lost fails with the kind "node", or "preempted" where Ray says that the node was taken away.

    Args:
        address: Which cluster, as `ray.init(address=...)` takes it, where this process is not connected to one already; None:
            that of `RAY_ADDRESS`, else one is started on this machine.
        runtime_env: The runtime environment of the actors. With a `py_executable`, `conda`, `uv`, `pip`, `container` or
            `image_uri` of the user's own it is not known how a worker's process ended, nor are processes that it left ended.
        grows_to: What a cluster that grows by itself may come to have, such as `{"cpu": 64, "gpu": 8}`: so much is asked for, and
            waited for. None: what it has.

    Raises:
        ConfigError: Ray is not installed, or an amount is no number above 0.
    """

    name = "ray"
    changing = True

    def __init__(
        self,
        address: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        grows_to: Mapping[str, float] | None = None,
    ) -> None:
        wrong = {kind: amount for kind, amount in (grows_to or {}).items() if not isfinite(amount) or amount <= 0}
        if wrong:
            raise ConfigError(f"RayEngine(grows_to=...): a cluster cannot grow to {wrong}; give numbers above 0.")
        self._address = address
        self._runtime_env = dict(runtime_env or {})
        self._grows_to = dict(grows_to or {})
        self._known: Nodes | None = None
        self._crew: Crew | None = None
        self._commits: Commits | None = None

    def resources(self) -> dict[str, float]:
        """What attempts can be given in all: what the living nodes have together, or what the cluster may grow to."""
        total = self._nodes().total()
        return {**total, **{kind: max(float(amount), total.get(kind, 0.0)) for kind, amount in self._grows_to.items()}}

    def refuse(self, amounts: Mapping[str, float], placement: Placement | None) -> str:
        """Why a request could never be placed; empty where it can be, or the cluster may grow."""
        if self._grows_to:
            return ""
        bundles = [amounts] if placement is None else placement.bundles
        return self._nodes().holds(bundles, "PACK" if placement is None else placement.strategy)

    def why_waiting(self) -> str:
        """What an attempt waits for that was started and has not begun."""
        nodes = list(self._nodes().alive.values())
        grows = f" The cluster was said to grow to {self._grows_to}, and has not." if self._grows_to else ""
        free = amounts_of(ray.available_resources())
        return f"Ray has not placed it yet. The nodes have {nodes}, of which {free} is free.{grows} `ray status` says more."

    def open(self, job: Job) -> None:
        """Gets ready; the mailbox is started.

        Raises:
            ConfigError: There are several nodes, or this process is on none, and one does not see the experiment's directory; or
                it is on a store, and one cannot open that.
            InternalError: The engine is open already.
        """
        if self._crew is not None:
            raise InternalError("RayEngine.open() was called twice.")
        nodes = self._nodes()
        if not is_uri(job.storage):  # a store is shared by its nature
            check_shared(job.experiment_dir, list(nodes.alive) if len(nodes.alive) > 1 or is_outside() else [])
        self._crew = Crew(job, nodes, self._runtime_env)
        keeper = partial(keeper_of, job.experiment_dir, job.storage, patience_s=job.storage_timeout_s)
        self._commits = Commits(keeper, self.wake)

    def start(self, order: StartAttempt) -> None:
        """Begins an attempt in a new actor, or in an idle one where the job reuses workers. It may wait for its place.

        Raises:
            ConfigError: The trial's directory name is no plain name.
        """
        if os.path.basename(order.dirname) != order.dirname or order.dirname in ("", ".", ".."):
            raise ConfigError(f"A trial's directory must be a plain name, not {order.dirname!r}. Correct trial_dirname_creator.")
        self._opened().start(order)

    def reply(self, trial_id: str, attempt: int, number: int, action: str, *, save: bool = False) -> None:
        """Answers a report. Nothing happens when the attempt is over."""
        self._opened().reply(Answer(trial_id, attempt, number, action, save))

    def kill(self, trial_id: str, attempt: int) -> None:
        """Kills an attempt's process tree; its end follows from `poll`. Nothing happens when it is over."""
        self._opened().kill(trial_id, attempt)

    def commit(self, order: CommitCheckpoint) -> None:
        """Completes a pending checkpoint; the answer follows from `poll`."""
        if self._commits is None:
            raise InternalError("The engine is not open: call open(job) first.")
        self._commits.take(order)

    def poll(self, timeout: float) -> list[Observation]:
        """Waits up to `timeout` seconds; returns what happened, each attempt's part in order.

        Raises:
            ConfigError: A node that was added cannot open the store.
            StorageError: The disk refuses to complete a pending checkpoint, or the store refuses what attempts left on a node.
        """
        observed = self._opened().poll(timeout)
        if self._commits is not None:
            observed += self._commits.answers()
        return observed

    def wake(self) -> None:
        """Makes a `poll` in progress return; safe from signal handlers and other threads."""
        if self._crew is not None:
            self._crew.bell.ring()

    def close(self) -> None:
        """Ends all attempts with their process trees and lets everything go. May be called twice.

        Raises:
            StorageError: What attempts left on another node could not be put to the store.
        """
        crew, self._crew = self._crew, None
        if crew is None:
            return
        if self._commits is not None:
            self._commits.close()
        if ray.is_initialized():
            crew.close()

    def _nodes(self) -> Nodes:
        if self._known is None:
            connect(self._address)
            self._known = Nodes()
        return self._known

    def _opened(self) -> Crew:
        if self._crew is None:
            raise InternalError("The engine is not open: call open(job) first.")
        return self._crew
