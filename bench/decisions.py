"""What a scheduler itself takes to decide on a row, with few trials and with many: no journal, no engine, only its own thinking.

A figure is the whole time spent in the scheduler (new trials, rows, ends, and which trial is next) by the number of rows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from bench.figure import Figure, Target
from bench.process import Rounds
from holdfast.resources import PlacementGroupFactory
from holdfast.schedulers import (
    ASHAScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    TrialScheduler,
)
from holdfast.schedulers.pb2 import PB2

__all__ = ["figures"]

FEW, MANY = 100, 20_000
PLACES = 8
ROWS = 27

# Name, how it is made, and how many times the cost with few trials it may cost with many. A step of PB2 takes its model
# milliseconds, whatever the number of trials, so it is played with fewer.
SCHEDULERS: list[tuple[str, Callable[[], TrialScheduler], float]] = [
    ("ASHAScheduler", lambda: ASHAScheduler(max_t=ROWS, reduction_factor=3), 1.5),
    ("HyperBandScheduler", lambda: HyperBandScheduler(max_t=ROWS), 3),
    ("HyperBandForBOHB", lambda: HyperBandForBOHB(max_t=ROWS), 3),
    ("MedianStoppingRule", lambda: MedianStoppingRule("training_iteration", grace_period=3), 3),
    ("PopulationBasedTraining", lambda: PopulationBasedTraining("training_iteration", None, None, 5, 0, {"x": [1, 2]}), 3),
    ("PB2", lambda: PB2("training_iteration", None, None, 5, {"x": [0, 2]}), 3),
    ("ResourceChangingScheduler", ResourceChangingScheduler, 3),
]


def figures(rounds: Rounds) -> Iterator[Figure]:
    for name, make, times in SCHEDULERS:
        few, many, trials = [], [], rounds.many(MANY // 20 if name == "PB2" else MANY)
        for _ in rounds.times(3):
            few.append(min(_cost(make(), FEW) for _ in range(5)))
            many.append(_cost(make(), trials))
        yield Figure(f"a decision of {name}, {trials} trials", "µs", many, f"{FEW} trials", few, Target("ratio", times))


class Board:
    """The scheduler's view: trials by number, and its orders carried out at once when the call is over."""

    def __init__(self, count: int) -> None:
        self.trials = [Piece(index) for index in range(count)]
        self.stopped: list[Piece] = []
        self.time = 0.0
        self.awaits_suggestion = False
        self._next = 0
        self._begun: list[Piece] = []
        nobody = lambda _: None  # noqa: E731
        self.search_alg = SimpleNamespace(on_pause=nobody, on_unpause=nobody)

    def get_trials(self) -> list[Piece]:
        return self.trials

    def get_live_trials(self) -> list[Piece]:
        """Those that have begun and not ended, and the next one: trials come one by one."""
        while self._next < len(self.trials) and self.trials[self._next].status != "PENDING":
            self._begun.append(self.trials[self._next])
            self._next += 1
        self._begun = [trial for trial in self._begun if not trial.is_finished()]
        return [*self._begun, *self.trials[self._next : self._next + 1]]

    def total_resources(self) -> dict[str, float]:
        return {"cpu": PLACES + 4.0}

    def has_resources_for_trial(self, trial: Piece) -> bool:
        return False

    def update_trial_resources(self, trial: Piece, resources: PlacementGroupFactory) -> None:
        trial.placement_group_factory = resources

    def may_start(self, trial: Piece) -> bool:
        return trial.status in ("PENDING", "PAUSED")

    def stop_trial(self, trial: Piece) -> None:
        trial.status = "TERMINATED"
        self.stopped.append(trial)

    def save_trial(self, trial: Piece) -> None:
        """Every trial of the board has a checkpoint."""

    def change_trial(self, trial: Piece, config: dict[str, Any], *, donor: Piece, tag: str) -> None:
        trial.config = config


class Piece:
    """A trial."""

    checkpoint = experiment_tag = "one"

    def __init__(self, index: int) -> None:
        self.trial_id = f"bench_{index:05d}"
        self.status = "PENDING"
        self.rows = 0
        self.PENDING = "PENDING"
        self.config = {"x": 1}
        self.last_result = {}
        self.placement_group_factory = PlacementGroupFactory([{"CPU": 1}])

    def is_finished(self) -> bool:
        return self.status == "TERMINATED"


def _cost(scheduler: TrialScheduler, count: int) -> float:
    """Microseconds of the scheduler's own for each row, where so many trials are played to their end, eight at a time."""
    board, chance = Board(count), random.Random(1)
    scheduler.set_search_properties("m", "max", seed=1)
    chooses = type(scheduler).choose_trial_to_run is not TrialScheduler.choose_trial_to_run
    spent, rows, came = 0.0, 0, 0
    running: list[Piece] = []

    def ask(method: str, *arguments: Any) -> Any:
        nonlocal spent
        began = time.thread_time()
        answer = getattr(scheduler, method)(board, *arguments)
        spent += time.thread_time() - began
        while board.stopped:
            ask("on_trial_remove", board.stopped.pop())
        return answer

    for trial in board.trials:
        ask("on_trial_add", trial)
    while True:
        while len(running) < PLACES:
            if chooses:
                trial = ask("choose_trial_to_run")
            else:
                trial = board.trials[came] if came < count else None
                came += 1
            if trial is None:
                break
            trial.status = "RUNNING"
            running.append(trial)
        if not running:
            return spent / rows * 1e6
        trial = running[chance.randrange(len(running))]
        trial.rows += 1
        rows += 1
        row = {"training_iteration": trial.rows, "m": chance.random()}
        answer = ask("on_trial_result", trial, row)
        if answer in ("STOP", "PAUSE") or trial.rows >= ROWS:
            running.remove(trial)
            trial.status = "PAUSED" if answer == "PAUSE" else "TERMINATED"
            if answer not in ("STOP", "PAUSE"):
                ask("on_trial_complete", trial, row)
