"""The simulated engine: virtual time, seeded, one thread. Days of tuning pass in seconds.

The same loop, controller, journal and plug-ins run as with real processes; only the attempts are played. A trainable
is a generator function: each value that it yields is a row, `(row, state)` a row with a checkpoint.

    def train(config, state=None, moment=None):
        for epoch in range(state["epoch"] + 1 if state else 0, 10):
            yield {"loss": 1 / (epoch + config["x"])}, {"epoch": epoch}

It may take one argument (the config), two (the state to resume from) or three (a `Moment`).
"""

from __future__ import annotations

import heapq
import inspect
import pickle
import random
import zlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from holdfast import values
from holdfast._core.commands import CommitCheckpoint, StartAttempt
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointBroken,
    CheckpointCommitted,
    CheckpointLost,
    Failure,
    ResultReported,
    Saved,
)
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast.engines.base import Job, Observation
from holdfast.storage.base import AppendingStorage, Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage

__all__ = ["Moment", "SimulatedEngine", "VirtualClock", "seeded_fate"]


class VirtualClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._passed = 0.0

    def monotonic(self) -> float:
        return self._passed

    def wall(self) -> float:
        return self._start + self._passed

    def sleep(self, seconds: float) -> None:
        self._passed += max(0.0, seconds)


class Moment(NamedTuple):
    """Where in the simulation a step is taken.

    Attributes:
        trial_id, attempt: Whose step.
        number: The row that the step leads to.
        time: Virtual seconds since the engine was opened.
    """

    trial_id: str
    attempt: int
    number: int
    time: float


class _Run:
    """One attempt being played."""

    def __init__(self, order: StartAttempt, config: dict[str, Any], steps: Generator[Any, None, Any], began: float) -> None:
        self.order = order
        self.config = config
        self.steps = steps
        self.began = began
        self.stepped = began
        self.number = order.number
        self.index = order.grant
        self.state: Any = None
        self.uploads: list[ResultReported] = []
        self.outcome = ""
        self.over = False

    def moment(self, time: float) -> Moment:
        """The step that comes next."""
        return Moment(self.order.trial_id, self.order.attempt, self.number + 1, time)


class _States:
    """The checkpoints of attempts: a state and a checksum in one file each."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def load(self, order: StartAttempt) -> tuple[Any, str]:
        """The state to resume from, and what is wrong with it where it cannot be."""
        if order.resume is None:
            return None, ""
        try:
            data = self._storage.read(f"{order.source or order.dirname}/{checkpoint_name(order.resume.index)}/state.pkl")
        except FileNotFoundError:
            return None, "its files are gone"
        return (pickle.loads(data[4:]), "") if _is_whole(data) else (None, "its files are damaged")

    def save(self, run: _Run, name: Callable[[int], str]) -> Saved:
        """Writes the state that came with the newest row; under its final name durably, else as far as a staged one is."""
        index, run.index = run.index, run.index + 1
        data = pickle.dumps(run.state)
        data = zlib.crc32(data).to_bytes(4, "little") + data
        path = f"{run.order.dirname}/{name(index)}/state.pkl"
        if name is checkpoint_name or not isinstance(self._storage, AppendingStorage):
            self._storage.put(path, data)
        else:
            file = self._storage.create_append(path)
            file.write(data)
            file.close()
        return Saved(index, 1, len(data), "")

    def complete(self, dirname: str, saved: Saved) -> str:
        """Gives a pending checkpoint its final name, durably; says what is wrong where it cannot."""
        final, staged = f"{dirname}/{checkpoint_name(saved.index)}", f"{dirname}/{pending_name(saved.index)}"
        if not self._storage.exists(f"{final}/state.pkl"):
            try:
                data = self._storage.read(f"{staged}/state.pkl")
            except FileNotFoundError:
                return "its files are gone"
            if not _is_whole(data):
                return "its files are damaged"
            self._storage.put(f"{final}/state.pkl", data)
        self._storage.delete(staged)
        return ""

    def delete(self, dirname: str, name: str) -> None:
        """Removes a checkpoint's files."""
        self._storage.delete(f"{dirname}/{name}")


