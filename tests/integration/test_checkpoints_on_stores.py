"""Whole experiments whose checkpoints lie on object stores: killed anywhere, restored, nothing lost and nothing left over."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import given_filesystems
import holdfast as tune
import object_servers
from absent import needs
from fault_proxy import FaultProxy
from holdfast._core.events import CheckpointLost
from holdfast._core.ids import MANIFEST, checkpoint_name
from holdfast._journal import Owner, open_journal, read
from holdfast._projection.history import load_state
from holdfast.clock import SystemClock
from holdfast.errors import ConfigError, ReportRefused
from holdfast.storage.opening import inside
from holdfast.storage.uri import open_place, parse
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, acknowledged_count, kill_at_random, wait_until, wait_until_all_gone

UPLOADS = ["sync", "async"]
WAYS = [
    (True, "sync"),
    (False, "async"),
    pytest.param(True, "async", marks=pytest.mark.soak),
    pytest.param(False, "sync", marks=pytest.mark.soak),
]


@pytest.fixture
def task(place: str, tmp_path: Path) -> Task:
    return Task(
        storage_path=place,
        side=str(tmp_path / "side"),
        rows=8,
        samples=2,
        max_failures=20,
        num_to_keep=2,
        checkpoint_bytes=300_000,
    )


def assert_all_is_well(task: Task, tmp_path: Path) -> None:
    """What holds at the end of an experiment: the history, and no file that no record names, there or here."""
    assert check_history(task.storage, acknowledged(task.side)) == []
    wait_until_all_gone(task)
    for trial in load_state(task.storage).trials.values():
        there = {name for name in task.storage.names(trial.dirname) if name.startswith(("checkpoint_", "."))}
        assert there == {checkpoint_name(kept.saved.index) for kept in trial.kept}
        if task.num_to_keep:
            assert len(trial.kept) == task.num_to_keep
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".taken"] == []


@object_servers.EVERYWHERE
@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize(
    "point",
    [
        "mid_checkpoint_upload:1",
        "mid_checkpoint_upload:4",
        "before_checkpoint_rename:2",
        "after_checkpoint_rename:2",
        "before_checkpoint_told:2",
        "after_checkpoint_stage:2",
    ],
)
def test_workers_that_die_at_a_named_point(task: Task, start: Start, tmp_path: Path, upload: str, point: str) -> None:
    if upload == "sync" and ("told" in point or "stage" in point):
        pytest.skip("not a point of that way")
    task = replace(task, upload=upload)
    driver = start(task, f"{point}=kill")
    while True:  # a driver that completes what its worker left comes to some of the points too
        driver.process.communicate(timeout=60)
        if driver.process.returncode != -signal.SIGKILL:
            break
        wait_until_all_gone(task)
        driver = start(task, "" if upload == "async" or ":1" in point else f"{point}=kill")
    if ":1" in point and upload == "sync":  # each worker dies before its first checkpoint is whole
        assert driver.process.returncode == 0
        driver = start(replace(task, restart_errored=True))
        assert driver.finish()["errors"] == []
    assert driver.process.returncode == 0
    assert_all_is_well(task, tmp_path)
    assert not [record for record in read(task.storage) if isinstance(record.event, CheckpointLost)]


@object_servers.EVERYWHERE
@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize("population", ["", "pbt"])
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_and_restored(
    task: Task, start: Start, tmp_path: Path, upload: str, population: str, seed: int
) -> None:
    lots = random.Random(f"{upload} {population} {seed}")
    print("seed", upload, population, seed)
    task = replace(task, upload=upload, population=population, rows=12, every=lots.choice([1, 3]))
    for _ in range(3):
        kill_at_random(start(task), task, lots, 9)
        wait_until_all_gone(task)
        assert check_history(task.storage, at_rest=False) == []  # what was acknowledged may be in the spool
    assert start(task).finish()["errors"] == []
    assert_all_is_well(task, tmp_path)


@object_servers.EVERYWHERE
def test_what_is_pending_outlives_a_driver_that_came_to_nothing(task: Task, start: Start, tmp_path: Path) -> None:
    """Between the driver that left it and the one that completes it another took charge, as `holdfast repair` does."""
    task = replace(task, upload="async", samples=1)
    driver = start(task, "mid_checkpoint_upload:3=stop")
    wait_until(lambda: list((tmp_path / "cache").rglob(".pending-*")), doing=driver)
    wait_until(lambda: any(trial.pending for trial in load_state(task.storage).trials.values()), doing=driver)
    driver.kill()
    wait_until_all_gone(task)
    open_journal(task.storage, owner=Owner.of_this_process(), clock=SystemClock()).close()
    assert start(task).finish()["errors"] == []
    assert_all_is_well(task, tmp_path)
    assert not [record for record in read(task.storage) if isinstance(record.event, CheckpointLost)]


@object_servers.EVERYWHERE
def test_another_machine_goes_on_from_the_store(task: Task, start: Start, tmp_path: Path) -> None:
    """With an empty cache: what was pending there is lost by name, and its row stands."""
    task = replace(task, upload="async", durability="strict", takeover=True)
    for number in range(4):
        here = replace(task, environment={"HOLDFAST_CACHE_DIR": str(tmp_path / f"cache-{number}")})
        driver = start(here)
        if number == 3:
            break
        rows = acknowledged_count(task.side) + 3
        with suppress(AssertionError):
            wait_until(lambda rows=rows: acknowledged_count(task.side) >= rows, doing=driver)
        driver.kill()
    assert driver.finish()["errors"] == []
    assert check_history(here.storage, acknowledged(task.side)) == []


@pytest.mark.parametrize(("local", "upload"), WAYS)
def test_those_that_trials_put_to_a_store_themselves_are_kept_through_kills(
    task: Task, start: Start, tmp_path: Path, upload: str, local: bool
) -> None:
    """Into a local experiment and into one on the store; workers and drivers are killed, also in the middle of a copy."""
    lots = random.Random(f"cloud {upload} {local}")
    task = replace(
        task, upload=upload, cloud=inside(task.storage_path, "own"), storage_path=str(tmp_path) if local else task.storage_path
    )
    for point in ("mid_checkpoint_stage:3=kill" if local or upload == "async" else "mid_checkpoint_upload:3=kill", ""):
        driver, rows = start(task, point), acknowledged_count(task.side) + lots.randrange(2, 5)
        with suppress(AssertionError):
            wait_until(lambda rows=rows: acknowledged_count(task.side) >= rows, doing=driver)
        driver.kill()
        wait_until_all_gone(task)
    assert start(task).finish()["errors"] == []
    assert_all_is_well(task, tmp_path)


def again(config: dict) -> None:
    """Each row goes with the checkpoint that the trial has."""
    for i in range(6):
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            Path("state").mkdir(exist_ok=True)
            Path("state", "x").write_text(str(config["x"]))
            checkpoint = tune.Checkpoint("state")
        tune.report({"i": i}, checkpoint=checkpoint)
        if i == config["dies"] and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("local", "upload"), WAYS)
def test_what_a_trial_has_may_be_reported_again(place: str, tmp_path: Path, upload: str, local: bool) -> None:
    keep = tune.CheckpointConfig(num_to_keep=1, upload=upload)
    failing = tune.FailureConfig(max_failures=1)
    run = tune.RunConfig(
        name="exp", storage_path=tmp_path if local else place, checkpoint_config=keep, failure_config=failing, verbose=0
    )
    grid = tune.Tuner(again, param_space={"x": tune.grid_search([1, 2]), "dies": 2}, run_config=run).fit()
    assert grid.errors == []
    for result in grid:
        with result.checkpoint.as_directory() as folder:
            assert Path(folder, "x").read_text() == str(result.config["x"])
            assert sorted(os.listdir(folder)) == [MANIFEST, "x"]


def elsewhere(config: dict) -> None:
    try:
        tune.report({"i": 0}, checkpoint=tune.Checkpoint(config["nowhere"]))
    except ReportRefused as error:
        refused = str(error)
    tune.report({"refused": refused}, checkpoint=tune.Checkpoint(config["there"]))


def test_one_on_another_store_and_one_that_is_not_there(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_servers.fake_gcs() as other:
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        there = inside(other.uri, "mine")
        open_place(parse(there)).put("a/weights", b"w" * 100_000)
        tune.Checkpoint(there).set_metadata({"by": "hand"})
        space = {"there": there, "nowhere": inside(place, "nowhere")}
        run = tune.RunConfig(name="exp", storage_path=place, verbose=0)
        [result] = tune.Tuner(elsewhere, param_space=space, run_config=run).fit()
    assert result.error is None
    assert "there is nothing at that place" in result.metrics["refused"]
    assert result.checkpoint.get_metadata() == {"by": "hand"}
    with result.checkpoint.as_directory() as folder:
        assert Path(folder, "a", "weights").read_bytes() == b"w" * 100_000


def save(config: dict) -> None:
    Path("model").mkdir(exist_ok=True)
    for i in range(3):
        Path("model", "state.json").write_text(json.dumps({"i": i}))
        tune.report({"score": config["x"] * i}, checkpoint=tune.Checkpoint.from_directory("model"))


@needs("torch", "transformers", "accelerate")
@pytest.mark.filterwarnings("ignore")  # the library's own warnings at its import
def test_transformers_trainer_is_given_a_directory_on_this_machine(place: str) -> None:
    from holdfast.integration.transformers import TuneReportCheckpointCallback

    def train(config: dict[str, str]) -> None:
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            Path("saved", "checkpoint-4").mkdir(parents=True)
            Path("saved", "checkpoint-4", "state").write_text("as it was")
            tune.report({"found": ""}, checkpoint=tune.Checkpoint("saved"))
            raise ValueError("once")
        folder = TuneReportCheckpointCallback.resume_from(checkpoint)
        tune.report({"found": Path(str(folder), "state").read_text()})

    once = tune.FailureConfig(max_failures=1)
    run = tune.RunConfig(name="exp", storage_path=place, verbose=0, engine="inline", failure_config=once)
    [result] = tune.Tuner(train, run_config=run).fit()
    assert result.metrics["found"] == "as it was"


@object_servers.EVERYWHERE
def test_results_lead_to_their_checkpoints(place: str, tmp_path: Path) -> None:
    grid = tune.Tuner(
        save,
        param_space={"x": tune.grid_search([1, 2])},
        tune_config=tune.TuneConfig(metric="score", mode="max"),
        run_config=tune.RunConfig(name="exp", storage_path=place, verbose=0),
    ).fit()
    assert grid.num_errors == 0
    best = grid.get_best_result()
    assert best.checkpoint.path == f"{best.path}/checkpoint_000002"
    with best.checkpoint.as_directory() as folder:
        assert json.loads(Path(folder, "state.json").read_text()) == {"i": 2}
    if parse(place).cloud == "gs":
        with pytest.raises(ConfigError, match="Use as_directory"):
            best.checkpoint.filesystem.get_file_info(best.checkpoint.path)
    else:
        with best.checkpoint.filesystem.open_input_stream(f"{best.checkpoint.path}/state.json") as file:
            assert json.loads(file.read()) == {"i": 2}
    assert [row["score"] for _, row in best.best_checkpoints] == [0, 2, 4]
    first = best.best_checkpoints[0][0]
    assert json.loads(Path(first.to_directory(tmp_path / "copy"), "state.json").read_text()) == {"i": 0}
    there = open_place(parse(place)).sizes_below(f"exp/{best.path.rpartition('/')[2]}")
    assert {name for name in there if "checkpoint" in name} == {
        f"checkpoint_{index:06d}/{name}" for index in range(3) for name in ("state.json", MANIFEST)
    }
    again = tune.Tuner.restore(inside(place, "exp"), save).get_results().get_best_result()
    assert again.checkpoint == best.checkpoint


@pytest.mark.parametrize("fsspec", [False, True])
def test_a_file_system_with_keys_of_its_own(
    fsspec: bool, place: str, server: object_servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in server.environment:
        monkeypatch.delenv(name)
    monkeypatch.setattr("holdfast.storage.uri._keys", {})
    given = (
        given_filesystems.s3fs(server, "hidden-from-all") if fsspec else given_filesystems.pyarrow_s3(server, "hidden-from-all")
    )
    path = f"bucket/{parse(place).prefix}"
    run = tune.RunConfig(name="exp", storage_path=path, storage_filesystem=given, verbose=0)
    grid = tune.Tuner(save, param_space={"x": tune.grid_search([1, 2])}, run_config=run).fit()
    assert grid.errors == []
    assert tune.Tuner.can_restore(f"{path}/exp", storage_filesystem=given)
    again = tune.Tuner.restore(f"{path}/exp", save, storage_filesystem=given).fit()
    for result in again:
        with result.checkpoint.as_directory() as folder:
            assert json.loads(Path(folder, "state.json").read_text()) == {"i": 2}
        with result.checkpoint.filesystem.open_input_stream(f"{result.checkpoint.path}/state.json") as file:
            assert json.loads(file.read()) == {"i": 2}
        assert tune.Checkpoint(result.checkpoint.path, given).get_metadata() == {}
    everything = open_place(parse(again.experiment_path.replace("/exp?", "?")))
    there = everything.sizes_below("exp")
    assert len(there) > 20
    for name in there:
        assert b"hidden-from-all" not in everything.read(f"exp/{name}")
    for file in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert b"hidden-from-all" not in file.read_bytes()


@object_servers.EVERYWHERE
@pytest.mark.parametrize("upload", UPLOADS)
def test_a_bad_network_loses_nothing(
    task: Task, start: Start, server: object_servers.Server, upload: str, tmp_path: Path
) -> None:
    chance, kinds = random.Random(f"{upload} 6"), ["503", "429", "drop before", "drop after", "truncate"]
    with FaultProxy(server.port, lambda *_: chance.choice(kinds) if chance.random() < 0.1 else "") as proxy:
        through = replace(task, upload=upload, storage_path=task.storage_path.replace(f"%3A{server.port}", f"%3A{proxy.port}"))
        assert start(through).finish()["errors"] == []
        assert any(fate for _, fate in proxy.log)
    assert_all_is_well(replace(task, upload=upload), tmp_path)
