"""A stage for one engine: orders go in, what it says is kept, rows are answered. What the suites of the engine port stand on.

It knows the port and nothing of any engine. A trainable for the stage is told as a *story*: a generator function of
the config, or of (config, state to resume from or None), whose every value is a row, or `(row, state)` for a row with a
checkpoint. `as_function` and `as_class` make trainables of one; the simulated engine plays stories as they are.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from holdfast import values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted, ResultReported
from holdfast.checkpoint import Checkpoint
from holdfast.engines.base import Engine, Job, Observation
from holdfast.session import get_checkpoint, report
from holdfast.trainable import Trainable

__all__ = ["Stage", "alive", "as_class", "as_function", "make_job", "make_order"]

_PATIENCE_S = 30.0
_TURN_S = 0.05


def as_function(story: Callable[..., Generator[Any, None, None]]) -> Callable[[dict[str, Any]], None]:
    """The story as a function trainable, which keeps its state pickled in a file called `state`."""

    def trainable(config: dict[str, Any]) -> None:
        import inspect
        import pickle

        begun, state = get_checkpoint(), None
        if begun is not None:
            with begun.as_directory() as folder:
                state = pickle.loads(Path(folder, "state").read_bytes())
        with closing(story(*(config, state)[: len(inspect.signature(story).parameters)])) as told:
            for row in told:
                if not isinstance(row, tuple):
                    report(row)
                    continue
                work = Path("work")
                work.mkdir(exist_ok=True)
                (work / "state").write_bytes(pickle.dumps(row[1]))
                report(row[0], checkpoint=Checkpoint.from_directory(work))

    return trainable


def as_class(story: Callable[..., Generator[Any, None, None]]) -> type[Trainable]:
    """The story as a class trainable, each of whose steps tells one row; the states are what it saves when it is asked to."""

    class Telling(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.state: Any = None
            self.told: Generator[Any, None, None] | None = None

        def step(self) -> dict[str, Any]:
            if self.told is None:
                self.told = story(self.config, self.state)
            row, self.state = next(self.told)
            return dict(row)

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {"state": self.state}

        def load_checkpoint(self, checkpoint: dict[str, Any] | str) -> None:
            assert isinstance(checkpoint, dict)
            self.state = checkpoint["state"]

    return Telling


def make_job(experiment_dir: Path, trainable: Any, **changes: Any) -> Job:
    """A job that runs `trainable`, with the given fields changed."""
    fields: dict[str, Any] = {
        "experiment_dir": str(experiment_dir),
        "experiment_name": experiment_dir.name,
        "trainable": cloudpickle.dumps(trainable),
        "seed": 7,
        "token": f"{experiment_dir.name}-{os.getpid()}.1",
        "environment": dict(os.environ),
        "sys_path": [os.path.abspath(path) for path in sys.path],
        "working_dir": os.getcwd(),
    }
    return Job(**{**fields, **changes})


def make_order(index: int = 0, config: dict[str, Any] | None = None, **changes: Any) -> StartAttempt:
    """The order to run the trial with number `index` from scratch, with the given fields changed."""
    fields: dict[str, Any] = {
        "order": f"1.{index}.0",
        "trial_id": f"abcde_{index:05d}",
        "attempt": 1,
        "index": index,
        "config": values.encode(config or {}),
        "name": f"trial_{index}",
        "dirname": f"trial_{index}",
        "tag": str(index),
        "resume": None,
        "number": 0,
        "iteration": 0,
        "time_total_s": 0.0,
        "grant": 0,
        "resources": {"cpu": 1.0},
    }
    return StartAttempt(**{**fields, **changes})


def alive(pid: int) -> bool:
    """Whether a process lives (one that is dead but not reaped does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


Answer = str | Callable[[ResultReported], object] | None


class Stage:
    """An open engine, and all that it has said so far.

    Attributes:
        seen: Every observation, in order.
        answers: What a row's answer is, by (trial number, row number); CONTINUE where nothing is said. None: no answer.
            A function is called with the row, and answers it itself or has it unanswered.
        saves: The rows, named in the same way, that the answer asks a checkpoint of.
    """

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine = engine
        self.job = job
        self.seen: list[Observation] = []
        self.answers: dict[tuple[int, int], Answer] = {}
        self.saves: set[tuple[int, int]] = set()
        self._deadline = time.monotonic() + _PATIENCE_S
        attend = getattr(engine, "attend", None)
        if attend is not None:
            attend(self._turn)
        engine.open(job)

    def until(self, condition: Callable[[], object], within_s: float = _PATIENCE_S) -> None:
        """Polls, and answers rows, until the condition holds; fails the test when it does not within the time."""
        self._deadline = time.monotonic() + within_s
        while not condition():
            if not self._turn():
                pytest.fail(f"not within {within_s} s; seen: {self.seen}")

    def _turn(self) -> bool:
        """What a driver does in one turn of its loop; False when time is up."""
        for observed in self.engine.poll(_TURN_S):
            self.seen.append(observed)
            if isinstance(observed, ResultReported):
                self._answer(observed)
        return time.monotonic() < self._deadline

    def _answer(self, row: ResultReported) -> None:
        place = int(row.trial_id[-5:]), row.number
        answer = self.answers.get(place, "CONTINUE")
        if callable(answer):
            answer(row)
        elif answer is not None:
            self.engine.reply(row.trial_id, row.attempt, row.number, answer, save=place in self.saves)

    def run(self, *orders: StartAttempt) -> list[AttemptEnded]:
        """Starts the attempts and waits for all to end; returns their ends in the order given."""
        for order in orders:
            self.engine.start(order)
        self.until(lambda: all(self.end_of(order) for order in orders))
        ends = [self.end_of(order) for order in orders]
        return [end for end in ends if end is not None]

    def end_of(self, order: StartAttempt) -> AttemptEnded | None:
        """How an attempt ended; None while it runs."""
        ends = [seen for seen in self.seen if isinstance(seen, AttemptEnded) and _is_of(seen, order)]
        assert len(ends) <= 1, f"an attempt ends once: {ends}"
        return ends[0] if ends else None

    def rows_of(self, order: StartAttempt) -> list[ResultReported]:
        """The rows of an attempt, in order."""
        return [seen for seen in self.seen if isinstance(seen, ResultReported) and _is_of(seen, order)]

    def metrics_of(self, order: StartAttempt) -> list[Any]:
        """What an attempt reported, decoded."""
        return [values.decode(row.metrics) for row in self.rows_of(order)]

    def dir_of(self, order: StartAttempt) -> str:
        """The trial's directory."""
        return os.path.join(self.job.experiment_dir, order.dirname)

    def pid_of(self, order: StartAttempt) -> int:
        """The process of an attempt."""
        return next(seen.pid for seen in self.seen if isinstance(seen, AttemptStarted) and _is_of(seen, order))


def _is_of(observed: Observation, order: StartAttempt) -> bool:
    return observed.trial_id == order.trial_id and getattr(observed, "attempt", 0) == order.attempt
