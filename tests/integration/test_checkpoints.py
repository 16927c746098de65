"""Checkpoints as users meet them: kept, ranked, bounded, shown; saved at once or uploaded behind the trial."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cloudpickle
import pytest
from click.testing import CliRunner

import holdfast as tune
from holdfast._core.events import CheckpointCommitted, CheckpointDeleted, CheckpointDropped, ResultReported
from holdfast._journal import read
from holdfast.cli import verbs
from holdfast.storage.local import LocalStorage
from holdfast.testing.history import check_history

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test's module

SIZE = 100_000
UPLOADS = ["sync", "async"]


def train(config):
    start = 0
    newest = tune.get_checkpoint()
    if newest:
        with newest.as_directory() as folder:
            start = json.loads(Path(folder, "state.json").read_text())["next"]
    for i in range(start, config.get("rows", 6)):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps({"next": i + 1}))
            Path(folder, "weights").write_bytes(bytes(SIZE))
            checkpoint = tune.Checkpoint.from_directory(folder)
            checkpoint.set_metadata({"row": i})
            checkpoint.update_metadata({"more": [1]})
            tune.report({"i": i, "deep": {"loss": abs(i - 2) + config.get("x", 0)}}, checkpoint=checkpoint)


def fit(path, trainable=train, space=None, samples=1, callbacks=(), metric=None, **checkpoints):
    tuner = tune.Tuner(
        trainable,
        param_space=space or {},
        tune_config=tune.TuneConfig(num_samples=samples, metric=metric, mode="min" if metric else None),
        run_config=tune.RunConfig(
            name="e",
            storage_path=path,
            verbose=0,
            callbacks=list(callbacks),
            checkpoint_config=tune.CheckpointConfig(**checkpoints),
        ),
    )
    results = tuner.fit()
    assert check_history(LocalStorage(path / "e")) == []
    return results


def events(path, kind):
    return [record.event for record in read(LocalStorage(path / "e")) if isinstance(record.event, kind)]


def holdfast(*arguments):
    return CliRunner().invoke(verbs.holdfast, [str(argument) for argument in arguments]).output


def disk_usage(path):
    """Bytes in all checkpoints, pending ones included, as `du` counts them; without the directories themselves."""
    found = subprocess.run(["du", "-ab", path / "e"], capture_output=True, text=True, check=False).stdout.splitlines()
    return sum(int(line.split("\t")[0]) for line in found if re.search(r"/(checkpoint_|\.pending-)\d+/[^/]+$", line))


@pytest.mark.parametrize("upload", UPLOADS)
def test_a_result_knows_its_checkpoints_with_their_rows(tmp_path, upload):
    (result,) = fit(tmp_path, upload=upload)
    names = [Path(checkpoint.path).name for checkpoint, _ in result.best_checkpoints]
    assert names == [f"checkpoint_{n:06d}" for n in range(6)]
    assert result.checkpoint == result.best_checkpoints[-1][0]
    assert [row["i"] for _, row in result.best_checkpoints] == list(range(6))
    assert [row["checkpoint_dir_name"] for _, row in result.best_checkpoints] == names
    assert result.get_best_checkpoint("deep/loss", "min") == result.best_checkpoints[2][0]
    assert [checkpoint.get_metadata() for checkpoint, _ in result.best_checkpoints] == [{"row": i, "more": [1]} for i in range(6)]
    again = tune.Result.from_path(result.path)
    assert [(checkpoint.path, row["i"]) for checkpoint, row in again.best_checkpoints] == [
        (checkpoint.path, row["i"]) for checkpoint, row in result.best_checkpoints
    ]
    rows = events(tmp_path, ResultReported)
    assert all((row.saved is None) == (upload == "async") for row in rows)
    assert len(events(tmp_path, CheckpointCommitted)) == (6 if upload == "async" else 0)


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize(("order", "kept"), [("min", [2, 3, 5]), ("max", [4, 5])])
def test_the_best_by_a_nested_score_are_kept_and_the_newest(tmp_path, upload, order, kept):
    """The losses are 2 1 0 1 2 3; of two that are equal the later one ranks first."""
    (result,) = fit(tmp_path, upload=upload, num_to_keep=2, checkpoint_score_attribute="deep/loss", checkpoint_score_order=order)
    assert [row["i"] for _, row in result.best_checkpoints] == kept
    shown = holdfast("show", tmp_path / "e", result.metrics["trial_id"])
    assert ("the newest, beside the best 2" in shown) == (order == "min")
    assert f"among the best 2 by {order} deep/loss" in shown


@pytest.mark.parametrize("upload", UPLOADS)
def test_only_the_newest_is_kept(tmp_path, upload):
    (result,) = fit(tmp_path, upload=upload, num_to_keep=1)
    assert [row["i"] for _, row in result.best_checkpoints] == [5]
    assert [path.name for path in Path(result.path).glob("*checkpoint_*")] == ["checkpoint_000005"]
    assert list(Path(result.path).glob(".*")) == []


def reading_back(config):
    for i in range(4):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "i").write_text(str(i))
            tune.report({"i": i}, checkpoint=tune.Checkpoint.from_directory(folder))
        with tune.get_checkpoint().as_directory() as folder:
            assert Path(folder, "i").read_text() == str(i)
            assert Path(folder).name.startswith("checkpoint_")


@pytest.mark.parametrize("upload", UPLOADS)
def test_a_trial_can_read_what_it_has_just_reported(tmp_path, upload):
    (result,) = fit(tmp_path, reading_back, upload=upload)
    assert result.error is None


def odd_ones(config):
    with tempfile.TemporaryDirectory() as folder:
        tune.report({"kind": "empty"}, checkpoint=tune.Checkpoint(folder))
        Path(folder, "link").symlink_to("target")
        Path(folder, "target").write_text("t")
        os.link(Path(folder, "target"), Path(folder, "hard"))
        tune.report({"kind": "links"}, checkpoint=tune.Checkpoint(folder))
        for n in range(300):
            Path(folder, f"many {n}").write_text(str(n))
        tune.report({"kind": "many"}, checkpoint=tune.Checkpoint(folder))


@pytest.mark.parametrize("upload", UPLOADS)
def test_odd_checkpoints_are_kept(tmp_path, upload):
    (result,) = fit(tmp_path, odd_ones, upload=upload)
    empty, links, many = (Path(checkpoint.path) for checkpoint, _ in result.best_checkpoints)
    assert [path.name for path in empty.iterdir() if path.name != ".holdfast_manifest.json"] == []
    assert os.readlink(links / "link") == "target"
    assert (links / "hard").read_text() == "t"
    assert sum(1 for _ in many.glob("many *")) == 300
    assert "sound" in holdfast("verify", tmp_path / "e")


class Disk(tune.Callback):
    """Looks at every row how much lies on disk, and how much of that has been given up already."""

    def __init__(self, path):
        self.path = path
        self.seen = []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        given_up = len(events(self.path, CheckpointDropped)) - len(events(self.path, CheckpointDeleted))
        self.seen.append((disk_usage(self.path), given_up))


@pytest.mark.parametrize("upload", UPLOADS)
def test_all_checkpoints_together_stay_below_their_budget(tmp_path, upload):
    """Twelve trials with six checkpoints each, room for ten: the best stays, and what unfinished trials need."""
    budget, one = 10 * (SIZE + 2000), SIZE + 10_000
    disk = Disk(tmp_path)
    results = fit(
        tmp_path,
        space={"x": tune.grid_search(list(range(12)))},
        callbacks=[disk],
        metric="deep/loss",
        upload=upload,
        max_total_bytes=budget,
    )
    pinned = 2 * 3 * one  # of two trials: what each resumes from, and two that are just being saved
    assert [seen for seen in disk.seen if seen[0] > budget + pinned + seen[1] * one] == []
    kept = [(result.config["x"], row["i"]) for result in results for _, row in result.best_checkpoints]
    assert len(kept) == 10
    assert [i for x, i in kept if x == 0] == list(range(6)), "the best trial keeps all of its own"
    assert disk_usage(tmp_path) <= budget
    shown = holdfast("show", tmp_path / "e")
    assert "10 kept" in shown
    assert "max_total_bytes" in shown
    assert "exceeded" not in shown


class DieBehindRow(tune.Callback):
    """Ends the driver when a row has been dealt with."""

    def __init__(self, row):
        self.row = row
        self.due = False

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.due = result["training_iteration"] == self.row

    def on_step_end(self, iteration, trials, **info):
        if self.due:
            raise RuntimeError("the driver dies here")


def test_a_budget_that_the_needed_ones_exceed_is_said_and_why(tmp_path):
    with pytest.raises(RuntimeError, match="dies here"):
        fit(tmp_path, callbacks=[DieBehindRow(5)], metric="deep/loss", max_total_bytes=SIZE // 2)
    shown = holdfast("show", tmp_path / "e")
    assert "max_total_bytes is exceeded by" in shown
    assert "unfinished trials (1) resume from their newest, and the best of all stays" in shown
    told = json.loads(holdfast("show", "--json", tmp_path / "e"))["checkpoints"]
    assert told["exceeded_by"] == told["bytes"] - SIZE // 2 > 0


def test_a_pending_checkpoint_is_shown_and_checked(tmp_path):
    def stopping(config):
        from holdfast import faults

        faults.arm("before_checkpoint_sync", lambda: os.kill(os.getpid(), 9) if started else None)
        started = []
        for i in range(3):
            if i == 1:
                started.append(1)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "i").write_text(str(i))
                tune.report({"i": i}, checkpoint=tune.Checkpoint(folder))
                tune.get_checkpoint()

    class Stop(tune.Callback):
        def on_trial_error(self, iteration, trials, trial, **info):
            if not info.get("repeated"):
                raise RuntimeError("before it is completed")

    with pytest.raises(RuntimeError, match="before it is completed"):
        fit(tmp_path, stopping, callbacks=[Stop()], upload="async")
    (trial,) = (path.name for path in (tmp_path / "e").glob("stopping_*"))
    pending = tmp_path / "e" / trial / ".pending-000001"
    assert pending.is_dir()
    trial_id = "_".join(trial.split("_")[1:3])
    assert "pending: .pending-000001 of row 2" in holdfast("show", tmp_path / "e", trial_id)
    assert "1 pending" in holdfast("show", tmp_path / "e")
    assert "sound" in holdfast("verify", tmp_path / "e")
    assert pending.is_dir()
    (pending / "i").write_text("?")
    assert "neither staged nor complete" in holdfast("verify", tmp_path / "e")
    (pending / "i").write_text("1")
    assert ".pending" not in holdfast("repair", tmp_path / "e")
    assert pending.is_dir()
    tune.Tuner.restore(tmp_path / "e", stopping).fit()
    assert not pending.exists()
    assert (pending.parent / "checkpoint_000001" / "i").read_text() == "1"
    assert "sound" in holdfast("verify", tmp_path / "e")


class Counting(tune.Trainable):
    def setup(self, config):
        self.count = 0

    def step(self):
        self.count += 1
        return {"count": self.count, "done": self.count == 5}

    def save_checkpoint(self, folder):
        Path(folder, "count").write_text(str(self.count))

    def load_checkpoint(self, folder):
        self.count = int(Path(folder, "count").read_text())


class SaveSecond(tune.Callback):
    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["count"] == 2:
            result["should_checkpoint"] = True


@pytest.mark.parametrize("upload", UPLOADS)
def test_a_checkpoint_that_came_after_its_row_belongs_to_it(tmp_path, upload):
    """A callback asked for it, or the stop: the row was on record before."""
    (result,) = fit(tmp_path, Counting, callbacks=[SaveSecond()], upload=upload)
    expected = [(2, "checkpoint_000000"), (5, "checkpoint_000001")]
    for seen in (result, tune.Result.from_path(result.path)):
        assert [(row["count"], row["checkpoint_dir_name"]) for _, row in seen.best_checkpoints] == expected
        assert seen.get_best_checkpoint("count", "min").path.endswith("checkpoint_000000")
        assert seen.metrics["checkpoint_dir_name"] == "checkpoint_000001"
    rows = [json.loads(line) for line in Path(result.path, "result.json").read_text().splitlines()]
    assert [row["checkpoint_dir_name"] for row in rows] == [None, "checkpoint_000000", None, None, "checkpoint_000001"]
