"""The driver's side of the local engine: which attempts run, what they say, how they end.

It knows workers by number, talks to each over a socket of its own, and to the server about processes. It knows no
journal and no controller: what it observes it returns from `poll`. Nothing of it is global: several engines live in one
process, in any threads, without signal handlers.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
from collections import deque

from holdfast import settings
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted, CheckpointBroken, Failure, ResultReported
from holdfast._worker.persist import remove_staging
from holdfast._worker.processes import end_with_token
from holdfast._worker.protocol import Answer, Begun, FromWorker, Workplace, staging_prefix
from holdfast._worker.surroundings import log_paths, trial_dir_of
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.control import ENDED, KILL, READY, START
from holdfast.engines.local.echo import INTERVAL_S, Echo
from holdfast.engines.local.launch import Guardian
from holdfast.engines.local.machine import available_cpus, host_and_address
from holdfast.engines.local.preload import modules_needed
from holdfast.engines.local.worker import Worker
from holdfast.errors import ConfigError, InternalError, WorkerLost

__all__ = ["LocalEngine"]

_LOG_TAIL = 4096


class LocalEngine:
    """Runs each attempt in a process of its own on this machine. Linux only.

    However the driver ends, `kill -9` included, its attempts end with it, with all processes that they started.

    Args:
        cpus: How many CPUs attempts may use in all; None: `HOLDFAST_CPUS`, else as many as this process may use.

    Raises:
        ConfigError: `cpus` is not positive.
    """

    name = "local"

    def __init__(self, cpus: float | None = None) -> None:
        count = cpus if cpus is not None else settings.cpus()
        if count is not None and count <= 0:
            raise ConfigError(f"LocalEngine(cpus={count}): trials need more than 0 CPUs. Leave it out to use what the machine has.")
        self._cpus = count
        self._fleet: _Fleet | None = None

    def resources(self) -> dict[str, float]:
        """What attempts can be given in all."""
        return {"cpu": float(self._cpus if self._cpus is not None else available_cpus())}

    def open(self, job: Job) -> None:
        """Starts the guardian and its server; returns before they are ready.

        Raises:
            ConfigError: A name in `log_to_file` leads out of the trial's directory without being absolute.
            InternalError: The engine is open already.
        """
        if self._fleet is not None:
            raise InternalError("LocalEngine.open() was called twice.")
        self._fleet = _Fleet(job)

    def start(self, order: StartAttempt) -> None:
        """Begins an attempt in a new process, or in an idle one where the job reuses workers.

        Raises:
            ConfigError: The trial's directory name is no plain name.
        """
        if os.path.basename(order.dirname) != order.dirname or order.dirname in ("", ".", ".."):
            raise ConfigError(f"A trial's directory must be a plain name, not {order.dirname!r}. Correct trial_dirname_creator.")
        self._opened().start(order)

    def reply(self, trial_id: str, attempt: int, number: int, action: str) -> None:
        """Answers a report. Nothing happens when the attempt is over."""
        self._opened().reply(Answer(trial_id, attempt, number, action))

    def kill(self, trial_id: str, attempt: int) -> None:
        """Kills an attempt's process tree; its end follows from `poll`. Nothing happens when it is over."""
        self._opened().kill(trial_id, attempt)

    def poll(self, timeout: float) -> list[Observation]:
        """Waits up to `timeout` seconds; returns what happened, each attempt's part in order.

        Raises:
            WorkerLost: The processes that run attempts cannot be started on this machine; says why.
        """
        return self._opened().poll(timeout)

    def wake(self) -> None:
        """Makes a `poll` in progress return."""
        if self._fleet is not None:
            self._fleet.wake()

    def close(self) -> None:
        """Kills everything; when it returns, no process is left."""
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.close()

    def _opened(self) -> _Fleet:
        if self._fleet is None:
            raise InternalError("The engine is not open: call open(job) first.")
        return self._fleet


