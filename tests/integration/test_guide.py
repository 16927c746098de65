"""Ray Tune's guide to fault tolerance, step by step, with real processes: stop the script anyhow, run it again, it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast as tune
from holdfast._projection.history import load_state
from holdfast.storage.local import LocalStorage

# Three trials: one ends well, one fails, one hangs. When the file `mended` exists, the last two go through.
SCRIPT = """
import json, sys, tempfile, time
from pathlib import Path
import holdfast as tune

STORAGE, MODE, ARGUMENTS = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
MENDED, EXECUTED = STORAGE / "mended", STORAGE / "executed"

def train(config):
    checkpoint = tune.get_checkpoint()
    start = int(Path(checkpoint.path, "i").read_text()) + 1 if checkpoint else 0
    with EXECUTED.open("a") as file:
        file.write(f"{config['x']} from {start}\\n")
    for i in range(start, 5):
        if not MENDED.exists():
            if config["x"] == "fails" and i == 3:
                raise ValueError("no luck")
            while config["x"] == "hangs" and i == 2:
                time.sleep(0.01)
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "i").write_text(str(i))
            tune.report({"i": i}, checkpoint=tune.Checkpoint.from_directory(directory))

class Trouble(tune.Callback):
    def on_step_end(self, iteration, trials, **info):
        statuses = [trial.status for trial in trials]
        if not MENDED.exists() and statuses == ["TERMINATED", "ERROR", "RUNNING"] and trials[2].last_result.get("i") == 1:
            raise ZeroDivisionError("the driver's own trouble")

if tune.Tuner.can_restore(STORAGE / "exp"):
    tuner = tune.Tuner.restore(STORAGE / "exp", train, **ARGUMENTS)
else:
    tuner = tune.Tuner(
        train,
        param_space={"x": tune.grid_search(["ends", "fails", "hangs"])},
        run_config=tune.RunConfig(name="exp", storage_path=STORAGE, callbacks=[Trouble()] if MODE == "callback" else []),
    )
try:
    grid = tuner.fit()
except tune.ExperimentInterrupted as stopped:
    print(json.dumps([len(stopped.results), stopped.signal]), flush=True)
    raise
print(json.dumps([[result.config["x"], len(result.metrics_dataframe), str(result.error)] for result in grid]), flush=True)
"""


class Script:
    """The user's script, run again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "script.py"
        self.file.write_text(SCRIPT)
        self.started: list[subprocess.Popen] = []

    def start(self, mode: str = "", **arguments) -> subprocess.Popen:
        driver = subprocess.Popen(
            [sys.executable, str(self.file), str(self.root), mode, json.dumps(arguments)],
            env={**os.environ, "HOLDFAST_CPUS": "3", "HOLDFAST_GRACE_S": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(driver)
        return driver

    def close(self) -> None:
        for driver in self.started:
            driver.kill()
            driver.communicate()

    def run(self, **arguments) -> list:
        """Runs it to its end; what it printed last."""
        driver = self.start(**arguments)
        out, err = driver.communicate(timeout=60)
        assert driver.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    def executed(self) -> list[str]:
        return sorted((self.root / "executed").read_text().splitlines())

    def mend(self) -> None:
        (self.root / "mended").touch()

    def wait_for_the_middle(self) -> None:
        """One trial has ended, one has failed, one hangs behind its second row."""
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline
            assert self.started[-1].poll() is None
            if tune.Tuner.can_restore(self.root / "exp"):
                trials = list(load_state(LocalStorage(str(self.root / "exp"))).trials.values())
                if [trial.state for trial in trials] == ["TERMINATED", "ERROR", "RUNNING"] and trials[2].mark == 2:
                    return
            time.sleep(0.02)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path)
    yield made
    made.close()


FIRST = ["ends from 0", "fails from 0", "hangs from 0"]


@pytest.mark.parametrize(
    ("stopped_by", "arguments", "again", "rows"),
    [
        ("callback", {}, ["hangs from 2"], {"ends": 5, "fails": 3, "hangs": 5}),
        (signal.SIGINT, {"resume_errored": True}, ["fails from 3", "hangs from 2"], {"ends": 5, "fails": 5, "hangs": 5}),
        (signal.SIGTERM, {"restart_errored": True}, ["fails from 0", "hangs from 2"], {"ends": 5, "fails": 5, "hangs": 5}),
        (signal.SIGKILL, {"resume_errored": True}, ["fails from 3", "hangs from 2"], {"ends": 5, "fails": 5, "hangs": 5}),
        (signal.SIGKILL, {"resume_unfinished": False}, [], {"ends": 5, "fails": 3, "hangs": 2}),
    ],
)
def test_stopped_and_restored(script: Script, stopped_by, arguments: dict, again: list[str], rows: dict[str, int]) -> None:
    driver = script.start("callback" if stopped_by == "callback" else "")
    if stopped_by != "callback":
        script.wait_for_the_middle()
        driver.send_signal(stopped_by)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode != 0
    assert script.executed() == FIRST
    if stopped_by == signal.SIGKILL:
        assert driver.returncode == -signal.SIGKILL
    else:
        assert f"Tuner.restore('{script.root / 'exp'}', trainable=train" in err
        assert "ZeroDivisionError: the driver's own trouble" in err or stopped_by != "callback"
    if stopped_by in (signal.SIGINT, signal.SIGTERM):
        assert (driver.returncode, "Traceback" in err) == (128 + stopped_by, False)
        assert json.loads(out.splitlines()[-1]) == [3, stopped_by]
    script.mend()
    ends = script.run(**arguments)
    assert {name: count for name, count, _ in ends} == rows
    errors = {name: error for name, _, error in ends}
    assert errors == {"ends": "None", "hangs": "None", "fails": "None" if rows["fails"] == 5 else "no luck"}
    assert Counter(script.executed()) == Counter(FIRST + again)
    assert script.run() == ends  # finished: nothing runs any more
    assert Counter(script.executed()) == Counter(FIRST + again)


def test_the_one_script_needs_no_change_to_be_run_again(script: Script) -> None:
    script.mend()
    ends = script.run()
    assert ends == [["ends", 5, "None"], ["fails", 5, "None"], ["hangs", 5, "None"]]
    assert script.run() == ends
    assert script.executed() == FIRST


def test_three_failures_are_four_attempts_each_from_the_newest_checkpoint(tmp_path: Path) -> None:
    def train(config):
        checkpoint = tune.get_checkpoint()
        start = int(Path(checkpoint.path, "i").read_text()) + 1 if checkpoint else 0
        with (tmp_path / "executed").open("a") as file:
            file.write(f"{start} ")
        for i in range(start, 20):
            Path("state").mkdir(exist_ok=True)
            Path("state", "i").write_text(str(i))
            tune.report({"i": i}, checkpoint=tune.Checkpoint("state") if i % 2 else None)
            if i == start + 2:
                raise ValueError(f"no luck behind {i}")

    config = tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0, failure_config=tune.FailureConfig(max_failures=3))
    [result] = tune.Tuner(train, run_config=config).fit()
    # Failed behind rows 2, 4, 6 and 8; kept were 1, 3, 5 and 7.
    assert (tmp_path / "executed").read_text().split() == ["0", "2", "4", "6"]
    assert isinstance(result.error, ValueError)
    assert str(result.error) == "no luck behind 8"
    assert list(result.metrics_dataframe["i"]) == list(range(9))
