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
from typing import Any

import cloudpickle
import msgspec

from holdfast import values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointBroken, Failure, ResultReported
from holdfast._core.ids import checkpoint_name
from holdfast._worker import persist
from holdfast._worker.processes import become_subreaper, end_descendants, has_children
from holdfast._worker.protocol import (
    Answer,
    Begun,
    FrameReader,
    FromWorker,
    ToWorker,
    Workplace,
    decode_to_worker,
    frame,
    staging_prefix,
)
from holdfast._worker.run_function import FunctionSession, run_function
from holdfast._worker.surroundings import Surroundings
from holdfast.errors import DefinitionError
from holdfast.session import TuneContext

__all__ = ["CLEAN_EXIT", "SocketChannel", "begin_process", "work"]

CLEAN_EXIT = 83
"""The exit code of a worker that knows that it leaves no process behind."""


_RECEIVED = 4096
"""Small, because a new process pays for each page that it touches first; an answer takes 40 bytes."""


class SocketChannel:
    """The worker's end of its socket to the driver. The process ends when the driver is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = FrameReader()
        self._received: list[ToWorker] = []

    def tell(self, message: FromWorker) -> None:
        """Sends a message."""
        try:
            self._connection.sendall(frame(message))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(1)

    def ask(self, row: ResultReported) -> str:
        """Sends a row; returns the action that answers it."""
        self.tell(row)
        while True:
            message = self.receive()
            if message is None:
                os._exit(1)
            if isinstance(message, Answer) and message.number == row.number and message.attempt == row.attempt:
                return message.action

    def next_order(self) -> StartAttempt | None:
        """The next attempt to run; None when there is none to come. Answers that nobody waits for any more are passed over."""
        while (message := self.receive()) is not None:
            if isinstance(message, StartAttempt):
                return message
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
    channel, surroundings = SocketChannel(connection), Surroundings(place)
    while True:
        order = channel.next_order()
        if order is None:
            break
        ended = _attempt(order, channel, surroundings, place)
        # A thread that an attempt left running could report in the name of the next one: such a process is not used again.
        if not place.reuse_workers or ended.outcome == "failed" or threading.active_count() > 1:
            _run_exit_handlers()
            _finish(ended, channel, surroundings)
            os._exit(CLEAN_EXIT)
        _finish(ended, channel, surroundings)
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


def _attempt(order: StartAttempt, channel: SocketChannel, surroundings: Surroundings, place: Workplace) -> AttemptEnded:
    channel.tell(Begun(order.trial_id, order.attempt, os.getpid()))
    try:
        trial_dir = surroundings.enter(order)
    except OSError as error:
        return _failed(order, Failure("storage", f"The trial's directory could not be prepared: {error}"))
    if order.resume is not None:
        problem = persist.verify(os.path.join(trial_dir, checkpoint_name(order.resume.index)), order.resume)
        if problem:
            channel.tell(CheckpointBroken(order.trial_id, order.attempt, order.resume.index, problem))
            return _failed(order, Failure("checkpoint", f"Checkpoint {order.resume.index} cannot be resumed from: {problem}"))
    context = TuneContext(
        experiment_name=place.experiment_name,
        trial_name=order.name,
        trial_id=order.trial_id,
        trial_dir=trial_dir,
        trial_resources=order.resources,
        storage=place.experiment_dir,
    )
    attempt = FunctionSession(order, channel, context, staging_prefix(order.attempt, place.nonce))
    ended = run_function(lambda: _load(order, place), attempt, order)
    if ended.failure is not None:
        with contextlib.suppress(OSError):  # without the log's end the failure still says what happened
            return _failed(order, msgspec.structs.replace(ended.failure, log_tail=surroundings.log_tail()))
    return ended


def _failed(order: StartAttempt, failure: Failure) -> AttemptEnded:
    return AttemptEnded(order.trial_id, order.attempt, "failed", failure)


def _load(order: StartAttempt, place: Workplace) -> tuple[Any, Any]:
    """The trainable and its config, made here and nowhere before: loading them runs the user's code."""

    def definition(sha: str) -> object:
        path = os.path.join(place.experiment_dir, "definitions", f"{sha}.pkl")
        try:
            with open(path, "rb") as file:
                return cloudpickle.load(file)
        except FileNotFoundError as error:
            raise DefinitionError(
                f"The config needs an object that should be at {path}. Bring that file back, then restore."
            ) from error

    return cloudpickle.loads(place.trainable), values.decode(order.config, definition)


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
