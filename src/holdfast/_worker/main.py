"""A worker: the process that runs attempts, one after another, and talks to the driver over one socket.

It begins where the process has been forked or started; it ends the process. It knows no controller, no journal and no
scheduler: it is told an attempt and answers with rows and an end.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle
import msgspec

from holdfast import settings, values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointBroken, Failure, ResultReported
from holdfast._worker.attempt import Attempt
from holdfast._worker.keepers import keeper_of
from holdfast._worker.keeping import Broken, Keeper, Origin
from holdfast._worker.processes import become_subreaper, end_descendants, has_children, most_memory
from holdfast._worker.protocol import (
    Answer,
    Begun,
    Channel,
    Devices,
    DriverGone,
    FrameReader,
    FromWorker,
    ToWorker,
    Workplace,
    decode_to_worker,
    frame,
    staging_prefix,
)
from holdfast._worker.run_class import Desk, Loads, Rules, run_class
from holdfast._worker.run_function import run_function
from holdfast._worker.surroundings import Around, Surroundings
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError
from holdfast.objects import supplying
from holdfast.session import TuneContext
from holdfast.trainable.tally import counters_in

__all__ = ["CLEAN_EXIT", "SocketChannel", "begin_process", "run_attempt", "work"]

CLEAN_EXIT = 83
"""The exit code of a worker that knows that it leaves no process behind."""


_RECEIVED = 4096
"""Small, because a new process pays for each page that it touches first; an answer takes 40 bytes."""


class SocketChannel:
    """The worker's end of its socket to the driver. The process ends when the driver is gone.

    Args:
        connection: The socket.
        polite: Whether `ask` then raises `DriverGone` instead, because there is something to clean up.
        before_row: Called before each row is sent.

    Attributes:
        devices: The GPUs of the newest attempt.
    """

    def __init__(self, connection: socket.socket, *, polite: bool = False, before_row: Callable[[], None] = lambda: None) -> None:
        self.devices: str | None = None
        self._polite = polite
        self._before_row = before_row
        self._connection = connection
        self._reader = FrameReader()
        self._received: list[ToWorker] = []
        self._sending = threading.Lock()

    def tell(self, message: FromWorker) -> None:
        """Sends a message; safe in any thread."""
        try:
            with self._sending:
                self._connection.sendall(frame(message))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)

    def ask(self, row: ResultReported) -> Answer:
        """Sends a row; returns what answers it."""
        self._before_row()
        self.tell(row)
        while True:
            message = self.receive()
            if message is None and self._polite:
                raise DriverGone
            if message is None:
                os._exit(1)
            if isinstance(message, Answer) and message.number == row.number and message.attempt == row.attempt:
                return message

    def next_order(self) -> StartAttempt | None:
        """The next attempt to run; None when there is none to come. Answers that nobody waits for any more are passed over."""
        while (message := self.receive()) is not None:
            if isinstance(message, StartAttempt):
                return message
            if isinstance(message, Devices):
                self.devices = message.visible
        return None

    def receive(self) -> ToWorker | None:
        """The next message; None when the driver has closed its end."""
        while not self._received:
            try:
                data = self._connection.recv(_RECEIVED)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._received = [decode_to_worker(body) for body in self._reader.feed(data)]
        return self._received.pop(0)


def work(connection: socket.socket, place: Workplace) -> None:
    """Runs the attempts that arrive, then ends the process. Call it in the main thread; it does not return."""
    become_subreaper()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # a session's leader already has a group of its own
        os.setpgid(0, 0)
    surroundings = Surroundings(place)
    channel = SocketChannel(connection, polite=place.class_trainable, before_row=surroundings.rotate_logs)

    def abandon(ended: AttemptEnded | None) -> None:
        print(f"holdfast: cleanup() took longer than {place.grace_s} s; the process is ended.", file=sys.stderr)  # noqa: T201
        if ended is not None:
            _finish(ended, channel, surroundings)
        os._exit(1)

    desk = Desk(keep=place.reuse_workers, patience_s=place.grace_s, overdue=abandon)
    while True:
        order = channel.next_order()
        if order is None:
            break
        surroundings.devices = channel.devices
        try:
            ended = run_attempt(order, channel, surroundings, place, desk)
        except DriverGone:
            break
        # A thread that an attempt left running could report in the name of the next one: such a process is not used again.
        if not place.reuse_workers or ended.outcome == "failed" or threading.active_count() > 1:
            desk.clear(ended)
            _run_exit_handlers()
            _finish(ended, channel, surroundings)
            os._exit(CLEAN_EXIT)
        _finish(ended, channel, surroundings)
    desk.clear(None)
    _run_exit_handlers()
    end_descendants()
    os._exit(CLEAN_EXIT)


def _finish(ended: AttemptEnded, channel: SocketChannel, surroundings: Surroundings) -> None:
    """Leaves nothing of the attempt behind, and says that it is over."""
    if has_children():
        end_descendants()
    with contextlib.suppress(OSError):  # the directory may be gone, the disk full: what the attempt did is decided
        surroundings.leave()
    channel.tell(ended)


def run_attempt(
    order: StartAttempt, channel: Channel, surroundings: Around, place: Workplace, desk: Desk | None = None
) -> AttemptEnded:
    """Runs one attempt in this process, from its surroundings to its end, which is returned and not told.

    Args:
        order: What to run.
        channel: Where its rows go.
        surroundings: What gives the process the attempt's directory, and knows the end of its log.
        place: What the engine's processes know.
        desk: Where the instance of a class trainable stays between attempts; None: it stays nowhere.

    Raises:
        DriverGone: There is nobody left to report to.
    """
    channel.tell(Begun(order.trial_id, order.attempt, os.getpid()))
    try:
        surroundings.enter(order)
    except OSError as error:
        return _failed(order, Failure("storage", f"The trial's directory could not be prepared: {error}"))
    try:
        prefix = staging_prefix(order.attempt, place.nonce)
        keeper = keeper_of(place.experiment_dir, place.storage, order.dirname, place.storage_timeout_s, prefix)
    except ConfigError as error:
        return _failed(order, Failure("storage", str(error)))
    with contextlib.ExitStack() as held:
        begins = _beginning(order, channel, keeper, place, held)
        if isinstance(begins, Failure):
            return _failed(order, begins)
        ended = _ran(begins, channel, keeper, place, desk)
    if ended.failure is not None:
        with contextlib.suppress(OSError):  # without the log's end the failure still says what happened
            tail, peak = surroundings.log_tail(), most_memory()
            return _failed(order, msgspec.structs.replace(ended.failure, log_tail=tail, peak_memory=peak))
    return ended


class _Beginning(NamedTuple):
    """The order with the counters that the attempt goes on from, and the checkpoint that it does; None: from scratch."""

    order: StartAttempt
    origin: Origin | None


def _beginning(
    order: StartAttempt, channel: Channel, keeper: Keeper, place: Workplace, held: contextlib.ExitStack
) -> _Beginning | Failure:
    """What the attempt goes on from, or why there is nothing to go on from."""
    if order.resume is not None:
        whose = f" of {order.donor}" if order.donor else ""
        try:
            return _Beginning(order, keeper.origin(order.resume, order.source or order.dirname, held))
        except Broken as broken:
            channel.tell(CheckpointBroken(order.trial_id, order.attempt, order.resume.index, str(broken), order.donor))
            return Failure("checkpoint", f"Checkpoint {order.resume.index}{whose} cannot be resumed from: {broken}")
        except OSError as error:
            return Failure("storage", f"Checkpoint {order.resume.index}{whose} could not be brought here: {error}")
    if place.begin_from:
        if not os.path.isdir(place.begin_from):
            return Failure("storage", f"The checkpoint that trials begin from is gone: {place.begin_from}")
        counters = counters_in(place.begin_from)
        iteration, seconds = int(counters.get("training_iteration", 0)), counters.get("time_total_s", 0.0)
        order = msgspec.structs.replace(order, iteration=iteration, time_total_s=seconds)
        return _Beginning(order, Origin(Checkpoint(place.begin_from), place.begin_from))
    return _Beginning(order, None)


def _ran(begins: _Beginning, channel: Channel, keeper: Keeper, place: Workplace, desk: Desk | None) -> AttemptEnded:
    """Runs the user's code to the attempt's end."""
    order = begins.order
    context = TuneContext(
        experiment_name=place.experiment_name,
        trial_name=order.name,
        trial_id=order.trial_id,
        trial_dir=keeper.trial_dir,
        trial_resources=order.resources,
        placement=order.placement,
        storage=place.storage,
    )
    attempt = Attempt(order, channel, context, keeper, upload=place.upload, origin=begins.origin)
    if not place.class_trainable:
        return run_function(lambda: (cloudpickle.loads(place.trainable), _config(order, place)), attempt)
    scratch = os.path.join(keeper.trial_dir, f"{staging_prefix(order.attempt, place.nonce)}saving")
    frequency, at_end = place.checkpoint_frequency, place.checkpoint_at_end
    rules = Rules(scratch, frequency, at_end, settings.restore_retries(), place.export_formats)
    loads = Loads(lambda: cloudpickle.loads(place.trainable), lambda: _config(order, place))
    return run_class(loads, attempt, rules, desk or Desk())


def _failed(order: StartAttempt, failure: Failure) -> AttemptEnded:
    return AttemptEnded(order.trial_id, order.attempt, "failed", failure)


def _config(order: StartAttempt, place: Workplace) -> Any:
    """The config, made here and nowhere before: loading what is in it runs the user's code."""

    def definition(sha: str) -> object:
        from holdfast.storage.definitions import Definitions
        from holdfast.storage.opening import open_storage

        return Definitions(open_storage(place.storage)).fresh(sha)

    references = {at: cloudpickle.loads(pickled) for at, pickled in place.references.items()}
    with supplying(references):
        return values.decode(order.config, definition, references)


def _run_exit_handlers() -> None:
    """Does what Python does at the end of a process, so that libraries write out what they hold.

    Children of `multiprocessing` are ended first: it would wait for them.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        for child in multiprocessing.active_children():
            child.kill()
    atexit._run_exitfuncs()


def begin_process() -> None:
    """Undoes, in a process that has just been forked or started, what guardian and server did for their own sake."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.enable()
