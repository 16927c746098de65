"""The porters: on each other node one small actor that puts to the store what attempts leave on that node's disk.

Needed where the experiment lives on a store and a node does not see the driver's directory. A porter outlives the attempts of its
node, so also what a killed one printed gets there. It puts only while the driver is heard of: one that was cut off leaves the
store to whoever has taken over. What lies on a node that is lost before it was put is lost with it; nothing is decided by it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from holdfast._worker.outgoing import outgoing
from holdfast.engines.ray.cluster import Nodes, own_node
from holdfast.engines.ray.ground import World, ground
from holdfast.errors import ConfigError, StorageError, TuneError
from holdfast.storage.mirror import Mirror
from holdfast.storage.opening import open_storage

__all__ = ["Porter", "Porters"]

_HEARD_S = 30.0
_A_WHILE_S = 5.0  # that an end which is not reached is waited for, until the driver is to be heard of again
_OPENING_S = 30.0  # for the porters' first word; where Ray has to install an environment before, their nodes are not waited for
_AGAIN_S = 5.0  # from a porter's beginning until it is followed by another, if it is lost
_LOSS_S = 30.0  # for Ray to notice that a node is lost
_SENT = "sent"


class Porter:
    """An actor; its methods are called through Ray. On a node that sees the driver's directory it has nothing to do.

    Args:
        place: An encoded `Workplace`.
        world: What is around the driver.
        artifacts_s: How often what trials write is looked at; None: only logs are put.

    """

    def __init__(self, place: bytes, world: World, artifacts_s: float | None) -> None:
        self._place, self._away = ground(place, world)
        self._artifacts_s = artifacts_s
        self._home = os.path.dirname(self._place.experiment_dir)
        self._heard = time.monotonic()
        self._mirror: Mirror | None = None
        self._finishing: Future[bool] | None = None

    def attend(self, news: list[tuple[str, bool]]) -> None:
        """Tells that the driver lives, and what has happened since the last call, in order.

        Args:
            news: In which trial's directory an attempt has begun (True) or is over (False).

        Raises:
            ConfigError: The store cannot be opened on this node.
            StorageError: The store refuses.
        """
        self._heard = time.monotonic()
        mirror = self._begun()
        if mirror is None:
            return
        for dirname, begun in news:
            if begun:
                mirror.look_at(dirname)
            else:
                mirror.ended(dirname)
                mirror.settle("logs")
        mirror.check()

    def finish(self) -> bool:
        """Puts all that is left and removes it here; no attempt of this node runs any more.

        Returns:
            Whether that is done. It is to be called until then: it goes on only while the driver is heard of.

        Raises:
            ConfigError, StorageError: As `attend`. It stays here, for the next driver's porter on this node.
        """
        self._heard = time.monotonic()
        if self._finishing is None:
            self._finishing = ThreadPoolExecutor(1, "holdfast-porter").submit(self._finish)
        done, _ = wait([self._finishing], _A_WHILE_S)
        return bool(done) and self._finishing.result()

    def _finish(self) -> bool:
        mirror = self._begun()
        if mirror is not None and not mirror.finish():
            return False
        if mirror is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            with contextlib.suppress(OSError):  # an older driver's directory is still there
                os.rmdir(os.path.dirname(self._home))
        return True

    def _begun(self) -> Mirror | None:
        """The mirror, which is begun once, and before it what older drivers' attempts left here is put."""
        if self._mirror is not None or not self._away:
            return self._mirror
        here = self._place
        storage = open_storage(here.storage, patience_s=here.storage_timeout_s)
        storage.exists("journal")  # opening makes no request: whether this node gets there, and is let in, is known after one
        for older in self._older():
            left = os.path.join(older, os.path.basename(here.experiment_dir))
            # A log belongs to one attempt, so all of it may be put. Other files may be newer on the store than they are here.
            logs = [tree._replace(wanted=lambda name: name.startswith("logs/")) for tree in outgoing(left, None, None)]
            Mirror(storage, logs, os.path.join(older, _SENT), lambda: True).finish()
            for tree in outgoing(left, here.log_to_file, self._artifacts_s):
                for name, full, _ in tree.found():
                    if not storage.exists(name):
                        with open(full, "rb") as file:
                            storage.put_if_absent(name, file.read())
            shutil.rmtree(older, ignore_errors=True)
        trees = outgoing(here.experiment_dir, here.log_to_file, self._artifacts_s)
        self._mirror = Mirror(storage, trees, os.path.join(self._home, _SENT), self._driver_lives)
        self._mirror.look_at("logs")
        self._mirror.start()
        return self._mirror

    def _driver_lives(self) -> bool:
        return time.monotonic() - self._heard < _HEARD_S

    def _older(self) -> list[str]:
        kept, own = os.path.split(self._home)
        return [os.path.join(kept, name) for name in sorted(os.listdir(kept)) if name.isdecimal() and int(name) < int(own)]


