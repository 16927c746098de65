"""Clusters of real raylets on this machine, for tests. Each test module has its own, so that none outlives it."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from integration import drivers

_QUIET = {
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the developer's home
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def one_node_cluster(cpus: float = 2) -> Iterator[str]:
    """This process connected to a cluster of one node; its address."""
    import ray

    os.environ.update(_QUIET)
    try:
        context = ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20
        )
        yield str(context.address_info["gcs_address"])
    finally:
        ray.shutdown()
        wait_for_ends()
        for name in _QUIET:
            os.environ.pop(name, None)


wait_until = functools.partial(drivers.wait_until, within_s=90.0)
"""As in `drivers`, with the patience that a Ray worker's start needs on a busy machine."""


def wait_for_ends() -> None:
    """Waits until Ray's own processes below this one are gone; Ray returns before."""
    psutil.wait_procs(
        [it for it in psutil.Process().children(recursive=True) if "resource_tracker" not in " ".join(it.cmdline())], 20
    )


def titles() -> list[str]:
    """What the processes of Ray's workers on this machine call themselves."""
    found = [" ".join(process.info["cmdline"] or []).strip() for process in psutil.process_iter(["cmdline"])]
    return [title for title in found if title.startswith("ray::")]


def tasks_running() -> list[str]:
    """The processes that run tasks of a trial: those of `ray.remote(function)`, called so after the function."""
    own = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::Post", "ray::Mailbox")
    return [title for title in titles() if not title.startswith(own)]


def ours_on_the_cluster() -> list[str]:
    """What of the engine's own is on this machine's raylets now: processes of actors, and placement groups not removed."""
    from ray.util import placement_group_table

    actors = [title for title in titles() if title.startswith(("ray::Post", "ray::Mailbox"))]
    return actors + [group["placement_group_id"] for group in placement_group_table().values() if group["state"] != "REMOVED"]


class Raylets:
    """A cluster of several raylets on this machine: a head that runs no trials, as a rule, and nodes that do.

    Args:
        nodes: How many nodes there are at the beginning, with so many CPUs each.
        cpus: See `nodes`.
        head_cpus: How many the head has: with some, it runs trials as well.
        settings: Variables of Ray's own, for all of its processes and those that this one starts meanwhile.
        client_port: Where the head takes drivers from outside (`ray://`), if it does.
    """

    def __init__(
        self,
        nodes: int,
        cpus: float = 1,
        *,
        head_cpus: float = 0,
        settings: Mapping[str, str] | None = None,
        client_port: int | None = None,
    ) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self._settings = {**_QUIET, **(settings or {})}
        os.environ.update(self._settings)
        head = {"num_cpus": head_cpus, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        if client_port is not None:
            head["ray_client_server_port"] = client_port
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._cpus = cpus
        self.nodes: list[Any] = [self.add() for _ in range(nodes)]
        ray.init(address=self.address, log_to_driver=False)

    @property
    def address(self) -> str:
        """What a driver connects to."""
        return str(self._cluster.address)

    def add(self, **options: Any) -> Any:
        """Starts another node."""
        return self._cluster.add_node(**{"num_cpus": self._cpus, "object_store_memory": 80 * 2**20, **options})

    def kill(self, *nodes: Any) -> None:
        """SIGKILL of all of these raylets at once."""
        pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for node in nodes:
            self._cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        """SIGKILL of all processes of the head; this process is no longer connected."""
        import ray

        ray.shutdown()
        for kind in self._cluster.head_node.all_processes.values():
            for it in kind:
                it.process.kill()

    def cut_off(self, node: Any) -> list[int]:
        """SIGSTOP of a raylet and of all that runs below it: the node is there and does not answer; the pids."""
        raylet = node.all_processes["raylet"][0].process.pid
        pids = [raylet, *(it.pid for it in psutil.process_iter() if _raylet_of(it) == raylet)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return pids

    def take_away(self, node: Any) -> None:
        """Tells Ray that a node is about to be taken away, and takes it away a second later, as a cloud does."""
        command = ["ray", "drain-node", "--address", self.address, "--node-id", node.node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "1"]
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *command[1:]], check=True)
        time.sleep(1)
        self._cluster.remove_node(node, allow_graceful=True)

    def node_of(self, pid: int) -> Any:
        """The node on which an actor's process is."""
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in self.nodes}
        return raylets[_raylet_of(psutil.Process(pid))]

    def alive(self) -> set[str]:
        """The ids of the nodes that Ray holds for alive."""
        import ray

        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    def close(self) -> None:
        """Ends all of it."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()
        wait_for_ends()
        for name in self._settings:
            os.environ.pop(name, None)


def _raylet_of(process: psutil.Process) -> int:
    """The pid of the raylet that wanted a process, or wanted what that was forked from; 0 where it is none of Ray's."""
    try:
        return int(process.environ().get("RAY_RAYLET_PID", 0))
    except psutil.Error:
        return 0
