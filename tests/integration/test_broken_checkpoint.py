"""A checkpoint that was damaged on disk: the trial goes on from the one before it, and says so; without one it is an error."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cloudpickle
import pytest

import holdfast as tune
from holdfast._core.events import CheckpointBroken
from holdfast._journal import read
from holdfast.storage.local import LocalStorage

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test's module


def train(config):
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            start = json.loads(Path(directory, "state.json").read_text())["i"] + 1
    for i in range(start, 6):
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "state.json").write_text(json.dumps({"i": i}))
            tune.report({"i": i, "began": start}, checkpoint=tune.Checkpoint.from_directory(directory))


class DieOnceAtRow(tune.Callback):
    def __init__(self, row, marker):
        self.row = row
        self.marker = marker

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["training_iteration"] == self.row and not self.marker.exists():
            self.marker.touch()
            raise RuntimeError("the driver dies here")


@pytest.fixture
def interrupted(tmp_path):
    """An experiment whose driver died at the fourth row, with four checkpoints."""
    run = tune.RunConfig(name="e", storage_path=tmp_path, verbose=0, callbacks=[DieOnceAtRow(4, tmp_path / "died")])
    with pytest.raises(RuntimeError, match="dies here"):
        tune.Tuner(train, run_config=run).fit()
    checkpoints = sorted((tmp_path / "e").glob("train_*/checkpoint_*"))
    assert [path.name for path in checkpoints] == [f"checkpoint_{n:06d}" for n in range(4)]
    return tmp_path / "e", checkpoints


def _damage(checkpoint):
    file = checkpoint / "state.json"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def test_the_checkpoint_before_it_is_used(interrupted):
    path, checkpoints = interrupted
    _damage(checkpoints[-1])
    (result,) = tune.Tuner.restore(path, train).fit()
    assert result.error is None
    assert result.metrics["i"] == 5
    assert result.metrics["began"] == 3  # went on behind the third checkpoint, which is row 2
    broken = [record.event for record in read(LocalStorage(str(path))) if isinstance(record.event, CheckpointBroken)]
    assert [event.index for event in broken] == [3]
    assert list(result.metrics_dataframe["i"]) == list(range(6))


def test_without_a_good_one_the_trial_is_an_error_and_never_begins_anew_by_itself(interrupted):
    path, checkpoints = interrupted
    for checkpoint in checkpoints:
        _damage(checkpoint)
    grid = tune.Tuner.restore(path, train).fit()
    assert grid.num_errors == 1
    assert "checkpoint" in str(grid[0].error).lower()
    assert grid[0].metrics["i"] == 3, "what was reported stays"
    (again,) = tune.Tuner.restore(path, train, restart_errored=True).fit()
    assert again.error is None
    assert again.metrics["i"] == 5
    assert again.metrics["began"] == 0
