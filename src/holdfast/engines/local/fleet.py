"""The workers of one open engine: which attempts run, what they say, how they end.

It knows workers by number, talks to each over a socket of its own, and to the server about processes. It knows no
journal and no controller: what it observes it returns from `poll`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import time
from collections.abc import Sequence

import msgspec

from holdfast import settings
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted, CheckpointBroken, CheckpointCommitted, ResultReported
from holdfast._worker.logs import note_names
from holdfast._worker.processes import end_with_token
from holdfast._worker.protocol import Answer, Begun, FromWorker, Workplace
from holdfast._worker.surroundings import log_paths, trial_dir_of
from holdfast._worker.threads import VARIABLES
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.control import ENDED, KILL, READY, START
from holdfast.engines.local.echo import INTERVAL_S, Echo
from holdfast.engines.local.launch import Guardian
from holdfast.engines.local.machine import host_and_address
from holdfast.engines.local.memory import MemoryWatch
from holdfast.engines.local.post_mortem import Death, OomKills, post_mortem
from holdfast.engines.local.preload import modules_needed
from holdfast.engines.local.worker import Worker
from holdfast.errors import ConfigError, WorkerLost

__all__ = ["Fleet", "workplace_of"]

_OBSERVED = (ResultReported, CheckpointBroken, CheckpointCommitted)  # what a worker says goes on as it is


class Fleet:
    """The workers of one open engine."""

    def __init__(self, job: Job, preload: Sequence[str]) -> None:
        self._job = job
        self._place = workplace_of(job, preload)
        self._host, self._ip = host_and_address()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._workers: dict[int, Worker] = {}
        self._by_descriptor: dict[int, Worker] = {}
        self._running: dict[tuple[str, int], Worker] = {}
        self._idle: list[Worker] = []
        self._observed: list[Observation] = []
        self._echo = Echo() if job.echo else None
        self._memory = MemoryWatch()
        self._ooms = OomKills()
        self._numbered = 0
        self._closing = False
        logs_dir = os.path.join(job.experiment_dir, "logs")
        os.makedirs(logs_dir, exist_ok=True)
        if job.log_to_file is not None:
            note_names(logs_dir, job.log_to_file)
        self._launch()

    def _launch(self) -> None:
        self._ready = False
        self._guardian = Guardian(self._place, self._job.environment, self._job.token, self._epoll)

    def start(self, order: StartAttempt, devices: tuple[str, ...] = ()) -> None:
        """Gives the order to an idle worker that sees these GPUs, or to a new one."""
        if self._closing:
            return
        worker = next((idle for idle in self._idle if idle.devices == devices), None)
        if worker is not None:
            self._idle.remove(worker)
        else:
            for idle in self._idle:
                if set(devices) & set(idle.devices):  # it may hold memory on a GPU that is somebody else's now
                    self._guardian.order(KILL, idle.number)
            self._numbered += 1
            connection, theirs = socket.socketpair()
            worker = Worker(self._numbered, connection)
            worker.devices = devices
            self._workers[worker.number] = worker
            self._by_descriptor[connection.fileno()] = worker
            self._epoll.register(connection, select.EPOLLIN)
            self._guardian.order(START, worker.number, theirs)
        self._running[order.trial_id, order.attempt] = worker
        if self._echo is not None:
            os.makedirs(trial_dir_of(self._place, order), exist_ok=True)
            self._echo.expect((order.trial_id, order.attempt), log_paths(self._place, order))
        if not worker.take_up(order):
            self._epoll.modify(worker.connection, select.EPOLLIN | select.EPOLLOUT)

    def reply(self, answer: Answer) -> None:
        """Sends an answer to the worker that waits for it."""
        worker = self._running.get((answer.trial_id, answer.attempt))
        if worker is not None and not worker.send(answer):
            self._epoll.modify(worker.connection, select.EPOLLIN | select.EPOLLOUT)

    def kill(self, trial_id: str, attempt: int) -> None:
        """Has the server kill the attempt's worker."""
        worker = self._running.get((trial_id, attempt))
        if worker is not None:
            worker.killed = True
            self._guardian.order(KILL, worker.number)

    def wake(self) -> None:
        """Rings the bell that `poll` listens to."""
        os.eventfd_write(self._bell, 1)

    def poll(self, timeout: float) -> list[Observation]:
        """See `LocalEngine.poll`."""
        if self._observed:
            timeout = 0.0
        elif self._echo is not None and self._running:
            timeout = min(timeout, INTERVAL_S)
        for descriptor, mask in self._epoll.poll(timeout):
            worker = self._by_descriptor.get(descriptor)
            if worker is not None:
                self._attend(worker, mask)
            elif descriptor == self._bell:
                os.eventfd_read(self._bell)
            elif descriptor == self._guardian.lifeline.fileno():
                self._recover()
                break
            elif descriptor == self._guardian.control.fileno():
                if mask & select.EPOLLOUT:
                    self._guardian.flush()
                self._hear_server()
        if self._echo is not None:
            self._echo.show()
        observed, self._observed = self._observed, []
        return observed

    def close(self, *, at_once: bool = False) -> None:
        """Ends the guardian with all below it; lets every descriptor go. Class trainables are given time to clean up first."""
        try:
            if self._place.class_trainable and not at_once:
                _let_clean_up(self)
        finally:  # a second Ctrl+C ends the waiting
            self._guardian.end(nothing_ran=not self._running)
            for worker in self._workers.values():
                worker.connection.close()
            self._memory.close()
            self._epoll.close()
            os.close(self._bell)
            if self._echo is not None:
                for attempt in self._running:
                    self._echo.finish(attempt)

    def _attend(self, worker: Worker, mask: int) -> None:
        """Reads what a worker has sent, and sends what it can take."""
        if mask & select.EPOLLOUT and worker.flush():
            self._epoll.modify(worker.connection, select.EPOLLIN)
        if mask & ~select.EPOLLOUT:
            messages = worker.received()
            if messages is None:
                self._epoll.unregister(worker.connection)  # it is about to end: the server says how
                return
            for message in messages:
                self._hear(worker, message)

    def _hear(self, worker: Worker, message: FromWorker) -> None:
        order = worker.order
        if order is None or message.trial_id != order.trial_id or message.attempt != order.attempt:
            return
        if isinstance(message, _OBSERVED):
            self._observed.append(message)
        elif isinstance(message, Begun):
            worker.pid = message.pid
            self._begin(worker, order)
        elif self._job.reuse_workers and message.outcome != "failed":
            self._end(worker, message)
            self._idle.append(worker)
        else:
            worker.ended = message

    def _begin(self, worker: Worker, order: StartAttempt) -> None:
        worker.begun = True
        limit = order.resources.get("memory", 0)
        if limit:
            self._memory.watch((order.trial_id, order.attempt), worker.pid, int(limit))
        self._observed.append(
            AttemptStarted(order.order, order.trial_id, order.attempt, self._host, self._ip, worker.pid, order.number)
        )
        if self._echo is not None:
            prefix = f"({order.name} pid={worker.pid}) "
            self._echo.follow((order.trial_id, order.attempt), prefix)

    def _end(self, worker: Worker, ended: AttemptEnded) -> None:
        """The attempt of a worker is over: its processes are gone, or it is idle."""
        worker.order = None
        del self._running[ended.trial_id, ended.attempt]
        self._memory.forget((ended.trial_id, ended.attempt))
        self._observed.append(ended)
        if self._echo is not None:
            self._echo.finish((ended.trial_id, ended.attempt))

    def _hear_server(self) -> None:
        try:
            while (notice := self._guardian.heard()) is not None:
                verb, number, pid, status, peak = notice
                if verb == READY:
                    self._ready = True
                elif verb == ENDED and number in self._workers:
                    self._bury(self._workers[number], pid, status, peak)
        except EOFError:
            self._epoll.unregister(self._guardian.control)  # the guardian ends what is left and goes: see `_recover`

    def _bury(self, worker: Worker, pid: int, status: int | None, peak: int = 0) -> None:
        """A worker's process is gone; what it had sent before counts."""
        while messages := worker.received():
            for message in messages:
                self._hear(worker, message)
        del self._workers[worker.number], self._by_descriptor[worker.connection.fileno()]
        worker.connection.close()
        if worker in self._idle:
            self._idle.remove(worker)
        order = worker.order
        if order is None:
            return
        if not worker.begun and (worker.used or status is None):
            # It died while it was idle, or its server did: the attempt has not begun, nothing is lost.
            self.start(order, worker.devices)
            return
        if not worker.begun:
            worker.pid = pid
            self._begin(worker, order)
        use = self._memory.forget((order.trial_id, order.attempt))
        ended = worker.ended
        if ended is None:
            death = Death(worker.pid, status, use, unexplained=not worker.killed and self._ooms.another(status))
            ended = AttemptEnded(order.trial_id, order.attempt, "failed", post_mortem(self._place, order, death))
        if ended.failure is not None:
            most = max(ended.failure.peak_memory, peak, use.peak if use else 0)
            ended = msgspec.structs.replace(ended, failure=msgspec.structs.replace(ended.failure, peak_memory=most))
        self._end(worker, ended)

    def _recover(self) -> None:
        """The server or the guardian is gone: its attempts end, and a new one takes its place.

        Raises:
            WorkerLost: It never became ready, so another would fare no better.
        """
        guardian = self._guardian
        guardian.end()
        end_with_token(self._job.token.__eq__)
        if not self._ready:
            said = guardian.complaint()
            why = f"They said:\n{said}" if said else "They ended without a word, as when something kills them."
            raise WorkerLost(f"The processes that run trials could not be started on this machine. {why}")
        self._launch()
        for worker in list(self._workers.values()):
            self._bury(worker, worker.pid, None)


