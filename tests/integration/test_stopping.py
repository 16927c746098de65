"""Ctrl+C, SIGTERM and SIGUSR1 to real drivers: trials leave with what they have, exit codes tell, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast._core.events import AttemptLost, CheckpointCommitted, EpochEnded
from holdfast._journal import read
from holdfast.storage.local import LocalStorage
from holdfast.testing.census import processes_of
from holdfast.testing.history import check_history
from integration.drivers import side_log, wait_until

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
import holdfast as tune
from integration.drivers import note

settings = json.loads(sys.argv[1])
side = settings["side"]

def train(config):
    start = 0
    newest = tune.get_checkpoint()
    if newest is not None:
        start = json.loads(Path(newest.path, "state.json").read_text())
    note(side, what="begin", at=start)
    try:
        for i in range(start, config["rows"]):
            if i == config["deaf_at"] and not Path(config["heals"]).exists():
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
                note(side, what="deaf")
                time.sleep(600)
            time.sleep(0.01)
            Path("state.json").write_text(json.dumps(i + 1))
            os.makedirs("saved", exist_ok=True)
            os.replace("state.json", "saved/state.json")
            tune.report({"i": i}, checkpoint=tune.Checkpoint("saved"))
            note(side, what="row", at=i)
    finally:
        note(side, what="unwound")

class Counting(tune.Trainable):
    def setup(self, config):
        self.total = 0
    def step(self):
        note(side, what="begin" if self.total == 0 else "row", at=self.iteration)
        if self.total == self.config["deaf_at"]:
            note(side, what="deaf")
            time.sleep(600)
        time.sleep(0.01)
        self.total += 1
        return {"total": self.total, "done": self.total >= self.config["rows"]}
    def save_checkpoint(self, directory):
        Path(directory, "state.json").write_text(json.dumps(self.total))
    def load_checkpoint(self, directory):
        self.total = json.loads(Path(directory, "state.json").read_text())
    def cleanup(self):
        note(side, what="cleanup", at=self.total)

def tuner():
    space = {name: settings[name] for name in ("rows", "deaf_at", "heals")}
    return tune.Tuner(
        Counting if settings["by_class"] else train,
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=2),
        run_config=tune.RunConfig(
            name="exp", storage_path=settings["storage_path"], verbose=settings["verbose"], if_exists="resume",
            exit_on_preemption=settings["requeue"],
        ),
    )

results = tuner().fit()
print(json.dumps([result.metrics["training_iteration"] for result in results]))
"""


