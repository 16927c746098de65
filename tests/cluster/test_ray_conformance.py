"""The Ray engine passes the suites, on a cluster of one node."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from holdfast.engines.base import Engine
from holdfast.engines.ray.bell import Bell
from holdfast.engines.ray.line import Mail
from holdfast.testing.class_suite import ClassProcessSuite
from holdfast.testing.engine_stage import make_order
from holdfast.testing.engine_suite import EngineTests, OpenStage
from holdfast.testing.process_suite import ProcessSuite
from holdfast.testing.saving_suite import OnDemandSuite, PendingSuite

pytestmark = pytest.mark.usefixtures("one_node")


def made() -> Engine:
    from holdfast.engines.ray import RayEngine

    return RayEngine()


class TestRayEngine(ProcessSuite):
    def make_engine(self) -> Engine:
        return made()


class TestRayEngineElsewhere(ProcessSuite):
    """Attempts that are not on the driver's node talk to it through Ray's calls."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("holdfast.engines.ray.crew.own_node", lambda: "")

    def make_engine(self) -> Engine:
        return made()


class TestRayEngineLateMail(EngineTests):
    """What the mailbox holds comes so late that Ray and the parents of workers have said of all of them that they are gone."""

    @pytest.fixture(autouse=True)
    def late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("holdfast.engines.ray.crew.own_node", lambda: "")
        ring = Bell.ring

        def ring_late(bell: Bell, happening: Any = None) -> None:
            if isinstance(happening, Mail):
                threading.Timer(4.0, ring, (bell, happening)).start()
            else:
                ring(bell, happening)

        monkeypatch.setattr(Bell, "ring", ring_late)

    def make_engine(self) -> Engine:
        return made()

    def test_an_attempt_that_has_ended_well_is_not_taken_for_lost(self, open_stage: OpenStage) -> None:
        (end,) = open_stage(lambda _: None).run(make_order())
        assert (end.outcome, end.failure) == ("completed", None)

    def test_an_exit_code_is_known(self, open_stage: OpenStage) -> None:
        (end,) = open_stage(lambda _: os._exit(3)).run(make_order())
        assert end.failure is not None
        assert (end.failure.kind, end.failure.exit_code) == ("worker", 3), end.failure


@pytest.mark.soak
class TestRayEnginePending(PendingSuite):
    def make_engine(self) -> Engine:
        return made()


@pytest.mark.soak
class TestRayEngineOnDemand(OnDemandSuite):
    def make_engine(self) -> Engine:
        return made()


@pytest.mark.soak
class TestRayEngineClasses(ClassProcessSuite):
    def make_engine(self) -> Engine:
        return made()
