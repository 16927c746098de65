"""Drivers in processes of their own, ended with the test that started them; places on object stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import object_servers
from holdfast.storage.opening import inside
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


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[object_servers.Server]:
    """An object store: ministack where the test names no other (`object_servers.EVERYWHERE`)."""
    with object_servers.serving(getattr(request, "param", "ministack")) as server:
        yield server


@pytest.fixture
def place(server: object_servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own in the bucket, with the environment that leads there and an empty cache."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    return inside(server.uri, os.urandom(4).hex())