class Script:
    """A user's script that starts or resumes one experiment, run as a process of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = {
            "storage_path": str(folder),
            "side": str(folder / "side"),
            "heals": str(folder / "healed"),
            "rows": 100_000,
            "deaf_at": -1,
            "by_class": False,
            "requeue": False,
            "verbose": 1,
            **settings,
        }
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        (self.folder / "script.py").write_text(SCRIPT)
        tests = str(Path(__file__).parents[1])
        environment = {
            **os.environ,
            "HOLDFAST_CPUS": "2",
            "PYTHONPATH": tests,
            "HOLDFAST_GRACE_S": str(self.settings.pop("grace", 10)),
        }
        return subprocess.Popen(
            [sys.executable, str(self.folder / "script.py"), json.dumps(self.settings)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def again(self, **settings: Any) -> None:
        """Runs the same script once more."""
        self.settings.update(settings)
        self.process = self._start()

    def count(self, what: str) -> int:
        return sum(line["what"] == what for line in side_log(self.settings["side"]))

    def reached(self, at: int) -> int:
        """How many rows of that number were reported: by each trial one."""
        return sum(line["what"] == "row" and line["at"] == at for line in side_log(self.settings["side"]))

    def until(self, condition: Callable[[], object]) -> None:
        wait_until(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def end(self, within_s: float = 30.0) -> tuple[int, str, str]:
        """Exit code and output of a script that is about to end; nothing of it is left."""
        out, err = self.process.communicate(timeout=within_s)
        token = f"{next(iter(read(self.storage))).event.experiment_id}."
        wait_until(lambda: not processes_of(token), within_s=2.0)
        return self.process.returncode, out, err

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(str(self.folder / "exp"))

    def events(self, kind: type) -> list[Any]:
        return [record.event for record in read(self.storage) if isinstance(record.event, kind)]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """Makes a script, and ends what a failed test has left of it."""
    made: list[Script] = []

    def make(**settings: Any) -> Script:
        made.append(Script(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            for process in [*psutil.Process(one.process.pid).children(recursive=True), psutil.Process(one.process.pid)]:
                process.kill()
            one.process.communicate()


@pytest.mark.parametrize(
    ("number", "requeue", "code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGUSR1, False, 138),
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, True, 75),
        (signal.SIGUSR1, True, 75),
    ],
)
def test_one_signal_lets_trials_leave_and_the_exit_code_says_which(
    script: Callable[..., Script], number: int, requeue: bool, code: int
) -> None:
    running = script(requeue=requeue, rows=100)
    running.until(lambda: running.reached(2) == 2)
    os.kill(running.process.pid, number)
    returned, _, err = running.end()
    assert returned == code
    assert "Traceback" not in err
    assert f"signal {int(number)} ended the experiment" in err
    assert "Tuner.restore(" in err
    assert running.count("unwound") == 2  # `finally` ran
    assert [event.cause for event in running.events(AttemptLost)] == ["interrupted", "interrupted"]
    assert running.events(EpochEnded)[-1].reason == "interrupted"

    running.again()
    returned, out, _ = running.end()
    assert (returned, json.loads(out.splitlines()[-1])) == (0, [100, 100])
    begun = [line["at"] for line in side_log(running.settings["side"]) if line["what"] == "begin"]
    assert min(begun[2:]) >= 2, "they went on from their checkpoints"
    assert check_history(running.storage, []) == []


def test_a_class_trainable_saves_and_cleans_up_before_it_leaves(script: Callable[..., Script]) -> None:
    running = script(by_class=True, rows=100)
    running.until(lambda: running.reached(2) == 2)
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end()[0] == 143
    assert len(running.events(CheckpointCommitted)) == 2
    assert running.count("cleanup") == 2
    saved = sorted(line["at"] for line in side_log(running.settings["side"]) if line["what"] == "cleanup")
    assert saved[0] > 0

    running.again()
    returned, out, _ = running.end()
    assert (returned, json.loads(out.splitlines()[-1])) == (0, [100, 100])
    assert running.count("begin") == 2, "the second run went on from the checkpoints"
    assert check_history(running.storage, []) == []


@pytest.mark.parametrize("by_class", [False, True])
def test_a_second_signal_ends_at_once(script: Callable[..., Script], by_class: bool) -> None:
    running = script(deaf_at=3, grace=300, by_class=by_class)
    running.until(lambda: running.count("deaf") == 2)
    os.kill(running.process.pid, signal.SIGINT)
    assert running.process.stderr is not None
    assert "another signal ends them at once" in running.process.stderr.readline()
    began = time.monotonic()
    os.kill(running.process.pid, signal.SIGTERM)
    returned, _, err = running.end()
    assert returned == 130, "the first signal is the one that counts"
    assert time.monotonic() - began < 5
    assert "Traceback" not in err


def test_a_trial_that_never_reports_is_ended_when_the_grace_is_over(script: Callable[..., Script]) -> None:
    running = script(deaf_at=3, grace=0.5, rows=6)
    running.until(lambda: running.count("deaf") == 2)
    began = time.monotonic()
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end()[0] == 143
    assert 0.4 < time.monotonic() - began < 5

    Path(running.settings["heals"]).touch()
    running.again()
    returned, out, _ = running.end()
    assert (returned, json.loads(out.splitlines()[-1])) == (0, [6, 6])
    begun = [line["at"] for line in side_log(running.settings["side"]) if line["what"] == "begin"]
    assert begun == [0, 0, 3, 3]
    assert check_history(running.storage, []) == []


def test_without_words_nothing_is_printed(script: Callable[..., Script]) -> None:
    running = script(verbose=0)
    running.until(lambda: running.count("row") >= 4)
    os.kill(running.process.pid, signal.SIGUSR1)
    assert running.end() == (138, "", "")
