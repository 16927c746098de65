"""All engines pass the suites of checkpoints that become known after their row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.engines.base import Engine
from holdfast.engines.inline import InlineEngine
from holdfast.engines.local import LocalEngine
from holdfast.engines.simulated import SimulatedEngine
from holdfast.testing.saving_suite import OnDemandSuite, PendingSuite


class TestLocalEnginePending(PendingSuite):
    def make_engine(self) -> Engine:
        return LocalEngine(cpus=2)


class TestLocalEngineOnDemand(OnDemandSuite):
    def make_engine(self) -> Engine:
        return LocalEngine(cpus=2)


class TestInlineEnginePending(PendingSuite):
    def make_engine(self) -> Engine:
        return InlineEngine()


class TestInlineEngineOnDemand(OnDemandSuite):
    def make_engine(self) -> Engine:
        return InlineEngine()


class TestSimulatedEnginePending(PendingSuite):
    def make_engine(self) -> Engine:
        return SimulatedEngine(workers=2, seconds=0.01)

    def make_trainable(self, story: Callable[..., Any]) -> Callable[..., Any]:
        return story


class TestSimulatedEngineOnDemand(OnDemandSuite):
    def make_engine(self) -> Engine:
        return SimulatedEngine(workers=2, seconds=0.01, on_demand=True)

    def make_trainable(self, story: Callable[..., Any]) -> Callable[..., Any]:
        return story
