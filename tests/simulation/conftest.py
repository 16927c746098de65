"""The interpreters that restore crashed experiments: two for all files, because loading the plug-ins' libraries takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulation.fresh import FreshProcesses


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcesses]:
    processes = FreshProcesses()
    yield processes
    processes.close()
