"""An experiment that is asked for more ends as it would have without a kill, wherever the driver is killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from holdfast._projection.history import load_state
from holdfast.testing.history import check_history
from holdfast.testing.simulation import digest
from integration.drivers import Start, Task, acknowledged, acknowledged_count, needlessly_redone, wait_until, wait_until_all_gone


@pytest.mark.parametrize("by_class", [False, True])
def test_killed_before_and_behind_its_extension(tmp_path: Path, start: Start, by_class: bool) -> None:
    task = Task(
        str(tmp_path / "a"), str(tmp_path / "side-a"),
        rows=12, first_rows=5, samples=3, workers=1, every=2, unique=False, by_class=by_class,
    )  # fmt: skip
    assert start(task).finish()["trials"] == 4
    state = load_state(task.storage)
    assert [trial.mark for trial in state.trials.values()] == [12] * 4
    assert state.extensions[0].revived == [trial.trial_id for trial in state.trials.values()][:3]
    killed = replace(task, storage_path=str(tmp_path / "b"), side=str(tmp_path / "side-b"))
    for rows in (7, 23, 33):  # in the first part, among trials that go on, in the last of them or the new one
        driver = start(killed)
        wait_until(lambda rows=rows: acknowledged_count(killed.side) >= rows, doing=driver)
        driver.kill()
        wait_until_all_gone(killed)
    start(killed).finish()
    assert digest(killed.storage) == digest(task.storage)
    for one in (task, killed):
        assert check_history(one.storage, acknowledged(one.side)) == []
        assert len(load_state(one.storage).extensions) == 1
    assert needlessly_redone(killed.side) == []
    for result in (tmp_path / "b" / "exp").glob("*/result.json"):
        assert len(result.read_text().splitlines()) == 12