def _let_clean_up(fleet: Fleet) -> None:
    """Tells the workers that nothing more is to come, and waits until they have ended their step and cleaned up."""
    fleet._closing = True
    for worker in fleet._workers.values():
        with contextlib.suppress(OSError):  # it is dead already
            worker.connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + fleet._place.grace_s
    with contextlib.suppress(WorkerLost):  # there is nothing to wait for where no worker can live
        while fleet._ready and fleet._workers and (left := deadline - time.monotonic()) > 0:
            fleet.poll(min(left, 1.0))


def workplace_of(job: Job, preload: Sequence[str] = ()) -> Workplace:
    """What the processes of an engine know of a job.

    Raises:
        ConfigError: A name in `log_to_file` leads out of the trial's directory without being absolute.
    """
    for name in job.log_to_file or ():
        if not os.path.isabs(name) and os.path.normpath(name).startswith(".."):
            raise ConfigError(f"log_to_file={name!r} leads out of the trial's directory. Give a plain name, or an absolute path.")
    return Workplace(
        experiment_dir=job.experiment_dir,
        storage=job.storage or job.experiment_dir,
        storage_timeout_s=job.storage_timeout_s,
        experiment_name=job.experiment_name,
        trainable=job.trainable,
        seed=job.seed,
        working_dir=job.working_dir,
        sys_path=job.sys_path,
        chdir=job.chdir,
        log_to_file=job.log_to_file,
        reuse_workers=job.reuse_workers,
        upload=job.upload,
        class_trainable=job.class_trainable,
        checkpoint_frequency=job.checkpoint_frequency,
        checkpoint_at_end=job.checkpoint_at_end,
        grace_s=job.grace_s,
        begin_from=job.begin_from,
        export_formats=job.export_formats,
        references=job.references,
        preload=[*preload, *modules_needed(b" ".join([job.trainable, *job.references.values()]))],
        spawn=settings.start_method() == "spawn",
        log_bytes=settings.log_bytes(),
        threads=tuple(name for name in VARIABLES if name not in job.environment),
        nonce=secrets.token_hex(4),
    )
