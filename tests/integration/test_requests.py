"""`holdfast stop`, `pause` and `resume` from another process, to live experiments and to ones that nobody drives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast._core.events import DecisionMade, RequestReceived
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.testing.history import check_history
from integration.drivers import DriverProcess, Start, Task, acknowledged, acknowledged_count, wait_until, wait_until_all_gone

FOREVER = 1_000_000


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(storage_path=str(tmp_path / "results"), side=str(tmp_path / "side"), rows=FOREVER, samples=2, pace_s=0.01)


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    program = "from holdfast.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60, check=False)


def asked(*words: str) -> str:
    done = ask(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(task: Task) -> list[str]:
    return [trial.state for trial in load_state(task.storage).trials.values()]


def begun(task: Task, start: Start) -> DriverProcess:
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 8, doing=driver)
    return driver


def test_stop_ends_a_live_experiment_for_good(task: Task, start: Start) -> None:
    driver = begun(task, start)
    assert "ends: running trials with their next row" in asked("stop", task.path)
    assert driver.finish() == {"trials": 2, "errors": []}
    wait_until_all_gone(task)
    assert states(task) == ["TERMINATED", "TERMINATED"]
    assert os.listdir(f"{task.path}/requests") == []
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert "stopping  by request" in asked("show", task.path)
    assert start(task).finish() == {"trials": 2, "errors": []}, "nothing is begun again"
    refused = ask("stop", task.path)
    assert (refused.returncode, "has ended" in refused.stderr) == (2, True)


def test_one_trial_is_stopped_and_the_other_goes_on(task: Task, start: Start) -> None:
    driver = begun(task, start)
    name = next(iter(load_state(task.storage).trials))
    asked("stop", task.path, "0")
    wait_until(lambda: states(task)[0] == "TERMINATED", doing=driver)
    rows = acknowledged_count(task.side)
    wait_until(lambda: acknowledged_count(task.side) > rows + 3, doing=driver)
    assert states(task) == ["TERMINATED", "RUNNING"]
    refused = ask("pause", task.path, name)
    assert (refused.returncode, f"Trial {name} has ended" in refused.stderr) == (2, True)
    asked("stop", task.path)
    driver.finish()
    decided = [e for e in (record.event for record in read(task.storage)) if isinstance(e, DecisionMade) and e.action == "STOP"]
    assert [decision.by for decision in decided] == ["request", "request"]


def test_an_experiment_is_paused_and_goes_on_from_its_checkpoints(task: Task, start: Start) -> None:
    task = replace(task, rows=60)
    driver = begun(task, start)
    assert "is paused" in asked("pause", task.path)
    wait_until(lambda: states(task) == ["PAUSED", "PAUSED"], doing=driver)
    wait_until(lambda: driver.roles()["worker"] == [], doing=driver)
    rows = acknowledged_count(task.side)
    shown = asked("show", task.path)
    assert "paused    by request; `holdfast resume` lets it go on" in shown
    assert acknowledged_count(task.side) == rows
    assert "goes on" in asked("resume", task.path)
    assert driver.finish() == {"trials": 2, "errors": []}
    lines = [json.loads(line) for line in Path(task.side).read_text().splitlines()]
    assert min(line["start"] for line in lines[3:] if line["what"] == "begin") > 0
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_paused_trial_stays_so_over_a_driver_that_is_killed(task: Task, start: Start) -> None:
    driver = begun(task, start)
    asked("pause", task.path, "1")
    wait_until(lambda: states(task)[1] == "PAUSED", doing=driver)
    driver.kill()
    wait_until_all_gone(task)
    assert "(held)" in asked("show", task.path)
    told = asked("stop", task.path, "0")
    assert "No driver is at work" in told
    again = start(task)
    wait_until(lambda: states(task)[0] == "TERMINATED", doing=again)
    assert states(task)[1] == "PAUSED"
    asked("resume", task.path, "1")
    wait_until(lambda: states(task)[1] == "RUNNING", doing=again)
    asked("stop", task.path)
    again.finish()
    requests = [record.event for record in read(task.storage) if isinstance(record.event, RequestReceived)]
    assert [request.verb for request in requests] == ["pause", "stop", "resume", "stop"]
    assert check_history(task.storage, acknowledged(task.side)) == []


@pytest.mark.parametrize("verb", ["stop", "pause", "resume"])
def test_what_cannot_be_asked_is_refused_and_changes_nothing(task: Task, start: Start, verb: str, tmp_path: Path) -> None:
    before = acknowledged_count(task.side)
    nowhere = ask(verb, str(tmp_path))
    assert (nowhere.returncode, "There is no experiment at" in nowhere.stderr) == (2, True)
    driver = begun(task, start)
    unknown = ask(verb, task.path, "abc_99999")
    assert (unknown.returncode, "There is no trial 'abc_99999'" in unknown.stderr) == (2, True)
    assert not os.path.exists(f"{task.path}/requests") or os.listdir(f"{task.path}/requests") == []
    wait_until(lambda: acknowledged_count(task.side) > before + 20, doing=driver)
    driver.kill()


def test_a_request_that_makes_no_sense_is_removed_and_harms_nothing(task: Task, start: Start) -> None:
    driver = begun(task, start)
    folder = Path(task.path, "requests")
    folder.mkdir(exist_ok=True)
    (folder / "nonsense").write_text('{"verb": "explode", "trial": ""}')
    (folder / "empty").write_text("")
    wait_until(lambda: list(folder.iterdir()) == [], doing=driver)
    assert states(task) == ["RUNNING", "RUNNING"]
    asked("stop", task.path)
    driver.finish()
