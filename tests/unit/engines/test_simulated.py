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
