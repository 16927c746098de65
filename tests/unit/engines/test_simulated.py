"""Failures of any kind can be injected."""

from __future__ import annotations

import pytest

from holdfast._core.events import AttemptEnded
from holdfast._journal import read
from holdfast.config import FailureConfig, RunConfig, TuneConfig
from holdfast.testing.simulation import Simulation


def train(config):
    yield {"i": 0}


@pytest.mark.parametrize("kind", ["preempted", "node", "oom", "timeout", "storage"])
def test_an_injected_failure_has_its_kind(kind: str) -> None:
    simulation = Simulation(
        train,
        {},
        TuneConfig(seed=1),
        RunConfig(name="exp", verbose=0, failure_config=FailureConfig(max_failures=1)),
        fails=lambda moment: kind if moment.attempt == 1 else None,
    )
    disk = simulation.begin()
    simulation.run(disk)
    ends = [record.event for record in read(disk) if isinstance(record.event, AttemptEnded)]
    assert [(end.outcome, end.failure and end.failure.kind) for end in ends] == [("failed", kind), ("completed", None)]


def saving(config, state=None):
    for i in range(state["i"] if state else 0, 4):
        yield {"i": i}, {"i": i + 1}


def test_a_checkpoint_that_was_under_way_ends_with_its_attempt_also_when_others_are_due_at_that_moment() -> None:
    simulation = Simulation(
        saving,
        {},
        TuneConfig(seed=1, num_samples=2),
        RunConfig(name="exp", verbose=0, failure_config=FailureConfig(max_failures=1)),
        workers=2,
        upload_s=1.5,
        fails=lambda moment: "kill" if (moment.trial_id[-1], moment.attempt, moment.number) == ("1", 1, 2) else None,
    )
    disk = simulation.begin()
    assert simulation.run(disk).reason == "finished"
    ends = [(end.trial_id[-1], end.outcome) for end in (record.event for record in read(disk)) if isinstance(end, AttemptEnded)]
    assert ends == [("1", "failed"), ("0", "completed"), ("1", "completed")]
