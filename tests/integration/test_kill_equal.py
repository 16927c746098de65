"""Restored equals uninterrupted: one trial at a time, the driver killed twice, and nothing at the end shows it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.testing.history import check_history
from holdfast.testing.simulation import digest
from integration.drivers import Start, Task, acknowledged, acknowledged_count, needlessly_redone, wait_until, wait_until_all_gone


@pytest.mark.parametrize("every", [1, 5])
def test_configs_rows_and_decisions_are_those_of_an_uninterrupted_run(tmp_path: Path, start: Start, every: int) -> None:
    task = Task(
        str(tmp_path / "a"), str(tmp_path / "side-a"), rows=12, samples=8, workers=1, every=every, asha=True, unique=False
    )
    start(task).finish()
    whole = acknowledged_count(task.side)
    lots = random.Random(every)
    moments = [lots.randint(2, whole // 2), lots.randint(whole // 2 + 1, whole - 2)]
    print("seed", every, "rows", moments, "of", whole)
    killed = replace(task, storage_path=str(tmp_path / "b"), side=str(tmp_path / "side-b"))
    for rows in moments:
        driver = start(killed)
        wait_until(lambda rows=rows: acknowledged_count(killed.side) >= rows, doing=driver)
        driver.kill()
        wait_until_all_gone(killed)
    start(killed).finish()
    assert digest(killed.storage) == digest(task.storage)
    stopped = [trial for trial in digest(task.storage) if len(trial[-1]) < task.rows]
    assert stopped, "ASHA was expected to stop some trials early: else equal decisions show little"
    for one in (task, killed):
        assert check_history(one.storage, acknowledged(one.side)) == []
    assert needlessly_redone(killed.side) == []
