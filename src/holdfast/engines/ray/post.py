"""The post: the actor that runs attempts, one after another, in the main thread of its process.

It gives a Ray worker's process what a trial finds around it on every engine, runs the same code as the local engine's workers
do, and talks to the driver over a socket or through the mailbox. It knows nothing of why it was placed where it is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import ray

from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, ResultReported
from holdfast._worker.main import SocketChannel, run_attempt
from holdfast._worker.processes import become_subreaper, end_descendants, has_children
from holdfast._worker.protocol import (
    Answer,
    Begun,
    Channel,
    DriverGone,
    FromWorker,
    decode_to_worker,
    encode_place,
)
from holdfast._worker.run_class import Desk
from holdfast._worker.surroundings import Surroundings
from holdfast.engines.local.machine import host_and_address
from holdfast.engines.ray.abstract import connected
from holdfast.engines.ray.ground import World, ground
from holdfast.engines.ray.messages import Placed
from holdfast.errors import InternalError

__all__ = ["Post"]


_NO_BUNDLE = "cannot fit into any bundles"  # as Ray says it


class Post:
    """An actor; its methods are called through Ray.

    Args:
        place: An encoded `Workplace`.
        world: What is around the driver.
        mailbox: The mailbox's handle.
    """

    def __init__(self, place: bytes, world: World, mailbox: Any) -> None:
        become_subreaper()
        self._place, away = ground(place, world)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):  # Ray may have put a stream of its own there
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        self._surroundings = Surroundings(self._place)
        self._channel = _Announced(self._road(world, mailbox), away)
        self._desk = Desk(keep=self._place.reuse_workers, patience_s=self._place.grace_s, overdue=self._abandon)
        self._threads = threading.active_count()

    def _road(self, world: World, mailbox: Any) -> Channel:
        """The way to the driver: a socket on its own node, the mailbox elsewhere."""
        polite, before_row = self._place.class_trainable, self._surroundings.rotate_logs
        here = ray.get_runtime_context().get_node_id() == world.node
        connection = connected(world.wire) if here else None
        if connection is not None:
            return SocketChannel(connection, polite=polite, before_row=before_row)
        return CallChannel(mailbox, polite=polite, before_row=before_row)

    def run(self, order: bytes) -> bool:
        """Runs an attempt. Returns True where this post can run another; otherwise the process ends instead.

        The end of the attempt is told before.
        """
        start = decode_to_worker(order)
        if not isinstance(start, StartAttempt):
            raise InternalError(f"A post was ordered to run {type(start).__name__}.")
        try:
            ended = run_attempt(start, self._channel, self._surroundings, self._place, self._desk)
        except DriverGone:
            self._desk.clear(None)
            self._leave()
        ended = _with_remedy(ended)
        # A thread that an attempt left running could report in the name of the next one: such a process is not used again.
        if not self._place.reuse_workers or ended.outcome == "failed" or threading.active_count() > self._threads:
            self._desk.clear(ended)
            self._finish(ended)
            self._leave()
        if has_children():
            end_descendants()
        self._finish(ended)
        return True

    def leave(self) -> None:
        """Has what is kept between attempts clean up, and ends the process."""
        self._desk.clear(None)
        self._leave()

    def _finish(self, ended: AttemptEnded) -> None:
        with contextlib.suppress(OSError):  # the directory may be gone, the disk full: what the attempt did is decided
            self._surroundings.leave()
        self._channel.tell(ended)

    def _leave(self) -> NoReturn:
        """Ends the process as Python does, so that libraries write out what they hold; what is left below it ends after it."""
        multiprocessing = sys.modules.get("multiprocessing")
        for child in multiprocessing.active_children() if multiprocessing is not None else ():
            child.kill()  # else it would be waited for
        ray.actor.exit_actor()
        raise InternalError("exit_actor() returned")

    def _abandon(self, ended: AttemptEnded | None) -> None:
        print(f"holdfast: cleanup() took longer than {self._place.grace_s} s; the process is ended.", file=sys.stderr)  # noqa: T201
        if ended is not None:
            self._finish(ended)
        os._exit(1)


class _Announced:
    """A way to the driver that says where an attempt is, when it begins.

    Args:
        road: The way.
        away: Whether attempts here run in a directory that the driver does not see.
    """

    def __init__(self, road: Channel, away: bool) -> None:
        self._road = road
        self._away = away
        self.ask = road.ask

    def tell(self, message: FromWorker) -> None:
        """Sends a message; safe in any thread."""
        told: Any = message
        if isinstance(message, Begun):
            context = ray.get_runtime_context()
            where = context.get_node_id(), context.get_worker_id(), *host_and_address(), message.pid, self._away
            told = Placed(message.trial_id, message.attempt, *where)
        self._road.tell(told)


class CallChannel:
    """An attempt's way to a driver on another node. The process ends when the mailbox is gone, or wants nothing more.

    Args:
        mailbox: The mailbox's handle.
        polite: Whether `ask` then raises `DriverGone` instead, because there is something to clean up.
        before_row: Called before each row is sent.
    """

    def __init__(self, mailbox: Any, *, polite: bool, before_row: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._polite = polite
        self._before_row = before_row

    def tell(self, message: Any) -> None:
        """Sends a message; safe in any thread. It has arrived when this returns."""
        self._send(self._mailbox.tell.remote(encode_place(message)))

    def ask(self, row: ResultReported) -> Answer:
        """Sends a row; returns what answers it."""
        self._before_row()
        place = row.trial_id, row.attempt, row.number
        answer = self._send(self._mailbox.ask.remote(encode_place(row), place))
        if answer is None:
            self._give_up()
        decoded = decode_to_worker(answer)
        if not isinstance(decoded, Answer):
            raise InternalError(f"A row was answered by {type(decoded).__name__}.")
        return decoded

    def _send(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.RayError:
            self._give_up()

    def _give_up(self) -> NoReturn:
        if self._polite:
            raise DriverGone
        os._exit(1)


def _with_remedy(ended: AttemptEnded) -> AttemptEnded:
    """Where Ray says of a task or actor of the trial's that it fits no bundle, what to do; as our error, not the user's."""
    failure = ended.failure
    if failure is None or _NO_BUNDLE not in failure.message:
        return ended
    message = f"{failure.message} Add such a bundle: with_resources(trainable, PlacementGroupFactory([..., {{...}}]))."
    return msgspec.structs.replace(ended, failure=msgspec.structs.replace(failure, message=message, exception=b""))