class Porters:
    """The driver's side: a porter on each living node but its own, from the beginning, and on nodes that are added.

    One that is lost is followed by another, unless its node is lost too. That goes on with the files where they lie: what was put
    is written down beside them.

    Args:
        nodes: The cluster's nodes.
        given: What a porter is made of.
        environment: The runtime environment of the engine's actors.
        patience_s: How long porters are waited for in the end.
    """

    def __init__(self, nodes: Nodes, given: tuple[Any, ...], environment: dict[str, Any], patience_s: float) -> None:
        self._nodes = nodes
        self._given = given
        self._environment = environment
        self._patience_s = patience_s
        self._porters: dict[str, Any] = {}
        self._calls: dict[str, Any] = {}
        self._news: dict[str, list[tuple[str, bool]]] = {}
        self._asked: dict[str, float] = {}
        self._lived: dict[str, float] = {}
        self._running: dict[str, set[str]] = {}
        self._began: dict[str, float] = {}
        self._lost: set[str] = set()  # nodes whose porter is
        own = own_node()
        for node in nodes.alive:
            if node != own:
                self._begin(node)

    def wait_until_open(self) -> None:
        """Waits until each porter has reached the store, or its node is lost, so that no trial starts where it could not save.

        Raises:
            ConfigError: A node cannot open the store, or is refused there.
        """
        self.look()
        calls = list(self._calls.values())
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=_OPENING_S)
        for node, call in list(self._calls.items()):
            try:
                if ray.wait([call], timeout=0)[0]:
                    self._answered(node, call)
            except TuneError as error:
                raise ConfigError(
                    f"Node {self._nodes.address(node)} of the cluster cannot open the store: {error} "
                    "Give that node what the driver has: holdfast[cloud], keys, a way to the store."
                ) from error

    def begun(self, node: str, dirname: str) -> None:
        """An attempt has begun in a directory of that node's own."""
        if node not in self._porters and node not in self._lost:
            self._begin(node)
        self._running.setdefault(node, set()).add(dirname)
        self._news[node].append((dirname, True))

    def ended(self, node: str, dirname: str) -> None:
        """An attempt there is over."""
        self._running.get(node, set()).discard(dirname)
        if node in self._news:
            self._news[node].append((dirname, False))

    def look(self) -> None:
        """Tells porters that the driver lives, and what is new. Returns at once.

        Raises:
            ConfigError, StorageError: One cannot open the store, or that refuses.
        """
        for node in list(self._lost):
            if self._nodes.is_dead(node):
                self._lost.discard(node)
            elif time.monotonic() - self._began[node] > _AGAIN_S:
                self._begin(node)
        for node in list(self._porters):
            call = self._calls.get(node)
            if call is not None and not ray.wait([call], timeout=0)[0]:
                continue  # it has not answered the last one yet
            if call is not None and not self._answered(node, call):
                continue
            if call is not None:
                self._lived[node] = self._asked[node]
            self._asked[node] = time.monotonic()
            news, self._news[node] = self._news[node], []
            self._calls[node] = self._porters[node].attend.remote(news)

    def lived(self, node: str) -> float:
        """When a node was last known to live: what was asked of its porter then, by the monotonic clock, was answered."""
        return self._lived.get(node, 0.0)

    def finish(self) -> None:
        """Waits until all that is left on the nodes is on the store, and ends the porters.

        Raises:
            StorageError: Of a node that lives something could not be put; it stays there.
        """
        try:
            self._finish_all(list(self._porters))
            for node in list(self._lost):  # its porter was, and the node maybe not
                self._finish_again(node)
        finally:
            self.leave()

    def _finish_again(self, node: str) -> None:
        """Has another porter do what one did not that was lost; nothing is left to do where the node is lost too."""
        self._nodes.look(at_once=True)
        if self._nodes.is_dead(node):
            return
        self._begin(node)
        self._finish_all([node])
        deadline = time.monotonic() + _LOSS_S
        while node in self._lost and not self._nodes.is_dead(node):
            if time.monotonic() > deadline:
                raise self._unfinished(node, "its porters were lost")
            time.sleep(0.5)
            self._nodes.look(at_once=True)

    def _finish_all(self, nodes: Iterable[str]) -> None:
        """Waits until the porters of these nodes have put everything, or are lost."""
        deadline = time.monotonic() + self._patience_s
        left = list(nodes)
        while left:
            calls = {node: self._porters[node].finish.remote() for node in left}
            left = [node for node, call in calls.items() if self._answered(node, call, self._patience_s) and not ray.get(call)]
            if left and time.monotonic() > deadline:
                raise self._unfinished(left[0], f"not within {self._patience_s:.0f} s")

    def _unfinished(self, node: str, why: object) -> StorageError:
        where = f"{self._nodes.address(node)}: logs of its attempts could not be put to the store"
        return StorageError(0, f"Node {where}: {why}"[:1000])

    def leave(self) -> None:
        """Ends the porters; what they have not put stays where it is."""
        for porter in self._porters.values():
            ray.kill(porter)
        self._porters, self._calls, self._lost = {}, {}, set()

    def _begin(self, node: str) -> None:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"num_cpus": 0, "runtime_env": dict(self._environment), "scheduling_strategy": there}
        self._porters[node] = ray.remote(Porter).options(**options).remote(*self._given)
        self._news[node] = [(dirname, True) for dirname in sorted(self._running.get(node, ()))]
        self._began[node] = time.monotonic()
        self._lost.discard(node)

    def _answered(self, node: str, call: Any, patience_s: float | None = None) -> bool:
        """Whether a porter has answered; one that is lost is noted."""
        try:
            ray.get(call, timeout=patience_s)
        except ray.exceptions.RayTaskError as error:
            self.leave()
            raise error.cause if isinstance(error.cause, TuneError) else self._unfinished(node, error) from None
        except ray.exceptions.RayError:
            del self._porters[node]
            self._calls.pop(node, None)
            self._lost.add(node)
            return False
        return True