class SimulatedEngine:
    """Plays attempts on virtual workers.

    Args:
        workers: How many attempts run at once (each trial asks for one CPU unless told otherwise).
        seconds: Virtual seconds that a step takes: a number, or a function of (config, moment).
        fails: Asked before each step: "kill" ends the attempt as if its process had died, "raise" as if the user's
            code had; a kind of failure ("preempted", "node", "oom", "timeout", "storage") with one of that kind; None lets
            it go on.
        clock: The clock to move; by default one of its own.
        storage: Where checkpoints go; by default the experiment's directory.
        upload_s: Virtual seconds for which a checkpoint is pending; None saves it with its row (1.0 where the job asks for
            `upload="async"`).
        on_demand: Save a state only where the driver asks for it, or tells the attempt to stop or pause: so class
            trainables do that are given no `checkpoint_frequency`.
    """

    name = "simulated"

    def __init__(
        self,
        workers: int = 8,
        seconds: float | Callable[[dict[str, Any], Moment], float] = 1.0,
        fails: Callable[[Moment], str | None] | None = None,
        clock: VirtualClock | None = None,
        storage: Storage | None = None,
        *,
        upload_s: float | None = None,
        on_demand: bool = False,
    ) -> None:
        self.clock = clock or VirtualClock()
        self._workers = workers
        self._seconds = seconds
        self._fails = fails
        self._storage = storage
        self._upload_s = upload_s
        self._on_demand = on_demand
        self._queue: list[tuple[float, int, _Run, ResultReported | None]] = []
        self._runs: dict[tuple[str, int], _Run] = {}
        self._ready: list[Observation] = []
        self._count = 0
        self._train: Callable[..., Generator[Any, None, Any]] | None = None

    def resources(self) -> dict[str, float]:
        return {"cpu": float(self._workers)}

    def open(self, job: Job) -> None:
        self._train = pickle.loads(job.trainable)
        storage = self._storage or LocalStorage(job.experiment_dir)
        self._states = _States(storage)
        self._definitions = Definitions(storage)
        self._references = {place: pickle.loads(pickled) for place, pickled in job.references.items()}
        self._arguments = len(inspect.signature(self._train).parameters) if self._train else 0
        self._seed = job.seed
        if job.upload == "async" and self._upload_s is None:
            self._upload_s = 1.0

    def start(self, order: StartAttempt) -> None:
        assert self._train is not None
        self._ready.append(AttemptStarted(order.order, order.trial_id, order.attempt, "simulated", "127.0.0.1", 0, order.number))
        state, problem = self._states.load(order)
        if problem and order.resume is not None:
            self._ready.append(CheckpointBroken(order.trial_id, order.attempt, order.resume.index, problem, order.donor))
            self._ready.append(AttemptEnded(order.trial_id, order.attempt, "failed", Failure("checkpoint", problem)))
            return
        config = values.decode(order.config, self._definitions.load, self._references)
        moment = Moment(order.trial_id, order.attempt, order.number, self.clock.monotonic())
        steps = self._train(*(config, state, moment)[: self._arguments])
        run = _Run(order, config, steps, self.clock.monotonic())
        self._runs[order.trial_id, order.attempt] = run
        self._schedule(run)

    def reply(self, trial_id: str, attempt: int, number: int, action: str, *, save: bool = False) -> None:
        run = self._runs.get((trial_id, attempt))
        if run is None or run.over:
            return
        if self._on_demand and (save or action != "CONTINUE"):
            saved = self._states.save(run, checkpoint_name)
            self._ready.append(CheckpointCommitted(trial_id, attempt, number, saved))
        if action == "CONTINUE":
            self._schedule(run)
        else:
            run.steps.close()
            self._finish(run, "stopped")

    def commit(self, order: CommitCheckpoint) -> None:
        problem = self._states.complete(order.dirname, order.saved)
        if problem:
            self._states.delete(order.dirname, pending_name(order.saved.index))
            self._ready.append(CheckpointLost(order.order, order.trial_id, order.saved.index, problem))
        else:
            self._ready.append(CheckpointCommitted(order.trial_id, order.attempt, order.number, order.saved, order.order))

    def kill(self, trial_id: str, attempt: int) -> None:
        run = self._runs.get((trial_id, attempt))
        if run is not None and not run.over:
            self._finish(run, "failed", Failure("worker", "killed by the driver", signal=9))

    def poll(self, timeout: float) -> list[Observation]:
        while self._queue and self._queue[0][2].over:
            heapq.heappop(self._queue)
        now = self.clock.monotonic()
        if not self._ready and (not self._queue or self._queue[0][0] > now + timeout):
            self.clock.sleep(timeout)
        elif not self._ready:
            time = self._queue[0][0]
            self.clock.sleep(time - now)
            while self._queue and self._queue[0][0] == time:  # what happens at one moment is seen together
                _, _, run, row = heapq.heappop(self._queue)
                if run.over:
                    continue
                if row is not None:
                    self._upload(run, row)
                else:
                    self._step(run)
        ready, self._ready = self._ready, []
        return ready

    def wake(self) -> None:
        """Nothing waits in real time."""

    def close(self) -> None:
        for run in self._runs.values():
            run.steps.close()
        self._runs.clear()
        self._queue.clear()

    def _schedule(self, run: _Run) -> None:
        seconds = self._seconds(run.config, run.moment(self.clock.monotonic())) if callable(self._seconds) else self._seconds
        self._count += 1
        heapq.heappush(self._queue, (self.clock.monotonic() + seconds, self._count, run, None))

    def _step(self, run: _Run) -> None:
        fate = self._fails(run.moment(self.clock.monotonic())) if self._fails else None
        if fate == "kill":
            self._finish(run, "failed", Failure("worker", "its worker was killed", signal=9))
            return
        if fate is not None and fate != "raise":
            self._finish(run, "failed", Failure(fate, f"a failure of this kind was injected at row {run.number + 1}"))
            return
        try:
            if fate == "raise":
                raise RuntimeError(f"a fault was injected at row {run.number + 1}")
            yielded = next(run.steps)
        except StopIteration:
            self._finish(run, "completed")
        except Exception as error:  # noqa: BLE001 - the user's own code
            self._finish(run, "failed", _failure(error))
        else:
            self._report(run, yielded)

    def _report(self, run: _Run, yielded: Any) -> None:
        metrics, state = yielded if isinstance(yielded, tuple) else (yielded, None)
        now = self.clock.monotonic()
        order = run.order
        run.number += 1
        run.state = state
        since = run.number - order.number
        with_row = state is not None and not self._on_demand
        row = ResultReported(
            trial_id=order.trial_id,
            attempt=order.attempt,
            number=run.number,
            metrics=values.encode(metrics),
            iteration=order.iteration + since,
            time_this_iter_s=now - run.stepped,
            time_total_s=order.time_total_s + now - run.began,
            time_since_restore=now - run.began,
            since_restore=since,
            timestamp=self.clock.wall(),
            done=bool(metrics.get("done", False)),
            saved=self._states.save(run, checkpoint_name) if with_row and self._upload_s is None else None,
            pending=self._states.save(run, pending_name) if with_row and self._upload_s is not None else None,
        )
        self._ready.append(row)
        run.stepped = now
        if row.pending is not None and self._upload_s is not None:
            run.uploads.append(row)
            self._count += 1
            heapq.heappush(self._queue, (now + self._upload_s, self._count, run, row))

    def _upload(self, run: _Run, row: ResultReported) -> None:
        assert row.pending is not None
        run.uploads.remove(row)
        if not self._states.complete(run.order.dirname, row.pending):  # else it is found lost when the attempt is over
            self._ready.append(CheckpointCommitted(row.trial_id, row.attempt, row.number, row.pending))
        if run.outcome and not run.uploads:
            self._finish(run, run.outcome)

    def _finish(self, run: _Run, outcome: str, failure: Failure | None = None) -> None:
        """Ends the attempt; one that did not fail, when its last checkpoint is durable."""
        run.outcome = outcome
        if run.uploads and failure is None:
            return
        run.over = True
        del self._runs[run.order.trial_id, run.order.attempt]
        self._ready.append(AttemptEnded(run.order.trial_id, run.order.attempt, outcome, failure))


def _is_whole(data: bytes) -> bool:
    return len(data) > 4 and zlib.crc32(data[4:]) == int.from_bytes(data[:4], "little")


def _failure(error: Exception) -> Failure:
    import traceback

    import cloudpickle

    text = "".join(traceback.format_exception(error))
    try:
        pickled = cloudpickle.dumps(error)
    except Exception:  # noqa: BLE001 - pickling runs the user's code
        pickled = b""
    return Failure("code", f"{type(error).__name__}: {error}", text, pickled)


def seeded_fate(seed: int, kill: float, fail: float = 0.0) -> Callable[[Moment], str | None]:
    """Faults for `SimulatedEngine(fails=...)`: each step of each attempt has its own seeded lot.

    Args:
        seed: Of the lots.
        kill: Probability that a step's worker is killed.
        fail: Probability that the user's code raises.
    """

    def fate(moment: Moment) -> str | None:
        lot = random.Random(f"{seed}/{moment.trial_id}/{moment.attempt}/{moment.number}").random()
        return "kill" if lot < kill else "raise" if lot < kill + fail else None

    return fate
