"""The inline engine: attempts run one after another in the driver's own process and thread, for debuggers and profilers.

It knows how a trial's surroundings take turns with the driver's, and how a report lets the driver go on: `attend` gives the
engine the driver's turn, which it takes from inside the trial's `report`. It starts no process and redirects nothing, so
that breakpoints, `pdb` and profilers work; what can only be done to a process is not done here.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from holdfast._core.commands import CommitCheckpoint, StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted, CheckpointCommitted, CheckpointLost, Failure, ResultReported
from holdfast._worker import persist
from holdfast._worker.keepers import keeper_of
from holdfast._worker.main import run_attempt
from holdfast._worker.protocol import Answer, Begun, FromWorker, Workplace, staging_prefix
from holdfast._worker.seeds import kept_generators, seed_all
from holdfast._worker.surroundings import trial_dir_of
from holdfast.engines.base import Job, Observation
from holdfast.engines.local.engine import LocalEngine
from holdfast.engines.local.fleet import workplace_of
from holdfast.engines.local.machine import host_and_address
from holdfast.errors import ConfigError, InternalError, StorageError
from holdfast.session import StopTrial

__all__ = ["InlineEngine"]


class InlineEngine:
    """Runs trials one by one in the process and the thread that called `fit()`.

    While a trial's code runs, the driver stands still: it has its turn when the trial reports. An exception of the trial is
    its failure and does not end `fit()`; Ctrl+C does, at once, also in the middle of the trial's code, and the experiment can
    be restored, on another engine too. Working directory, environment, `sys.path` and the generators of `random`, NumPy and
    torch are the trial's while its code runs and the driver's before and after. Class trainables get a new instance for each
    attempt.

    What a trial does to its process happens to the driver: `os._exit` or a crash in native code ends the driver as `kill -9`
    would, a child process or thread that a trial leaves running goes on, and a trial that catches `BaseException` in a loop
    cannot be ended. After `kill -9` the next restore ends the programs that trials had started, but not the processes that
    they had forked and that run no other program.

    Args:
        resources: What to say that there is, such as `{"cpu": 8, "gpu": 1}`; by default what the job asks for each trial, or
            where each trial asks for something else, what the local engine would say.
    """

    name = "inline"

    def __init__(self, resources: Mapping[str, float] | None = None) -> None:
        self._given = resources is not None
        self._resources = LocalEngine().resources() if resources is None else {kind: float(n) for kind, n in resources.items()}
        self._turn: Callable[[], bool] | None = None
        self._opened: _Opened | None = None

    def resources(self) -> dict[str, float]:
        """What attempts can be given in all."""
        return dict(self._resources)

    def fit_to(self, request: Mapping[str, float]) -> None:
        """Says what the job asks for each trial: that is what there is, unless the constructor was told otherwise."""
        if not self._given:
            self._resources = {"cpu": 1.0, **request}

    def attend(self, turn: Callable[[], bool]) -> None:
        """Gives the engine the driver's turn: it polls this engine, deals with what it says, and tells whether to go on.

        A report takes turns until it is answered. When a turn says False, the trial is unwound and its attempt is left without
        an end.
        """
        self._turn = turn
        if self._opened is not None:
            self._opened.turn = turn

    def open(self, job: Job) -> None:
        """Gets ready; nothing is started.

        Raises:
            InternalError: It is open already.
        """
        if self._opened is not None:
            raise InternalError("InlineEngine.open() was called twice.")
        self._opened = _Opened(job)
        self._opened.turn = self._turn

    def start(self, order: StartAttempt) -> None:
        """Puts an attempt behind those that wait; it is run by a `poll` to come.

        Raises:
            ConfigError: The trial's directory name is no plain name.
        """
        if os.path.basename(order.dirname) != order.dirname or order.dirname in ("", ".", ".."):
            raise ConfigError(f"A trial's directory must be a plain name, not {order.dirname!r}. Correct trial_dirname_creator.")
        self._it().waiting.append(order)

    def reply(self, trial_id: str, attempt: int, number: int, action: str, *, save: bool = False) -> None:
        """Answers a report. Nothing happens when the attempt is over."""
        self._it().answer = Answer(trial_id, attempt, number, action, save)

    def commit(self, order: CommitCheckpoint) -> None:
        """Completes a pending checkpoint; the answer follows from `poll`."""
        self._it().commit(order)

    def kill(self, trial_id: str, attempt: int) -> None:
        """Has an attempt that waits dropped, and one that runs unwound at its report."""
        self._it().kill(trial_id, attempt)

    def poll(self, timeout: float) -> list[Observation]:
        """Runs the next attempt from its beginning to its end; where there is none, or one runs, waits up to `timeout` seconds.

        Raises:
            BaseException: What a turn of the driver raised while a trial reported; KeyboardInterrupt where Python's own
                handler is at work.
        """
        return self._it().poll(timeout)

    def wake(self) -> None:
        """Makes a `poll` in progress return. In a signal's handler, while a trial's code runs, it unwinds the trial."""
        if self._opened is not None:
            self._opened.wake()

    def close(self) -> None:
        """Lets everything go. May be called twice."""
        opened, self._opened = self._opened, None
        if opened is not None:
            os.close(opened.bell)

    def _it(self) -> _Opened:
        if self._opened is None:
            raise InternalError("The engine is not open: call open(job) first.")
        return self._opened


class _Opened:
    """An open engine: the attempts that wait, the one that runs, and what it has said. It is that attempt's channel, too."""

    def __init__(self, job: Job) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.waiting: deque[StartAttempt] = deque()
        self.answer: Answer | None = None
        self.turn: Callable[[], bool] | None = None
        self._place = workplace_of(job)
        self._around = _Around(job, self._place)
        self._observed: deque[Observation] = deque()
        self._running: StartAttempt | None = None
        self._thread = threading.current_thread()
        self._driver = threading.RLock()  # held by the thread in which the driver has its turn
        self._in_trial = False
        self._given_up = False
        self._killed = False
        self._error: BaseException | None = None

    def poll(self, timeout: float) -> list[Observation]:
        """See `InlineEngine.poll`."""
        if not self._observed:
            if self._running is None and self.waiting:
                self._run(self.waiting.popleft())
            else:
                self._wait(timeout)
        observed: list[Observation] = []
        while self._observed:
            observed.append(self._observed.popleft())
        return observed

    def kill(self, trial_id: str, attempt: int) -> None:
        """See `InlineEngine.kill`."""
        if self._is_running(trial_id, attempt):
            self._killed = True
        for order in [order for order in self.waiting if (order.trial_id, order.attempt) == (trial_id, attempt)]:
            self.waiting.remove(order)
            self._observed.append(_killed(order))

    def commit(self, order: CommitCheckpoint) -> None:
        """See `InlineEngine.commit`."""
        folder = os.path.join(self._place.experiment_dir, order.dirname)
        try:
            keeper = keeper_of(self._place.experiment_dir, self._place.storage, order.dirname, self._place.storage_timeout_s)
            problem = keeper.commit(order.saved, check=True)
        except OSError as error:
            raise StorageError(f"Checkpoint {order.saved.index} in {folder} cannot be completed: {error}") from error
        if problem:
            self._observed.append(CheckpointLost(order.order, order.trial_id, order.saved.index, problem))
        else:
            self._observed.append(CheckpointCommitted(order.trial_id, order.attempt, order.number, order.saved, order.order))

    def wake(self) -> None:
        """See `InlineEngine.wake`."""
        os.eventfd_write(self.bell, 1)
        if self._in_trial and threading.current_thread() is self._thread:
            self._given_up = True
            raise StopTrial

    def tell(self, message: FromWorker) -> None:
        """Takes what the attempt says; what it says after it was given up is passed over."""
        if self._given_up:
            return
        order = self._running
        if isinstance(message, Begun):
            assert order is not None
            host, ip = host_and_address()
            self._observed.append(AttemptStarted(order.order, order.trial_id, order.attempt, host, ip, message.pid, order.number))
        else:
            self._observed.append(message)
        os.eventfd_write(self.bell, 1)

    def ask(self, row: ResultReported) -> Answer:
        """Lets the driver have its turns until the row is answered.

        Raises:
            StopTrial: In the trial's own thread: the attempt is given up.
        """
        with self._driver, self._outside():
            if not self._is_running(row.trial_id, row.attempt):
                raise StopTrial  # a thread that an attempt left behind
            self._observed.append(row)
            while not (self._given_up or self._killed):
                self._given_up = not self._take_turn()
                answer = self.answer
                answered = answer is not None and (answer.trial_id, answer.attempt, answer.number) == _place_of(row)
                if answer is not None and answered and not self._given_up:
                    return answer
            with suppress(ValueError):  # nobody has seen it yet: it was not acknowledged, and need not go on record
                self._observed.remove(row)
            if threading.current_thread() is self._thread:
                raise StopTrial
            return Answer(row.trial_id, row.attempt, row.number, "STOP")  # its thread has the trial's own stopped

    def _take_turn(self) -> bool:
        """Has the driver take its turn; False when the attempt is not to go on waiting."""
        assert self.turn is not None
        try:
            return self.turn()
        except BaseException as error:  # noqa: BLE001 - the driver's own; it is no business of the trial's code: `_run` raises it
            self._error = error
            return False

    def _run(self, order: StartAttempt) -> None:
        """Runs an attempt. The process is afterwards as it was before.

        Raises:
            BaseException: See `InlineEngine.poll`.
        """
        if self.turn is None:
            raise InternalError("Nobody attends to the inline engine: call attend(turn) before the first poll.")
        self._running, self._thread = order, threading.current_thread()
        self.answer, self._given_up, self._killed = None, False, False
        world, ended = _World(), None
        try:
            self._in_trial = True
            ended = run_attempt(order, self, self._around, self._place)
        except StopTrial:
            pass  # it came from `wake`, at a moment when the trial's code had not begun or was over
        finally:
            self._in_trial = False
            with self._driver:  # a helper thread may have the driver's turn still
                self._running = None
            world.restore()
        if self._error is not None:
            raise self._error
        if self._given_up or ended is None:
            persist.remove_staging(trial_dir_of(self._place, order), staging_prefix(order.attempt, self._place.nonce))
        elif ended.failure is not None and ended.failure.message.startswith("KeyboardInterrupt:"):
            raise KeyboardInterrupt
        else:
            self._observed.append(_killed(order) if self._killed else ended)

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """While it is entered the process is the driver's, unless the trial's own thread goes on beside a helper that reports."""
        if threading.current_thread() is not self._thread:
            yield
            return
        self._in_trial = False
        world = self._around.swap()
        try:
            yield
        finally:
            world.restore()
            self._in_trial = True

    def _is_running(self, trial_id: str, attempt: int) -> bool:
        order = self._running
        return order is not None and (order.trial_id, order.attempt) == (trial_id, attempt)

    def _wait(self, timeout: float) -> None:
        waiting = select.poll()
        waiting.register(self.bell, select.POLLIN)
        if waiting.poll(timeout * 1000):
            os.eventfd_read(self.bell)


