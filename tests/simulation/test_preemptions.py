"""A week of virtual time on machines that are taken away again and again: all ends well, and no row is run without need."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast._core.events import AttemptEnded, AttemptStarted, ResultReported
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.config import FailureConfig, RunConfig, TuneConfig
from holdfast.engines.simulated import Moment
from holdfast.space import uniform
from holdfast.testing.history import check_history
from holdfast.testing.simulation import Simulation
from simulation.checking import problems_of

SEED = 20261122
ROWS = 168
EVERY = 5
LOSSES = 20
HOUR = 3600.0


def hourly(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """A row an hour for a week, a checkpoint every fifth."""
    for i in range(state["i"] + 1 if state else 1, ROWS + 1):
        yield ({"i": i}, {"i": i}) if i % EVERY == 0 else {"i": i}


class Preemptions:
    """Takes each trial's machine away, so often, each time after a seeded number of steps; remembers before which row."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.before: dict[str, list[int]] = {}
        self._kinds = kinds
        self._began: dict[tuple[str, int], int] = {}

    def __call__(self, moment: Moment) -> str | None:
        began = self._began.setdefault((moment.trial_id, moment.attempt), moment.number)
        lots = random.Random(f"{SEED}/{moment.trial_id[-5:]}/{moment.attempt}")
        if moment.attempt > LOSSES or moment.number - began < lots.randrange(0, 9):
            return None
        self.before.setdefault(moment.trial_id, []).append(moment.number)
        return self._kinds[moment.attempt % len(self._kinds)]


def run(fails: Callable[[Moment], str | None], workers: int = 4, step_s: float = 10.0, **failures: Any) -> Any:
    """The disk behind an experiment of six trials."""
    simulation = Simulation(
        hourly,
        {"x": uniform(0, 1)},
        TuneConfig(num_samples=6, seed=SEED),
        RunConfig(name="week", verbose=0, failure_config=FailureConfig(**failures)),
        workers=workers,
        seconds=step_s,
        fails=fails,
    )
    disk = simulation.begin()
    simulation.run(disk)
    assert problems_of(disk) == []
    assert check_history(disk, []) == []
    return disk


@pytest.mark.parametrize("step_s", [10.0, pytest.param(HOUR, marks=pytest.mark.soak)])
def test_every_trial_is_lost_twenty_times_and_ends_and_no_row_is_run_without_need(step_s: float) -> None:
    fails = Preemptions(("preempted", "node"))
    disk = run(fails, step_s=step_s, max_preemptions=LOSSES, retry_delay_s=step_s / 60)
    state = load_state(disk)
    ran: dict[str, Counter[int]] = {trial_id: Counter() for trial_id in state.trials}
    for record in read(disk):
        if isinstance(record.event, ResultReported):
            ran[record.event.trial_id][record.event.number] += 1
    for trial in state.trials.values():
        assert (trial.state, trial.mark, trial.failures) == ("TERMINATED", ROWS, 0), f"seed {SEED}"
        assert sum(trial.spent.values()) == LOSSES
        needed = Counter(range(1, ROWS + 1))
        for lost in fails.before[trial.trial_id]:  # rows behind the last checkpoint before the loss have to be run again
            needed.update(range((lost - 1) // EVERY * EVERY + 1, lost))
        assert ran[trial.trial_id] == needed, f"seed {SEED}"
    assert state.time >= ROWS * step_s


def test_one_loss_more_than_the_budget_is_the_end() -> None:
    disk = run(Preemptions(("preempted",)), max_failures=-1, max_preemptions=LOSSES - 1)
    trials = load_state(disk).trials.values()
    assert {trial.state for trial in trials} == {"ERROR"}
    assert {(trial.failures, trial.attempt) for trial in trials} == {(0, LOSSES)}


def test_where_preemptions_have_no_budget_of_their_own_they_count_with_the_rest() -> None:
    disk = run(Preemptions(("preempted", "node")), max_failures=LOSSES)
    assert {(trial.state, trial.failures) for trial in load_state(disk).trials.values()} == {("TERMINATED", LOSSES)}


def test_the_pause_before_another_attempt_doubles_and_is_spread() -> None:
    disk = run(Preemptions(("preempted",)), workers=6, max_preemptions=-1, retry_delay_s=10.0)
    ended: dict[str, float] = {}
    waits: dict[str, list[float]] = {}
    for record in read(disk):
        event = record.event
        if isinstance(event, AttemptEnded):
            ended[event.trial_id] = record.time
        elif isinstance(event, AttemptStarted) and event.trial_id in ended:
            waits.setdefault(event.trial_id, []).append(record.time - ended[event.trial_id])
    assert {len(found) for found in waits.values()} == {LOSSES}
    for found in waits.values():  # the loop looks at its timers once a second
        least = [10.0 * 2 ** min(number, 6) for number in range(LOSSES)]
        assert all(low <= wait <= 1.5 * low + 1 for low, wait in zip(least, found, strict=True)), f"seed {SEED}"
    assert len({found[0] for found in waits.values()}) > 1, "trials that failed together do not come back together"
