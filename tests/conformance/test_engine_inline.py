"""The inline engine passes the suite."""

from __future__ import annotations

from holdfast.engines.inline import InlineEngine
from holdfast.testing.engine_suite import EngineSuite


class TestInlineEngine(EngineSuite):
    def make_engine(self) -> InlineEngine:
        return InlineEngine()
