"""The actors of one open engine: which attempts run, what they say, how they end.

It knows seats, the mailbox and the cluster's nodes. It knows no journal and no controller: what it observes it returns
from `poll`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pickle import PickleBuffer
from typing import Any

import ray

from holdfast import settings
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted
from holdfast._worker.logs import note_names
from holdfast._worker.protocol import Answer, Workplace, encode_place
from holdfast._worker.surroundings import log_paths, trial_dir_of
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.echo import INTERVAL_S, Echo
from holdfast.engines.local.fleet import workplace_of
from holdfast.engines.local.machine import host_and_address
from holdfast.engines.ray.abstract import reach
from holdfast.engines.ray.bell import Bell
from holdfast.engines.ray.cluster import Nodes, own_node
from holdfast.engines.ray.endings import Endings
from holdfast.engines.ray.ground import World, reports_dir
from holdfast.engines.ray.idle import Idle
from holdfast.engines.ray.line import Line, Mail
from holdfast.engines.ray.messages import AllSaid, FromActor, Placed, decode_from_actor
from holdfast.engines.ray.parent import REPORTS, TOKEN
from holdfast.engines.ray.porter import Porters
from holdfast.engines.ray.seat import Left, Over, Seat, runtime_env
from holdfast.engines.ray.shim import DRIVER, LOADS
from holdfast.engines.ray.wires import Wires
from holdfast.objects import held
from holdfast.storage.uri import is_uri

__all__ = ["Crew"]

_NODE_GONE = ("node", "preempted")  # kinds of failures
_SMALL = 64 << 10  # bytes that Ray sends with the call, without its store
_AROUND_S = 0.2  # between two looks for word of processes that are gone: Ray itself takes more than a second to say so
_LOOK_S = 0.02  # between two looks for word of a process that is about to be gone
_CLOSING_S = 20.0


class Crew:
    """The actors of one open engine.

    Raises:
        ConfigError: A node cannot open the store.
    """

    def __init__(self, job: Job, nodes: Nodes, environment: Mapping[str, Any]) -> None:
        self.bell = Bell()
        self._nodes = nodes
        self._wires = Wires(self.bell.fileno())
        self._place = workplace_of(job)
        self._reports = reports_dir(job.experiment_dir, self._place.nonce)
        os.makedirs(self._reports)
        if job.log_to_file is not None:
            note_names(os.path.dirname(self._reports), job.log_to_file)
        variables = {"HOLDFAST_TOKEN": job.token, "TUNE_ORIG_WORKING_DIR": job.working_dir}
        beginning = _how_to_begin(self._place, self._wires.name)
        self._environment = runtime_env(environment, {TOKEN: job.token, REPORTS: self._reports, **beginning})
        objects = {key: ray.put(PickleBuffer(memory)) for key, memory in held().items()}
        below = os.path.relpath(job.experiment_dir, settings.cache_dir()) if is_uri(job.storage) else ""
        world = World(host_and_address()[0], {**job.environment, **variables}, objects, below, own_node(), self._wires.name)
        self._given = _parcel(self._place, world)
        given = *self._given, job.artifacts_s
        self._porters = Porters(nodes, given, self._environment, job.storage_timeout_s + _CLOSING_S) if below else None
        self._seats: dict[tuple[str, int], Seat] = {}
        self._idle = Idle(self.bell)
        self._gone: list[Seat] = []
        self._observed: list[Observation] = []
        self._echo = Echo() if job.echo else None
        self._looked = self._visited = 0.0
        self._line = Line(self.bell)
        lived = self._porters.lived if self._porters is not None else lambda _: 0.0
        self._endings = Endings(self._place, self._reports, nodes, lived, watched="py_executable" in self._environment)
        if self._porters is not None:
            try:
                self._porters.wait_until_open()
            except BaseException:
                self.close()
                raise

    def start(self, order: StartAttempt) -> None:
        """Gives the order to an idle actor with the same resources, or to a new one."""
        seat = self._idle.take(order) or Seat(order, (*self._given, self._line.mailbox), self._environment)
        self._seats[order.trial_id, order.attempt] = seat
        if self._echo is not None:
            os.makedirs(trial_dir_of(self._place, order), exist_ok=True)
            self._echo.expect((order.trial_id, order.attempt), log_paths(self._place, order))
        seat.take_up(order, self.bell)

    def reply(self, answer: Answer) -> None:
        """Sends an answer to the attempt that waits for it."""
        if self._wires.reach(answer.trial_id, answer.attempt):
            self._wires.answer(answer)
        elif (answer.trial_id, answer.attempt) in self._seats:
            self._line.answer(answer)

    def kill(self, trial_id: str, attempt: int) -> None:
        """Kills an attempt's actor."""
        seat = self._seats.get((trial_id, attempt))
        if seat is not None:
            seat.killed = True
            seat.kill()

    def poll(self, timeout: float) -> list[Observation]:
        """See `RayEngine.poll`."""
        if self._observed:
            timeout = 0.0
        elif self._gone:
            timeout = min(timeout, _LOOK_S)
        elif self._echo is not None and self._seats:
            timeout = min(timeout, INTERVAL_S)
        self._line.turn()
        self._wires.wait(min(timeout, _AROUND_S if self._seats else 1.0))
        self._look_around()
        happened = self.bell.happened()
        for message in self._wires.received():  # behind both: what an attempt that is over had sent is known before its end
            self._hear(message)
        for happening in happened:
            if isinstance(happening, Over):
                self._hear_end(happening)
            elif isinstance(happening, Left):
                self._idle.has_left(happening)
            else:
                self._hear_mail(happening)
        for seat in list(self._gone):
            self._bury(seat)
        if self._echo is not None:
            self._echo.show()
        observed, self._observed = self._observed, []
        return observed

    def close(self) -> None:
        """Ends all actors and the mailbox, waits until their processes are gone, and lets everything go."""
        try:
            if self._place.class_trainable:
                self._let_clean_up()
            for seat in self._seats.values():
                seat.killed = True
                seat.kill()
            deadline = time.monotonic() + _CLOSING_S
            while self._seats and time.monotonic() < deadline:
                self.poll(_LOOK_S)
            if self._porters is not None:
                self._porters.finish()
        finally:
            for seat in self._seats.values():
                seat.give_up()
            self._idle.kill(leaving=True)
            self._line.kill()
            self._nodes.close()
            self._wires.close()
            self.bell.close()
            shutil.rmtree(self._reports, ignore_errors=True)
            if self._echo is not None:
                for attempt in self._seats:
                    self._echo.finish(attempt)

    def _let_clean_up(self) -> None:
        """Tells class trainables that nothing more is to come, and waits until they have ended their step and cleaned up."""
        self._line.close()
        self._wires.hang_up()
        self._idle.dismiss()
        deadline = time.monotonic() + self._place.grace_s
        while (self._seats or self._idle.are_leaving()) and time.monotonic() < deadline:
            self.poll(1.0)

    def _hear_mail(self, mail: Mail) -> None:
        """Takes what has come. When the mailbox is gone, attempts that need it end, and later ones get a new one."""
        if mail.error is None:
            self._line.has_come()
            for message in mail.messages:
                self._hear(decode_from_actor(message))
            return
        self._line = Line(self.bell)
        self._idle.kill(leaving=False)
        for attempt, seat in self._seats.items():
            seat.heard = True
            if not self._wires.reach(*attempt):
                seat.error = mail.error
                seat.kill()

    def _hear(self, message: FromActor) -> None:
        seat = self._seats.get((message.trial_id, message.attempt))
        if seat is None:
            return  # of an attempt that is over
        if isinstance(message, Placed):
            seat.placed = message
            seat.heard = self._wires.reach(message.trial_id, message.attempt)  # a socket is read to its end before an end is told
            if message.away and self._porters is not None:
                assert seat.order is not None
                self._porters.begun(message.node, seat.order.dirname)
                if self._echo is not None:
                    _look_no_more(self._echo, seat.order, self._place)
            self._begin(seat)
        elif isinstance(message, AllSaid):
            seat.heard = True
        elif isinstance(message, AttemptEnded):
            seat.ended = message
        else:
            self._observed.append(message)

    def _hear_end(self, over: Over) -> None:
        """The call that ran an attempt is over: the actor is idle, or about to be gone."""
        seat = self._seats.get(over.attempt)
        if seat is not over.seat:
            return
        seat.error = over.error
        if not seat.over_since:
            self._is_over(over.attempt, seat)

    def _is_over(self, attempt: tuple[str, int], seat: Seat) -> None:
        seat.over_since = time.monotonic()
        self._gone.append(seat)
        if not seat.heard:
            self._line.ask_back(AllSaid(*attempt))

    def _look_around(self) -> None:
        """Looks whether nodes, or processes of which Ray has not said so yet, are gone."""
        now = time.monotonic()
        if now - self._looked < _AROUND_S:
            return
        self._looked = now
        self._nodes.look({seat.placed.node for seat in self._seats.values() if seat.placed is not None})
        if self._porters is not None and now - self._visited >= 1.0:
            self._visited = now
            self._porters.look()
        reported = set(os.listdir(self._reports))
        for attempt, seat in self._seats.items():
            if seat.placed is None or seat.over_since:
                continue
            if f"{seat.placed.worker}.json" in reported or self._nodes.is_dead(seat.placed.node):
                self._is_over(attempt, seat)

    def _begin(self, seat: Seat) -> None:
        order, placed = seat.order, seat.placed
        assert order is not None
        seat.begun = True
        host, ip, pid = (placed.host, placed.ip, placed.pid) if placed is not None else ("", "", 0)
        self._observed.append(AttemptStarted(order.order, order.trial_id, order.attempt, host, ip, pid, order.number))
        if self._echo is not None and not (placed is not None and placed.away):
            self._echo.follow((order.trial_id, order.attempt), f"({order.name} pid={pid}, ip={ip}) ")

    def _bury(self, seat: Seat) -> None:
        """Says how an attempt ended, when that is known."""
        order = seat.order
        assert order is not None
        if seat.error is None and seat.ended is not None and self._place.reuse_workers:
            self._gone.remove(seat)
            seat.over_since = 0.0
            self._end(seat, seat.ended)
            self._idle.add(seat)
            return
        if not self._endings.are_told(seat):
            return
        self._gone.remove(seat)
        # It was lost while it was idle, or Ray had put it on a node that was gone already: the attempt has not begun.
        if (seat.used or self._endings.node_died(seat)) and not seat.begun and not seat.killed:
            seat.give_up()
            self.start(order)
            return
        if not seat.begun and not seat.killed:
            self._begin(seat)
        if seat.ended is None and not seat.begun:
            ended = AttemptEnded(order.trial_id, order.attempt, "stopped")
        else:
            ended = seat.ended or AttemptEnded(order.trial_id, order.attempt, "failed", self._endings.failure(seat, order))
        seat.give_up()
        self._end(seat, ended)

    def _end(self, seat: Seat, ended: AttemptEnded) -> None:
        if self._porters is not None and seat.placed is not None and seat.placed.away and seat.order is not None:
            self._porters.ended(seat.placed.node, seat.order.dirname)
        if ended.failure is not None and ended.failure.kind in _NODE_GONE:
            # A copy lay there, and Ray asks a node that it has not given up for it, again and again: a new one lies here alone.
            self._given = _parcel(self._place, self._given[1])
        seat.order = None
        seat.used = True
        del self._seats[ended.trial_id, ended.attempt]
        self._observed.append(ended)
        if self._echo is not None:
            self._echo.finish((ended.trial_id, ended.attempt))


def _how_to_begin(place: Workplace, driver: str) -> dict[str, str]:
    """What tells shims that workers are forked, and fork servers what to load and whom to go with."""
    if place.spawn:
        return {}
    return {DRIVER: f"{driver}@{reach()}", LOADS: json.dumps({"modules": place.preload, "threads": place.threads})}


def _parcel(place: Workplace, world: World) -> tuple[Any, World]:
    """What an actor is made of. What is large goes through Ray's store, once: actors on one node share a copy."""
    encoded = encode_place(place)
    return (encoded if len(encoded) <= _SMALL else ray.put(encoded)), world


def _look_no_more(echo: Echo, order: StartAttempt, place: Workplace) -> None:
    """The log of an attempt is on its own node: the one here, which was made to be followed, goes unless it is an older one's."""
    echo.finish((order.trial_id, order.attempt))
    for path in log_paths(place, order):
        with contextlib.suppress(FileNotFoundError):  # both may be the same file
            if os.path.getsize(path) == 0:
                os.unlink(path)
