"""The engines that run class trainables pass their suite."""

from __future__ import annotations

from holdfast.engines.base import Engine
from holdfast.engines.inline import InlineEngine
from holdfast.engines.local import LocalEngine
from holdfast.testing.class_suite import ClassProcessSuite, ClassSuite


class TestLocalEngine(ClassProcessSuite):
    def make_engine(self) -> Engine:
        return LocalEngine(cpus=2)


class TestInlineEngine(ClassSuite):
    def make_engine(self) -> Engine:
        return InlineEngine()
