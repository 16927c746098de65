"""The simulated engine passes the suite; a story is what it plays, as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.engines.simulated import SimulatedEngine
from holdfast.testing.engine_suite import EngineSuite


class TestSimulatedEngine(EngineSuite):
    def make_engine(self) -> SimulatedEngine:
        return SimulatedEngine(workers=2, seconds=0.01)

    def make_trainable(self, story: Callable[..., Any]) -> Callable[..., Any]:
        return story
