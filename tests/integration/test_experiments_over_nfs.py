"""Whole experiments in a directory of an NFSv4 server: drivers and trials are processes, and what they write goes over the wire.

`nfs_mount` says what stands between them and the server, and what it does not show.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import holdfast as tune
import nfs_client
import nfs_mount
from holdfast.storage.network import NetworkStorage
from holdfast.testing.history import check_history
from integration import drivers
from integration.drivers import Start, Task, acknowledged, acknowledged_count, kill_at_random, wait_until, wait_until_all_gone

pytestmark = pytest.mark.soak


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty directory of the server; the spool of this machine lies on a local disk."""
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "server").mkdir()
    with nfs_client.ganesha(tmp_path / "server") as port, nfs_mount.mounted(port, tmp_path / "mount") as folder:
        yield folder


@pytest.fixture
def task(place: str, tmp_path: Path) -> Task:
    return Task(storage_path=place, side=str(tmp_path / "side"), rows=8, samples=2, max_failures=20, num_to_keep=2)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_and_restored(task: Task, start: Start, tmp_path: Path, seed: int) -> None:
    """Each driver but the first on another machine, as far as its spool is concerned, so `strict` is what loses nothing."""
    lots = random.Random(seed)
    assert isinstance(task.storage, NetworkStorage)
    for number in range(4):
        cache = {"HOLDFAST_CACHE_DIR": str(tmp_path / f"cache-{number}")}
        here = replace(task, environment=cache, durability="strict", takeover=True, checkpoint_bytes=100_000)
        driver = start(here)
        if number == 3:
            break
        kill_at_random(driver, task, lots, 9)
        wait_until_all_gone(task)
    assert driver.finish() == {"trials": 2, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    there = {os.path.relpath(path, task.storage_path) for path in Path(task.storage_path).rglob("*")}
    assert len(there) > 20
    assert not [name for name in there if os.path.basename(name).startswith((".tmp-", ".staging-", ".nfs", ".fuse"))]
    results = tune.Tuner.restore(task.path, drivers.train).get_results()
    for result in results:
        assert len(result.metrics_dataframe) == task.rows
        assert [row["training_iteration"] for _, row in result.best_checkpoints] == [task.rows - 1, task.rows]
        with result.checkpoint.as_directory() as folder:
            assert json.loads(Path(folder, "state.json").read_text()) == {"next": task.rows}
    moved = Path(task.storage_path, "moved")
    os.rename(task.path, moved)
    assert len(tune.Tuner.restore(moved, drivers.train).get_results()) == 2


def test_of_two_drivers_at_once_one_is_told_so(task: Task, start: Start, tmp_path: Path) -> None:
    """Overtaken from another machine while it is stopped, the first wakes up, learns it, and leaves no mark."""
    first = replace(task, rows=60, every=0, pace_s=0.02)
    one = start(first)
    wait_until(lambda: acknowledged_count(task.side) > 10, doing=one)
    os.kill(one.pid, signal.SIGSTOP)
    second = replace(first, takeover=True, side=f"{task.side}2", environment={"HOLDFAST_CACHE_DIR": str(tmp_path / "another")})
    other = start(second)
    wait_until(lambda: acknowledged_count(second.side) > 10, doing=other)
    os.kill(one.pid, signal.SIGCONT)
    assert one.result()["error"] == "Fenced"
    assert other.finish() == {"trials": 2, "errors": []}
    assert check_history(second.storage, acknowledged(second.side)) == []
    wait_until_all_gone(second)
