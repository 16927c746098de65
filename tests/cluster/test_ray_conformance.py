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
