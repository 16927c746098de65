"""The examples with large objects and with a checkpoint to begin from, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import holdfast as tune
from holdfast._projection.history import birth_of
from holdfast.storage.local import LocalStorage
from holdfast.testing.census import Census

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {"HOLDFAST_CPUS": "2"}


def begun(name: str, results: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / name), str(results)]
    return subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def printed(name: str, results: Path) -> str:
    process = begun(name, results)
    told, wrong = process.communicate(timeout=60)
    assert process.returncode == 0, wrong
    return told


def test_large_models_killed_and_run_again(tmp_path: Path) -> None:
    """The second run puts its objects again, in a fresh process, and ends as a run that was never killed."""
    told = printed("large_model.py", tmp_path / "whole")
    assert told.startswith("6 trials; the best has accuracy 0.9"), told
    killed = tmp_path / "killed"
    before = Census.take("nobody.")
    process = begun("large_model.py", killed)
    deadline = time.monotonic() + 60
    while not any(killed.glob("large_model/*_00001_*/checkpoint_000003")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    token = f"{birth_of(LocalStorage(str(killed / 'large_model'))).experiment_id}."
    while left := Census.take(token).since(before):
        assert time.monotonic() < deadline, left
        time.sleep(0.005)
    assert printed("large_model.py", killed) == told
    for result in tune.ResultGrid(LocalStorage(str(killed / "large_model"))):
        assert list(result.metrics_dataframe["epoch"]) == list(range(20))
    assert printed("large_model.py", killed) == told, "a finished experiment is only looked at"


def test_training_longer_from_a_checkpoint(tmp_path: Path) -> None:
    told = printed("train_longer.py", tmp_path)
    assert told.splitlines() == [
        "after 5 epochs the loss is 9.66e-01 with lr 0.1",
        "after 10 epochs it is 1.01e-04 with lr 0.3 (epochs 6 to 10 were trained)",
    ]
    assert printed("train_longer.py", tmp_path) == told
