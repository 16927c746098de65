"""The local engine passes the suites, with both ways of starting a worker."""

from __future__ import annotations

import pytest

from holdfast.engines.local import LocalEngine
from holdfast.testing.process_suite import ProcessSuite


class TestLocalEngine(ProcessSuite):
    def make_engine(self) -> LocalEngine:
        return LocalEngine(cpus=2)


class TestLocalEngineSpawning(ProcessSuite):
    @pytest.fixture(autouse=True)
    def _spawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOLDFAST_START_METHOD", "spawn")

    def make_engine(self) -> LocalEngine:
        return LocalEngine(cpus=2)
