"""Population based training in real processes: `kill -9` of driver and workers changes nothing that was decided."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import holdfast as tune
from holdfast._assembly.explaining import explain
from holdfast._core.events import AttemptStarted, ResultReported
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import Inherited
from holdfast._journal import read
from holdfast.logger.policy import GLOBAL, PolicyFiles, policy_name
from holdfast.testing.census import Census
from holdfast.testing.history import check_history
from holdfast.testing.simulation import digest
from integration.drivers import (
    DriverProcess,
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    token_of,
    train,
    wait_until,
    wait_until_all_gone,
)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return Task(
        storage_path=str(tmp_path / "results"),
        side=str(tmp_path / "side"),
        rows=12,
        samples=4,
        population="pbt",
        num_to_keep=1,
        max_failures=10,
        pace_s=0.01,
        environment={"TMPDIR": str(temporary)},
    )


def kill(driver: DriverProcess, victims: tuple[str, ...], rows: int, lots: random.Random) -> None:
    """SIGKILL when so many reports have returned."""
    wait_until(lambda: acknowledged_count(driver.task.side) >= rows and driver.roles()["worker"], doing=driver)
    workers = driver.roles()["worker"]
    if "worker" in victims and workers:
        with suppress(ProcessLookupError):  # it may have ended meanwhile
            os.kill(lots.choice(workers), signal.SIGKILL)
    if "driver" in victims:
        driver.kill()
        wait_until_all_gone(driver.task)


def policy_of(task: Task) -> dict[str, bytes]:
    """What the logs are to hold, from the journal."""
    state, policy = ExperimentState(), PolicyFiles("")
    for record in read(task.storage):
        state.fold(record)
        policy.hear(record, state)
    logs = {policy_name(trial_id): b"".join(policy.lines(trial_id)) for trial_id in state.trials}
    return {name: text for name, text in {**logs, GLOBAL: b"".join(policy.lines())}.items() if text}


def exploits(task: Task) -> int:
    """How many attempts went on from another trial's checkpoint; each goes on with that one's counters."""
    state, expected, count = ExperimentState(), {}, 0
    for record in read(task.storage):
        event = record.event
        if isinstance(event, AttemptStarted):
            point = state.trial(event.trial_id).resume_point()
            if isinstance(point, Inherited) and point.donor != event.trial_id:
                expected[event.trial_id, event.attempt] = point
        elif isinstance(event, ResultReported) and (point := expected.pop((event.trial_id, event.attempt), None)):
            assert event.iteration == point.iteration + 1
            assert event.number == point.number + 1
            assert event.time_total_s >= point.time_total_s
            count += 1
        state.fold(record)
    return count


def assert_sound(task: Task, before: Census) -> None:
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert explain(task.storage) == []
    assert exploits(task) > 0
    wanted = policy_of(task)
    assert len(wanted) > 1
    there = {name: Path(task.path, name).read_bytes() for name in os.listdir(task.path) if name.startswith("pbt_")}
    assert there == wanted
    wait_until_all_gone(task)
    assert Census.take(token_of(task), task.environment["TMPDIR"]).since(before) == []


CASES = [
    ("pbt", False, 1, ("driver",)),
    ("pbt", False, 2, ("driver", "worker")),
    ("pbt", True, 0, ("driver", "worker")),
    ("pbt", True, 2, ("worker",)),
    ("synch", False, 1, ("driver", "worker")),
    ("synch", False, 2, ("worker",)),
    ("synch", True, 0, ("driver",)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("population", "by_class", "every", "victims"), CASES, ids=str)
def test_a_kill_changes_nothing_that_was_decided(
    task: Task, start: Start, population: str, by_class: bool, every: int, victims: tuple[str, ...]
) -> None:
    seed = f"{population} {by_class} {every} {victims}"
    print("seed", seed)
    lots, task = random.Random(seed), replace(task, population=population, by_class=by_class, every=every)
    before = Census.take("none", task.environment["TMPDIR"])
    driver = start(task)
    for rows in sorted(lots.sample(range(6, 24), 2)):
        kill(driver, victims, rows, lots)
        driver = start(task) if "driver" in victims else driver
    assert driver.finish()["errors"] == []
    assert_sound(task, before)


@pytest.mark.slow
@pytest.mark.parametrize("population", ["pbt", "synch"])
def test_restored_equals_uninterrupted(tmp_path: Path, task: Task, start: Start, population: str) -> None:
    task = replace(task, workers=1, unique=False, population=population, rows=24)
    start(task).finish()
    whole = acknowledged_count(task.side)
    lots = random.Random(population)
    moments = [lots.randint(6, whole // 2), lots.randint(whole // 2 + 1, whole - 2)]
    print("seed", population, "rows", moments, "of", whole)
    killed = replace(task, storage_path=str(tmp_path / "b"), side=str(tmp_path / "side-b"))
    for rows in moments:
        kill(start(killed), ("driver",), rows, lots)
    start(killed).finish()
    assert exploits(task) > 1
    assert digest(killed.storage) == digest(task.storage)


@pytest.mark.slow
def test_readers_show_the_config_that_each_row_ran_with(task: Task, start: Start) -> None:
    start(task).finish()
    lines = [json.loads(line) for line in Path(task.path, GLOBAL).read_text().splitlines()]
    changed = perturbed = 0
    for result in tune.Tuner.restore(task.path, train).get_results():
        tag = result.metrics["experiment_tag"].partition("@")[0]
        own = [line for line in lines if line[0] == tag]
        rows = [json.loads(line) for line in Path(result.path, "result.json").read_text().splitlines()]
        assert list(result.metrics_dataframe["config/x"]) == [row["config"]["x"] for row in rows]
        assert json.loads(Path(result.path, "params.json").read_text()) == result.config
        if own:
            changed += 1
            assert result.config == own[-1][5]
            assert rows[0]["experiment_tag"] == tag
            assert {row["config"]["x"] for row in rows} <= {rows[0]["config"]["x"], *(line[5]["x"] for line in own)}
            for row in rows:
                first = row["config"] == rows[0]["config"]
                assert row["experiment_tag"] == (tag if first else f"{tag}@perturbed[x={row['config']['x']:.4f}]")
            perturbed += rows[-1]["config"] != rows[0]["config"]
    assert changed and perturbed
