"""When a snapshot is taken by default: where a replay would cost much thinking."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.config import RunConfig, TuneConfig
from holdfast.search import Searcher
from holdfast.testing.simulation import Simulation


class Thinker(Searcher):
    """Thinks for so many seconds about each trial."""

    own_chance = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def suggest(self, trial_id: str) -> dict[str, Any]:
        began = time.perf_counter()
        while time.perf_counter() - began < self.seconds:
            pass
        return {"x": 1}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass


def train(config: dict[str, Any]) -> Iterator[dict[str, int]]:
    yield {"score": config["x"]}


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "never", "taken"), [(0.3, False, True), (0.0, False, False), (0.3, True, False)])
def test_much_thinking_is_worth_a_snapshot(seconds: float, never: bool, taken: bool) -> None:
    search = TuneConfig(metric="score", mode="min", num_samples=2, search_alg=Thinker(seconds), seed=1)
    simulation = Simulation(train, {}, search, RunConfig(name="simulated", verbose=0))
    disk = simulation.begin()
    simulation.run(disk, snapshot_due=(lambda *_: False) if never else None)
    assert any(name.startswith("journal/snapshots/") for name in disk.files()) is taken
