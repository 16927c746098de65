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
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from holdfast import values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted, Failure, ResultReported, Saved
from holdfast._core.ids import checkpoint_name
from holdfast.engines.base import Job, Observation
from holdfast.storage.base import Storage
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

    def __init__(self, order: StartAttempt, steps: Generator[Any, None, Any], began: float) -> None:
        self.order = order
        self.steps = steps
        self.began = began
        self.stepped = began
        self.number = order.number
        self.index = order.grant
        self.over = False


class SimulatedEngine:
    """Plays attempts on virtual workers.

    Args:
        workers: How many attempts run at once (each trial asks for one CPU unless told otherwise).
        seconds: Virtual seconds that a step takes: a number, or a function of (config, moment).
        fails: Asked before each step: "kill" ends the attempt as if its process had died, "raise" as if the user's
            code had; None lets it go on.
        clock: The clock to move; by default one of its own.
        storage: Where checkpoints go; by default the experiment's directory.
    """

    name = "simulated"

    def __init__(
        self,
        workers: int = 8,
        seconds: float | Callable[[dict[str, Any], Moment], float] = 1.0,
        fails: Callable[[Moment], str | None] | None = None,
        clock: VirtualClock | None = None,
        storage: Storage | None = None,
    ) -> None:
        self.clock = clock or VirtualClock()
        self._workers = workers
        self._seconds = seconds
        self._fails = fails
        self._storage = storage
        self._queue: list[tuple[float, int, _Run]] = []
        self._runs: dict[tuple[str, int], _Run] = {}
        self._ready: list[Observation] = []
        self._count = 0
        self._train: Callable[..., Generator[Any, None, Any]] | None = None

    def resources(self) -> dict[str, float]:
        return {"cpu": float(self._workers)}

    def open(self, job: Job) -> None:
        self._train = pickle.loads(job.trainable)
        self._storage = self._storage or LocalStorage(job.experiment_dir)
        self._definitions = Definitions(self._storage)
        self._arguments = len(inspect.signature(self._train).parameters) if self._train else 0
        self._seed = job.seed

    def start(self, order: StartAttempt) -> None:
        assert self._train is not None
        config = values.decode(order.config, self._definitions.load)
        moment = Moment(order.trial_id, order.attempt, order.number, self.clock.monotonic())
        steps = self._train(*(config, _load(self._storage, order), moment)[: self._arguments])
        run = _Run(order, steps, self.clock.monotonic())
        self._runs[order.trial_id, order.attempt] = run
        self._ready.append(AttemptStarted(order.order, order.trial_id, order.attempt, "simulated", "127.0.0.1", 0))
        self._schedule(run, config)

    def reply(self, trial_id: str, attempt: int, number: int, action: str) -> None:
        run = self._runs.get((trial_id, attempt))
        if run is None or run.over:
            return
        if action == "CONTINUE":
            self._schedule(run, values.decode(run.order.config, self._definitions.load))
        else:
            run.steps.close()
            self._finish(run, "stopped", None)

    def kill(self, trial_id: str, attempt: int) -> None:
        run = self._runs.get((trial_id, attempt))
        if run is not None and not run.over:
            self._finish(run, "failed", Failure("worker", "killed by the driver", signal=9))

    def poll(self, timeout: float) -> list[Observation]:
        if not self._ready:
            self._advance(timeout)
        ready, self._ready = self._ready, []
        return ready

    def wake(self) -> None:
        """Nothing waits in real time."""

    def close(self) -> None:
        for run in self._runs.values():
            run.steps.close()
        self._runs.clear()
        self._queue.clear()

    def _advance(self, timeout: float) -> None:
        """Goes to the next step if it lies within `timeout`, else lets `timeout` pass."""
        while self._queue and self._queue[0][2].over:
            heapq.heappop(self._queue)
        now = self.clock.monotonic()
        if not self._queue or self._queue[0][0] > now + timeout:
            self.clock.sleep(timeout)
            return
        time, _, run = heapq.heappop(self._queue)
        self.clock.sleep(time - now)
        self._step(run)

    def _schedule(self, run: _Run, config: dict[str, Any]) -> None:
        moment = Moment(run.order.trial_id, run.order.attempt, run.number + 1, self.clock.monotonic())
        seconds = self._seconds(config, moment) if callable(self._seconds) else self._seconds
        self._count += 1
        heapq.heappush(self._queue, (moment.time + seconds, self._count, run))

    def _step(self, run: _Run) -> None:
        order = run.order
        moment = Moment(order.trial_id, order.attempt, run.number + 1, self.clock.monotonic())
        fate = self._fails(moment) if self._fails else None
        if fate == "kill":
            self._finish(run, "failed", Failure("worker", "its worker was killed", signal=9))
            return
        try:
            if fate == "raise":
                raise RuntimeError(f"a fault was injected at row {moment.number}")
            yielded = next(run.steps)
        except StopIteration:
            self._finish(run, "completed", None)
        except Exception as error:  # noqa: BLE001 - the user's own code
            self._finish(run, "failed", _failure(error))
        else:
            self._report(run, yielded)

    def _report(self, run: _Run, yielded: Any) -> None:
        metrics, state = yielded if isinstance(yielded, tuple) else (yielded, None)
        now = self.clock.monotonic()
        order = run.order
        run.number += 1
        since = run.number - order.number
        self._ready.append(
            ResultReported(
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
                saved=None if state is None else _save(self._storage, run, state),
            )
        )
        run.stepped = now

    def _finish(self, run: _Run, outcome: str, failure: Failure | None) -> None:
        run.over = True
        del self._runs[run.order.trial_id, run.order.attempt]
        self._ready.append(AttemptEnded(run.order.trial_id, run.order.attempt, outcome, failure))


def _save(storage: Storage | None, run: _Run, state: Any) -> Saved:
    assert storage is not None
    data = pickle.dumps(state)
    index, run.index = run.index, run.index + 1
    storage.put(f"{run.order.dirname}/{checkpoint_name(index)}/state.pkl", data)
    return Saved(index, 1, len(data), "")


def _load(storage: Storage | None, order: StartAttempt) -> Any:
    if order.resume is None or storage is None:
        return None
    return pickle.loads(storage.read(f"{order.dirname}/{checkpoint_name(order.resume.index)}/state.pkl"))


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
