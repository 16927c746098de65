"""The cluster: what it has, which of its nodes live, whether they see the experiment's directory.

Knows nodes as Ray lists them. Refuses to know what runs on them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ray
from ray.util.client import ray as client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from holdfast._core.admission import fits
from holdfast.engines.ray.doors import Doors
from holdfast.errors import ConfigError

__all__ = ["Nodes", "amounts_of", "check_shared", "connect", "is_outside", "own_node", "written"]

_TAKEN_AWAY = (1, 3, 4)  # "DeathReason" in `ray.nodes()`: ended in good order; drained, because preempted or because idle
_NAMES = {"CPU": "cpu", "GPU": "gpu"}
_PATIENCE_S = 30.0
_REMEDY = ". Ask for less, or say what the cluster grows to: RunConfig(engine=RayEngine(grows_to={...}))."
_BETWEEN_LOOKS_S = 1.0
_SILENT_S = 3.0
_SILENT = (
    f"The head of the Ray cluster has not answered for {_SILENT_S:.0f} s: all trials wait for it. Where it stays away, Ray ends "
    "this process after RAY_gcs_rpc_server_reconnect_timeout_s, 60 unless set. Nothing is lost: Tuner.restore goes on, on a new "
    "cluster."
)


def connect(address: str | None) -> None:
    """Connects this process to a cluster, unless it is: the one named, that of `RAY_ADDRESS`, or one started on this machine."""
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)


def is_outside() -> bool:
    """Whether this process is on no node, but speaks to the cluster from outside (`ray://`)."""
    return bool(client.is_connected())


def own_node() -> str:
    """The id of the node that this process is on; empty where Ray knows of none, as of a driver outside the cluster."""
    with contextlib.suppress(Exception):
        return str(ray.get_runtime_context().get_node_id())
    return ""


def amounts_of(resources: Mapping[str, float]) -> dict[str, float]:
    """What a node has, kinds as they go on record; what Ray keeps for its own use is left out."""
    return {
        _NAMES.get(kind, kind): float(amount)
        for kind, amount in resources.items()
        if kind != "object_store_memory" and not kind.startswith(("node:", "accelerator_type:")) and amount
    }


def written(amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts with the kinds as Ray writes them."""
    names = {own: rays for rays, own in _NAMES.items()}
    return {names.get(kind, kind): amount for kind, amount in amounts.items()}


class Nodes:
    """The nodes as they were when last looked at; asked for again when that is a second ago.

    Ray takes ten seconds and more to notice that a raylet is gone. One that does not listen any more never comes back: its node
    is held for lost from then on, though Ray lists it as alive.
    """

    def __init__(self) -> None:
        self._looked = 0.0
        self._doors = Doors()
        self._refusing: set[str] = set()
        self._alive: dict[str, dict[str, float]] = {}
        self._addresses: dict[str, str] = {}
        self._dead: dict[str, int] = {}
        self.look(at_once=True)

    def look(self, used: Collection[str] | None = None, *, at_once: bool = False) -> None:
        """Asks Ray for the nodes, when it is time to, and has those that are used looked after, until `close`."""
        now = time.monotonic()
        if not at_once and now - self._looked < _BETWEEN_LOOKS_S:
            return
        self._looked = now
        self._refusing |= self._doors.refused()  # before Ray is asked, whom one that ended in good order has told by now
        listed = _listed()
        self._addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in listed}
        self._dead = {node["NodeID"]: node.get("DeathReason", 0) for node in listed if not node["Alive"]}
        living = [node for node in listed if not self.is_dead(node["NodeID"])]
        self._alive = {node["NodeID"]: amounts_of(node["Resources"]) for node in living}
        if used is None:
            return
        self._doors.knock({node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in living}, used)

    @property
    def alive(self) -> dict[str, dict[str, float]]:
        """What each living node has, by its id."""
        return self._alive

    def is_dead(self, node: str) -> bool:
        """Whether a node is known to be lost."""
        return node in self._dead or node in self._refusing

    def was_preempted(self, node: str) -> bool:
        """Whether a node is lost because it was taken away: ended in good order, or after Ray was told that it would be."""
        return self._dead.get(node) in _TAKEN_AWAY

    def address(self, node: str) -> str:
        """By what a node is called in a message."""
        return self._addresses.get(node, node[:12] or "unknown")

    def total(self) -> dict[str, float]:
        """What living nodes have together."""
        total: dict[str, float] = {}
        for amounts in self._alive.values():
            for kind, amount in amounts.items():
                total[kind] = total.get(kind, 0.0) + amount
        return total

    def close(self) -> None:
        """Lets go what `look` has begun."""
        self._doors.close()

    def holds(self, bundles: Sequence[Mapping[str, float]], strategy: str) -> str:
        """Why a group of bundles can never be placed on empty nodes; empty where nothing is known against it."""
        asked = [dict(bundle) for bundle in bundles if bundle]
        nodes = list(self._alive.values())
        for bundle in asked:
            if not any(fits(bundle, node) for node in nodes):
                return f"no node has {bundle}; the nodes have {nodes}{_REMEDY}"
        if strategy == "STRICT_PACK" and not any(fits(asked[0], node, asked[1:]) for node in nodes if asked):
            return f"no node has all of {asked} together; the nodes have {nodes}{_REMEDY}"
        if strategy == "STRICT_SPREAD" and len(asked) > len(nodes):
            return f"{len(asked)} bundles on a node each need {len(asked)} nodes, and there are {len(nodes)}{_REMEDY}"
        if asked and not fits(asked[0], self.total(), asked[1:]):
            return f"all nodes together have {self.total()}{_REMEDY}"
        return ""


def _listed() -> Sequence[dict[str, Any]]:
    """Ray's list of nodes. While the head is gone it does not come, and a warning says what everything waits for."""
    warns = threading.Timer(_SILENT_S, warnings.warn, (_SILENT,))
    warns.daemon = True
    warns.start()
    try:
        return ray.nodes()  # type: ignore[no-any-return]
    finally:
        warns.cancel()


def _sees(path: str) -> bool:
    """Runs on a node."""
    return os.path.exists(path)


def check_shared(folder: str, nodes: Sequence[str]) -> None:
    """Writes a file into the experiment's directory and has it looked for on each of the nodes.

    Raises:
        ConfigError: One does not see it.
    """
    path = os.path.join(folder, f".probe-{secrets.token_hex(4)}")
    with open(path, "w", encoding="utf-8"):
        pass
    try:
        look = ray.remote(_sees)
        at = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
        found = {node: look.options(num_cpus=0, scheduling_strategy=there).remote(path) for node, there in at.items()}
        ready, _ = ray.wait(list(found.values()), num_returns=len(found), timeout=_PATIENCE_S) if found else ([], [])
        blind = [node for node, answer in found.items() if answer in ready and not _answered(answer)]
    finally:
        os.unlink(path)
    if blind:
        raise ConfigError(
            f"The experiment's directory {folder} is not seen by every node of the cluster: {len(blind)} of {len(nodes)} other "
            "nodes find another directory there, or none. Trials on them could not save or log. Give "
            "RunConfig(storage_path=...) a directory that all nodes share, such as one on NFS, mounted at the same path."
        )


def _answered(reference: Any) -> bool:
    try:
        return bool(ray.get(reference))
    except ray.exceptions.RayError:
        return True  # the node was lost meanwhile: it says nothing of the storage
