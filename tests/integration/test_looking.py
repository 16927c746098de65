"""Looking is harmless: nothing that only looks writes, locks or waits, beside a live driver or on a read-only disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast.testing.census import fingerprint
from holdfast.testing.history import check_history
from holdfast.tuner import Tuner
from integration.drivers import Start, Task, acknowledged, acknowledged_count, train, wait_until, wait_until_all_gone

EXP, RESULTS = "<the experiment>", "<what holds it>"
LOOKS = [
    ["ls", RESULTS],
    ["show", EXP],
    ["show", EXP, "0", "--superseded"],
    ["verify", EXP],
    ["watch", EXP, "--once"],
    ["watch", EXP, "--once", "--json"],
    ["best", EXP],
    ["logs", EXP, "0"],
    ["export", EXP, "--rows"],
    ["diff", f"{EXP}/0", f"{EXP}/0"],
    ["completion", "zsh"],
]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(str(tmp_path / "results"), str(tmp_path / "side"), rows=6, samples=4, every=2)


def holdfast(commands: list[list[str]]) -> list[str]:
    """What the commands print, one after the other in a process of their own."""
    code = (
        "import json, sys; from click.testing import CliRunner; from holdfast.cli.verbs import holdfast\n"
        "ran = [CliRunner().invoke(holdfast, command) for command in json.loads(sys.argv[1])]\n"
        "print(json.dumps([[one.exit_code, one.output] for one in ran]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(done.stdout)
    assert [code for code, _ in told] == [0] * len(commands), told
    return [text for _, text in told]


def look_at_everything(task: Task) -> list[Any]:
    """Uses all that only reads; returns what the results say."""
    assert Tuner.can_restore(task.path)
    assert not Tuner.can_restore(os.path.join(task.path, "journal"))
    results = Tuner.restore(task.path, train).get_results()
    commands = [[word.replace(EXP, task.path).replace(RESULTS, task.storage_path) for word in words] for words in LOOKS]
    for words, text in zip(LOOKS, holdfast(commands), strict=True):
        assert text.strip(), words
    check_history(task.storage, at_rest=False)
    results.get_dataframe()
    return [(result.config["x"], len(result.metrics_dataframe) if result.metrics else 0) for result in results]


@contextmanager
def read_only(path: str) -> Iterator[None]:
    """A file system that refuses every write, root's too."""
    for arguments in (["--bind", path, path], ["-o", "remount,bind,ro", path]):
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"this test needs the right to mount (root): {done.stderr}"
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_looking_at_a_live_experiment_changes_nothing(task: Task, start: Start) -> None:
    driver = start(replace(task, pace_s=0.02))
    wait_until(lambda: acknowledged_count(task.side) >= 8, doing=driver)
    tree = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    for process in tree:  # alive, and writing nothing meanwhile: whatever changes was changed by looking
        process.send_signal(signal.SIGSTOP)
    wait_until(lambda: all(process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE) for process in tree))
    before = fingerprint(task.path)
    shown = look_at_everything(task)
    assert fingerprint(task.path) == before
    assert sum(rows for _, rows in shown) >= 8
    for process in tree:
        process.send_signal(signal.SIGCONT)
    assert driver.finish()["errors"] == []
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_looking_needs_no_right_to_write(task: Task, start: Start) -> None:
    start(task).finish()
    before = fingerprint(task.path)
    with read_only(task.storage_path):
        with pytest.raises(OSError, match="Read-only"):
            Path(task.path, "new").touch()
        assert [rows for _, rows in look_at_everything(task)] == [6] * 4
    assert fingerprint(task.path) == before


def test_looking_at_what_a_killed_driver_left_changes_nothing(task: Task, start: Start) -> None:
    killed = start(task, "in_write:7=kill")
    killed.process.communicate()
    assert killed.process.returncode == -signal.SIGKILL
    wait_until_all_gone(task)
    before = fingerprint(task.path)
    look_at_everything(task)
    assert fingerprint(task.path) == before