class _Fleet:
    """The workers of one open engine."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._place = _workplace(job)
        self._host, self._ip = host_and_address()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._workers: dict[int, Worker] = {}
        self._by_descriptor: dict[int, Worker] = {}
        self._running: dict[tuple[str, int], Worker] = {}
        self._idle: list[Worker] = []
        self._orders: deque[tuple[int, int, socket.socket | None]] = deque()
        self._observed: list[Observation] = []
        self._echo = Echo() if job.echo else None
        self._numbered = 0
        os.makedirs(os.path.join(job.experiment_dir, "logs"), exist_ok=True)
        self._launch()

    def _launch(self) -> None:
        self._ready = False
        self._guardian = Guardian(self._place, self._job.environment, self._job.token)
        self._epoll.register(self._guardian.lifeline, select.EPOLLIN)
        self._epoll.register(self._guardian.control, select.EPOLLIN)

    def start(self, order: StartAttempt) -> None:
        """Gives the order to an idle worker or to a new one."""
        if self._idle:
            worker = self._idle.pop()
        else:
            self._numbered += 1
            connection, theirs = socket.socketpair()
            worker = Worker(self._numbered, connection)
            self._workers[worker.number] = worker
            self._by_descriptor[connection.fileno()] = worker
            self._epoll.register(connection, select.EPOLLIN)
            self._order(START, worker.number, theirs)
        self._running[order.trial_id, order.attempt] = worker
        if not worker.take_up(order):
            self._epoll.modify(worker.connection, select.EPOLLIN | select.EPOLLOUT)
        if self._echo is not None:
            os.makedirs(trial_dir_of(self._place, order), exist_ok=True)

    def reply(self, answer: Answer) -> None:
        """Sends an answer to the worker that waits for it."""
        worker = self._running.get((answer.trial_id, answer.attempt))
        if worker is not None and not worker.send(answer):
            self._epoll.modify(worker.connection, select.EPOLLIN | select.EPOLLOUT)

    def kill(self, trial_id: str, attempt: int) -> None:
        """Has the server kill the attempt's worker."""
        worker = self._running.get((trial_id, attempt))
        if worker is not None:
            self._order(KILL, worker.number)

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
                    self._send_orders()
                self._hear_server()
        if self._echo is not None:
            self._echo.show()
        observed, self._observed = self._observed, []
        return observed

    def close(self) -> None:
        """Ends the guardian with all below it; lets every descriptor go."""
        self._guardian.end(nothing_ran=not self._running)
        for _, _, theirs in self._orders:
            if theirs is not None:
                theirs.close()
        for worker in self._workers.values():
            worker.connection.close()
        self._epoll.close()
        os.close(self._bell)
        if self._echo is not None:
            for attempt in self._running:
                self._echo.finish(attempt)

    def _order(self, verb: int, number: int, theirs: socket.socket | None = None) -> None:
        self._orders.append((verb, number, theirs))
        if len(self._orders) == 1:
            self._send_orders()

    def _send_orders(self) -> None:
        """Sends what the server has room for; the rest goes when its socket takes it."""
        while self._orders:
            verb, number, theirs = self._orders[0]
            try:
                self._guardian.order(verb, number, theirs)
            except BlockingIOError:
                self._epoll.modify(self._guardian.control, select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                return  # the server is gone: its guardian says so next, and the order stays for the next server or is dropped
            self._orders.popleft()
            if theirs is not None:
                theirs.close()
        self._epoll.modify(self._guardian.control, select.EPOLLIN)

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
        if isinstance(message, ResultReported | CheckpointBroken):
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
        self._observed.append(AttemptStarted(order.order, order.trial_id, order.attempt, self._host, self._ip, worker.pid))
        if self._echo is not None:
            prefix = f"({order.name} pid={worker.pid}) "
            self._echo.follow((order.trial_id, order.attempt), log_paths(self._place, order), prefix)

    def _end(self, worker: Worker, ended: AttemptEnded) -> None:
        """The attempt of a worker is over: its processes are gone, or it is idle."""
        worker.order = None
        del self._running[ended.trial_id, ended.attempt]
        self._observed.append(ended)
        if self._echo is not None:
            self._echo.finish((ended.trial_id, ended.attempt))

    def _hear_server(self) -> None:
        try:
            while (notice := self._guardian.heard()) is not None:
                verb, number, pid, status = notice
                if verb == READY:
                    self._ready = True
                elif verb == ENDED and number in self._workers:
                    self._bury(self._workers[number], pid, status)
        except EOFError:
            self._epoll.unregister(self._guardian.control)  # the guardian ends what is left and goes: see `_recover`

    def _bury(self, worker: Worker, pid: int, status: int | None) -> None:
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
        if worker.used and not worker.begun:
            self.start(order)  # it died while it was idle: the attempt has not begun, so nothing of it is lost
            return
        if not worker.begun:
            worker.pid = pid
            self._begin(worker, order)
        self._end(worker, worker.ended or AttemptEnded(order.trial_id, order.attempt, "failed", self._post_mortem(worker, order, status)))

    def _post_mortem(self, worker: Worker, order: StartAttempt, status: int | None) -> Failure:
        """Why a worker died, from its wait status (None: its server was lost) and its log; cleans up after it."""
        remove_staging(trial_dir_of(self._place, order), staging_prefix(order.attempt, self._place.nonce))
        code = None if status is None else os.waitstatus_to_exitcode(status)
        if code is None:
            message = f"The worker process {worker.pid} was ended because the process that had started it was lost"
        elif code < 0:
            message = f"The worker process {worker.pid} was killed by signal {-code} ({_signal_name(-code)})"
        else:
            message = f"The worker process {worker.pid} ended with exit code {code} without a word"
        return Failure(
            kind="worker",
            message=message,
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            log_tail=self._log_tail(order),
        )

    def _log_tail(self, order: StartAttempt) -> str:
        path = log_paths(self._place, order)[1]
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - _LOG_TAIL))
                tail = file.read().decode(errors="replace")
            if not size and self._place.log_to_file is None:
                os.unlink(path)
        except FileNotFoundError:
            return ""
        return tail

    def _recover(self) -> None:
        """The server or the guardian is gone: its attempts end, and a new one takes its place.

        Raises:
            WorkerLost: It never became ready, so another would fare no better.
        """
        guardian = self._guardian
        guardian.end()
        end_with_token(self._job.token)
        if not self._ready:
            raise WorkerLost(f"The processes that run trials could not be started on this machine. They said:\n{guardian.complaint()}")
        for _, _, theirs in self._orders:
            if theirs is not None:
                theirs.close()
        self._orders.clear()
        self._launch()
        for worker in list(self._workers.values()):
            self._bury(worker, worker.pid, None)


def _workplace(job: Job) -> Workplace:
    for name in job.log_to_file or ():
        if not os.path.isabs(name) and os.path.normpath(name).startswith(".."):
            raise ConfigError(f"log_to_file={name!r} leads out of the trial's directory. Give a plain name, or an absolute path.")
    return Workplace(
        experiment_dir=job.experiment_dir,
        experiment_name=job.experiment_name,
        trainable=job.trainable,
        seed=job.seed,
        working_dir=job.working_dir,
        sys_path=job.sys_path,
        chdir=job.chdir,
        log_to_file=job.log_to_file,
        reuse_workers=job.reuse_workers,
        preload=modules_needed(job.trainable),
        spawn=settings.start_method() == "spawn",
        nonce=secrets.token_hex(4),
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