class _Around:
    """What a trial finds around it in the driver's process."""

    def __init__(self, job: Job, place: Workplace) -> None:
        self._job = job
        self._place = place
        self._drivers = _World()

    def enter(self, order: StartAttempt) -> str:
        """Gives the process the attempt's directory, environment and seeds; returns the trial's directory.

        Raises:
            OSError: The directory cannot be made.
        """
        job, trial_dir = self._job, trial_dir_of(self._place, order)
        self._drivers = _World()
        os.makedirs(trial_dir, exist_ok=True)
        wanted = {**job.environment, "HOLDFAST_TOKEN": job.token, "TUNE_ORIG_WORKING_DIR": job.working_dir}
        _set_environment(wanted)
        os.chdir(trial_dir if job.chdir else job.working_dir)
        sys.path[:] = job.sys_path
        seed_all(job.seed, order.index)
        return trial_dir

    def log_tail(self) -> str:
        """Nothing: what a trial prints goes to the terminal."""
        return ""

    def swap(self) -> _World:
        """Puts the driver's world in the place of the trial's, which is returned."""
        trials = _World()
        self._drivers.restore()
        return trials


class _World:
    """What a process has one of: working directory, environment, `sys.path`, the generators' states; as at the making."""

    def __init__(self) -> None:
        try:
            self._directory = os.getcwd()
        except FileNotFoundError:  # the trial has removed it
            self._directory = ""
        self._environment = dict(os.environ)
        self._path = list(sys.path)
        self._put_back_generators = kept_generators()

    def restore(self) -> None:
        """Makes the process what it was."""
        if self._directory:
            os.chdir(self._directory)
        _set_environment(self._environment)
        sys.path[:] = self._path
        self._put_back_generators()


def _set_environment(wanted: dict[str, str]) -> None:
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _place_of(row: ResultReported) -> tuple[str, int, int]:
    return row.trial_id, row.attempt, row.number


def _killed(order: StartAttempt) -> AttemptEnded:
    return AttemptEnded(order.trial_id, order.attempt, "failed", Failure("worker", "killed by the driver", signal=9))
