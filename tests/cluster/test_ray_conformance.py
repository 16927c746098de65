"""The Ray engine passes the suites, on a cluster of one node."""

from __future__ import annotations

import pytest

from holdfast.engines.base import Engine
from holdfast.testing.class_suite import ClassProcessSuite
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
