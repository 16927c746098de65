"""A seat: one actor as the driver sees it, with the placement group that it may sit in and the attempt that it runs.

It knows one actor's handle. It does not know the mailbox, other seats, or what comes of an attempt's end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded
from holdfast._core.policy import Placement
from holdfast._worker.protocol import encode_place
from holdfast.engines.ray.bell import Bell
from holdfast.engines.ray.cluster import written
from holdfast.engines.ray.messages import Placed
from holdfast.engines.ray.post import Post

__all__ = ["Left", "Over", "Seat", "runtime_env"]


class Over:
    """The call that ran an attempt has returned.

    Attributes:
        seat: Whose call it was.
        attempt: Which attempt.
        error: Why it did not return as it should; None where the actor can run another attempt.
    """

    def __init__(self, seat: Seat, attempt: tuple[str, int], error: BaseException | None) -> None:
        self.seat = seat
        self.attempt = attempt
        self.error = error


class Left:
    """An actor that was idle has cleaned up and ended, or is gone otherwise."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat


class Seat:
    """An actor.

    Attributes:
        order: The attempt that it runs, None while it is idle.
        placed: Where it runs; None while that is not known.
        begun: Whether it has said that it took up `order`.
        used: Whether it has run an attempt before.
        heard: Whether all that it told before it was gone is known when `over_since` is: what it tells through the mailbox may
            come after word of its end.
        ended: Its own word that the attempt is over.
        error: What Ray said when the call that ran the attempt ended without a word; None while it runs.
        over_since: When the actor was found to be gone; 0 while it lives.
        killed: Whether somebody here asked for its end.
    """

    def __init__(self, order: StartAttempt, given: tuple[Any, ...], environment: Mapping[str, Any]) -> None:
        self.given = order.resources, order.placement
        self.order: StartAttempt | None = None
        self.placed: Placed | None = None
        self.begun = self.used = self.killed = self.heard = False
        self.ended: AttemptEnded | None = None
        self.error: BaseException | None = None
        self.over_since = 0.0
        self._group: Any = None
        options: dict[str, Any] = {"runtime_env": dict(environment), "max_restarts": 0, "max_task_retries": 0}
        if order.placement is None:
            options |= _asked(order.resources)
        else:
            options |= self._in_group(order.placement)
        self._actor: Any = ray.remote(Post).options(**options).remote(*given)

    def take_up(self, order: StartAttempt, bell: Bell) -> None:
        """Has the actor run an attempt; the bell rings with `Over` when the call is over."""
        self.used = self.order is not None or self.used
        self.order, self.begun, self.heard, self.ended, self.error = order, False, False, None, None
        attempt = order.trial_id, order.attempt
        future = self._actor.run.remote(encode_place(order)).future()
        future.add_done_callback(lambda done: bell.ring(Over(self, attempt, done.exception())))

    def leave(self, bell: Bell) -> None:
        """Has an idle actor clean up and end; the bell rings with `Left` when it has."""
        self._actor.leave.remote().future().add_done_callback(lambda _: bell.ring(Left(self)))

    def kill(self) -> None:
        """Ends the actor at once."""
        ray.kill(self._actor, no_restart=True)

    def give_up(self) -> None:
        """Lets the placement group go; the actor is gone or is to go."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def _in_group(self, placement: Placement) -> dict[str, Any]:
        head, *others = placement.bundles
        bundles = [written(bundle) for bundle in (head, *others) if bundle]
        self._group = placement_group(bundles, strategy=placement.strategy)
        # Whoever asks for one bundle has no room in it for more than the trial: its tasks go where there is some.
        strategy = PlacementGroupSchedulingStrategy(self._group, 0, placement_group_capture_child_tasks=len(bundles) > 1)
        return {**_asked(head), "scheduling_strategy": strategy}


def runtime_env(asked: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """The user's runtime environment with the engine's variables, and the shim as the parent of the process.

    Where the user names an executable or an image of their own, that is started as it is: how it ended is then not known.
    """
    environment = {**asked, "env_vars": {**asked.get("env_vars", {}), **variables}}
    if not {"py_executable", "conda", "container", "image_uri", "uv", "pip"} & set(asked):
        environment["py_executable"] = f"{sys.executable} -m holdfast.engines.ray.shim {sys.executable}"
    return environment


def _asked(amounts: Mapping[str, float]) -> dict[str, Any]:
    """Amounts as an actor's options."""
    rest = {kind: amount for kind, amount in amounts.items() if kind not in ("cpu", "gpu", "memory")}
    options: dict[str, Any] = {"num_cpus": amounts.get("cpu", 0.0), "num_gpus": amounts.get("gpu", 0.0)}
    if amounts.get("memory"):
        options["memory"] = int(amounts["memory"])
    return {**options, "resources": rest} if rest else options
