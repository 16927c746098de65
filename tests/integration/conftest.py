"""Drivers in processes of their own, ended with the test that started them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.drivers import DriverProcess, Start, Task


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts drivers, and ends those that a failed test has left."""
    started: list[DriverProcess] = []

    def begin(task: Task, faults: str = "", before: tuple[str, ...] = ()) -> DriverProcess:
        started.append(DriverProcess(task, faults, before))
        return started[-1]

    yield begin
    for driver in started:
        driver.close()
