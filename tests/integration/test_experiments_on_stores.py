"""Whole experiments on object stores: killed, overtaken, moved, and cut off from them."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import holdfast as tune
import object_servers
from fault_proxy import FaultProxy
from holdfast.cli.carrying import send_experiment
from holdfast.cli.verbs import holdfast
from holdfast.errors import ConfigError, ExperimentExists, ExperimentNotFound, StorageError
from holdfast.logger import CSVLoggerCallback, JsonLoggerCallback
from holdfast.search import Searcher
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.opening import inside, open_storage
from holdfast.storage.uri import open_place, parse
from holdfast.testing.history import check_history
from integration import drivers
from integration.drivers import (
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    kill_at_random,
    needlessly_redone,
    side_log,
    wait_until,
    wait_until_all_gone,
)

SEED = 20261128


@pytest.fixture
def task(place: str, tmp_path: Path) -> Task:
    return Task(storage_path=place, side=str(tmp_path / "side"), rows=12, samples=3, every=0, pace_s=0.02, max_failures=10)


def train(config: dict) -> None:
    print("printed by", config["x"])
    for i in range(3):
        tune.report({"score": config["x"] * i, "odd": {"a": i}})
    if config.get("fails"):
        raise ValueError("boom")


def tuner(place: str, space: dict | None = None, **run) -> tune.Tuner:
    return tune.Tuner(
        train,
        param_space=space or {"x": tune.grid_search([1, 2])},
        tune_config=tune.TuneConfig(metric="score", mode="max"),
        run_config=tune.RunConfig(**{"name": "exp", "storage_path": place, "verbose": 0, **run}),
    )


def files_of(storage: ObjectStorage, folder: str) -> dict[str, bytes]:
    return {name: storage.read(f"{folder}/{name}") for name in storage.sizes_below(folder)}


def assert_files_tell_the_history(storage: ObjectStorage) -> None:
    """Each trial's `result.json` and `progress.csv` on the store have its rows: each once, in order."""
    results = tune.ResultGrid(storage)
    for result in results:
        folder = result.path.rpartition("/")[2]
        rows = result.metrics_dataframe
        told = [json.loads(line) for line in storage.read(f"{folder}/result.json").splitlines()]
        assert [row["training_iteration"] for row in told] == list(rows["training_iteration"])
        assert [row["timestamp"] for row in told] == list(rows["timestamp"])
        table = list(csv.DictReader(storage.read(f"{folder}/progress.csv").decode().splitlines()))
        assert [int(row["training_iteration"]) for row in table] == list(rows["training_iteration"])


@object_servers.EVERYWHERE
def test_an_experiment_lives_on_a_store(place: str, tmp_path: Path) -> None:
    made = tuner(place, {"x": tune.grid_search([1, 2]), "fails": tune.grid_search([False, True])})
    path = inside(place, "exp")
    assert tune.Tuner.can_restore(path)
    assert not tune.Tuner.can_restore(place)
    grid = made.fit()
    assert (len(grid), grid.num_errors, grid.experiment_path) == (4, 2, path)
    best = grid.get_best_result()
    assert best.metrics["score"] == 4
    storage = open_storage(path)
    for result in grid:
        folder = result.path.rpartition("/")[2]
        assert result.path == f"{parse(path).bucket}/{parse(path).prefix}/{folder}"
        there = set(files_of(storage, folder))
        assert {"params.json", "params.pkl", "result.json", "progress.csv"} <= there
        assert ({"error.txt", "error.pkl"} <= there) == result.config["fails"]
    assert_files_tell_the_history(storage)
    assert sorted(data.decode() for data in files_of(storage, "logs").values() if data) == [
        f"printed by {x}\n" for x in (1, 1, 2, 2)
    ]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []  # nothing is left in the cache

    again = tune.Tuner.restore(path, train)
    assert again.get_results().get_best_result().metrics == best.metrics
    assert len(again.fit()) == 4
    assert tune.ExperimentAnalysis(path).best_config["x"] == 2
    with pytest.raises(ExperimentExists, match="restore"):
        tuner(place).fit()
    assert tuner(place, if_exists="new").fit().experiment_path == inside(place, "exp_1")
    assert (
        len(tuner(place, {"x": tune.grid_search([1, 2]), "fails": tune.grid_search([False, True])}, if_exists="resume").fit())
        == 4
    )
    longer = tune.Tuner.extend(inside(place, "exp_1"), train, num_samples=1).fit()
    assert len(longer) == 4


@object_servers.EVERYWHERE
def test_run_and_the_inline_engine(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_ENGINE", "inline")
    first = tune.run(train, name="exp", config={"x": tune.grid_search([1, 2])}, storage_path=place, verbose=0)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "another"))
    again = tune.run(train, name="exp", storage_path=place, verbose=0, resume=True)
    assert first.results == again.results
    assert again.experiment_path == inside(place, "exp")
    assert_files_tell_the_history(open_storage(again.experiment_path))


def test_two_without_a_name_get_places_of_their_own(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_DISABLE_DATED_SUBDIR", "1")
    paths = [tuner(place, name=None).fit().experiment_path for _ in range(2)]
    assert paths == [inside(place, "train"), inside(place, "train_1")]


def test_what_cannot_be_written_to_is_found_at_once(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast._assembly.places._PATIENCE_S", 0.5)
    nowhere = f"s3://bucket/x?endpoint_override=127.0.0.1:{object_servers.free_port()}&scheme=http"
    with pytest.raises(StorageError, match="no reply"):
        tuner(nowhere)
    other = place.replace("s3://bucket/", "s3://nobodys-bucket/")
    with pytest.raises(StorageError, match="no such bucket"):
        tuner(other)
    with pytest.raises(ConfigError, match="secret"):
        tuner(place + "&access_key=x")
    open_place(parse(place).below("exp")).put("thesis.tex", b"")
    with pytest.raises(ExperimentExists, match=r"thesis\.tex"):
        tuner(place)


def test_a_store_that_keeps_nobody_apart_is_taken_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "liar").mkdir()
    with object_servers.rclone(tmp_path / "liar") as liar:
        for name, value in liar.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StorageError, match="cannot keep two drivers apart"):
            tuner(liar.uri)
        assert not tune.Tuner.can_restore(inside(liar.uri, "exp"))
        assert len(tuner(liar.uri, unfenced=True).fit()) == 2
        assert_files_tell_the_history(open_storage(inside(liar.uri, "exp")))


class Dies(tune.Callback):
    """Ends the driver at a row, once."""

    def __init__(self, row: int) -> None:
        self.row = row

    def on_trial_result(self, iteration: int, trials: list, trial: tune.Trial, result: dict, **info: object) -> None:
        Path(trial.local_path, "notes").write_text(f"row {result['training_iteration']}")
        if result["training_iteration"] == self.row:
            raise RuntimeError("the driver ends here")


@object_servers.EVERYWHERE
def test_loggers_of_the_user_go_on_on_another_machine(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="ends here"):
        tuner(place, {"x": 1}, callbacks=[CSVLoggerCallback(), JsonLoggerCallback(), Dies(2)]).fit()
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "another"))
    again = tuner(place, {"x": 1}, callbacks=[CSVLoggerCallback(), JsonLoggerCallback(), Dies(9)], if_exists="resume")
    [result] = again.fit()
    storage, folder = open_storage(inside(place, "exp")), result.path.rpartition("/")[2]
    for name in ("progress.csv", "result.json"):  # the first two rows were done again, and their callbacks had had them
        lines = storage.read(f"{folder}/{name}").decode().splitlines()[name == "progress.csv" :]
        assert len(lines) == 3, name
    assert storage.read(f"{folder}/notes") == b"row 3"
    read_back = tune.Result.from_path(inside(inside(place, "exp"), folder))
    assert (read_back.metrics["score"], read_back.config, read_back.path) == (2, {"x": 1}, result.path)
    with pytest.raises(FileNotFoundError, match="holds none of"):
        tune.Result.from_path(inside(place, "exp"))


class Counting(Searcher):
    """Suggests what it has not suggested yet."""

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")
        self.count = 0

    def suggest(self, trial_id: str) -> dict:
        self.count += 1
        return {"x": self.count}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Learns nothing."""

    def get_state(self) -> dict:
        return {"count": self.count}

    def set_state(self, state: dict) -> None:
        self.count = state["count"]


def test_what_a_searcher_knew_is_found_on_the_store(place: str) -> None:
    first = tune.TuneConfig(num_samples=3, search_alg=Counting())
    run = tune.RunConfig(name="exp", storage_path=place, verbose=0)
    grid = tune.Tuner(train, tune_config=first, run_config=run).fit()
    assert sorted(result.config["x"] for result in grid) == [1, 2, 3]
    again = Counting()
    again.restore_from_dir(grid.experiment_path)
    assert again.suggest("next") == {"x": 4}
    with pytest.raises(ExperimentNotFound, match="holds no searcher state"):
        again.restore_from_dir(place)
    storage = open_storage(grid.experiment_path)
    [name] = [name for name in storage.names("") if name.startswith("searcher-state")]
    storage.put(name.replace("default", "mine"), b"")
    with pytest.raises(ConfigError, match="several"):
        again.restore_from_dir(grid.experiment_path)


@object_servers.EVERYWHERE
@pytest.mark.parametrize("same_machine", [True, False])
def test_killed_at_random_moments_and_restored(same_machine: bool, task: Task, start: Start, tmp_path: Path) -> None:
    """On another machine the cache is empty: there, `strict` is what loses nothing."""
    lots = random.Random(SEED + same_machine)
    for number in range(4):
        cache = "cache" if same_machine else f"cache-{number}"
        here = replace(
            task,
            durability="group" if same_machine else "strict",
            environment={"HOLDFAST_CACHE_DIR": str(tmp_path / cache)},
            artifacts=True,
            takeover=not same_machine,
        )
        driver = start(here)
        if number == 3:
            break
        kill_at_random(driver, task, lots, 12)
    assert driver.finish()["errors"] == []
    assert check_history(here.storage, acknowledged(task.side)) == []
    wait_until_all_gone(here)
    assert_files_tell_the_history(here.storage)
    if same_machine:
        assert_no_artifact_is_missing(here.storage, task.side)
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".taken"] == []


def test_a_copy_of_a_killed_one_takes_nothing_from_it(task: Task, start: Start) -> None:
    """Restored on the machine of the original, and before it, while what that acknowledged last is in its spool alone."""
    task = replace(task, rows=100)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) > 60, doing=driver)
    driver.kill()
    wait_until_all_gone(task)
    told = acknowledged(task.side)
    assert check_history(task.storage, told, at_rest=False) != []  # what is in the spool alone is what this test is about
    copy = replace(task, storage_path=inside(task.storage_path, "other"), side=f"{task.side}-of-the-copy")
    send_experiment(task.storage, copy.storage)
    assert start(copy).finish() == {"trials": 3, "errors": []}
    assert check_history(copy.storage, acknowledged(copy.side)) == []
    assert start(task).finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    for one in (task, copy):
        wait_until_all_gone(one)
        assert_files_tell_the_history(one.storage)


def assert_no_artifact_is_missing(storage: ObjectStorage, side: str) -> None:
    """What each attempt wrote into its working directory before a report that returned is on the store, also of killed ones."""
    there = {name: folder for folder in storage.names("") for name in storage.names(folder) if name.startswith("artifact-")}
    begun: dict[str, str] = {}
    wrote: dict[str, set[str]] = {}
    for line in side_log(side):
        if line["what"] == "begin":
            begun[line["trial"]] = f"artifact-{line['trial']}-{line['pid']}"
        elif line["what"] == "row":
            wrote.setdefault(begun[line["trial"]], set()).add(str(line["row"]["i"]))
    assert len(wrote) > 3
    for name, rows in wrote.items():
        assert name in there, f"{name} is missing"
        assert rows <= set(storage.read(f"{there[name]}/{name}").decode().split())


@pytest.mark.parametrize("server", ["azurite", "fake_gcs"], indirect=True)
def test_killed_restored_on_another_machine_and_looked_at(task: Task, start: Start, tmp_path: Path) -> None:
    """The one story that is told of each cloud each time. The others: soak tests."""
    task = replace(task, rows=6, samples=2, every=1, num_to_keep=2, durability="strict", checkpoint_bytes=100_000)
    killed = start(task)
    wait_until(lambda: acknowledged_count(task.side) > 2, doing=killed)
    killed.kill()
    wait_until_all_gone(task)
    elsewhere = replace(task, environment={"HOLDFAST_CACHE_DIR": str(tmp_path / "another")}, takeover=True)
    assert start(elsewhere).finish() == {"trials": 2, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    assert_files_tell_the_history(task.storage)
    results = tune.Tuner.restore(task.path, drivers.train).get_results()
    assert (len(results), results.num_errors) == (2, 0)
    best = results.get_best_result()
    with best.checkpoint.as_directory() as folder:
        assert json.loads(Path(folder, "state.json").read_text()) == {"next": 6}
        assert os.path.getsize(os.path.join(folder, "weights")) == 100_000
    older = best.best_checkpoints[0][0].path
    assert older.startswith(f"{best.path}/checkpoint_")
    copy = tune.Checkpoint(inside(task.path, "/".join(older.split("/")[-2:]))).to_directory()
    assert json.loads(Path(copy, "state.json").read_text()) == {"next": 5}
    shutil.rmtree(copy)
    for words in (
        ["ls", task.storage_path],
        ["show", task.path],
        ["best", task.path],
        ["verify", task.path],
        ["export", task.path],
    ):
        told = CliRunner().invoke(holdfast, words)
        assert told.exit_code == 0, told.output


@object_servers.EVERYWHERE
@pytest.mark.parametrize("elsewhere", [True, False])
def test_of_two_drivers_at_once_one_is_told_so(elsewhere: bool, task: Task, start: Start, tmp_path: Path) -> None:
    """Overtaken while it is stopped, the first wakes up, learns it, and leaves no mark."""
    first = replace(task, rows=150, pace_s=0.01)
    one = start(first)
    wait_until(lambda: acknowledged_count(task.side) > 20, doing=one)
    if not elsewhere:
        assert start(first).result()["error"] == "ExperimentBusy"
    os.kill(one.pid, signal.SIGSTOP)
    second = replace(first, takeover=True, side=f"{task.side}2")
    other = start(replace(second, environment={"HOLDFAST_CACHE_DIR": str(tmp_path / "another")} if elsewhere else {}))
    wait_until(lambda: acknowledged_count(second.side) > 20, doing=other)
    os.kill(one.pid, signal.SIGCONT)
    assert one.result()["error"] == "Fenced"
    assert other.finish() == {"trials": 3, "errors": []}
    assert check_history(second.storage, acknowledged(second.side)) == []
    assert_files_tell_the_history(second.storage)
    wait_until_all_gone(second)


@object_servers.EVERYWHERE
def test_faults_of_the_network_lose_nothing(server: object_servers.Server, task: Task, start: Start) -> None:
    """Requests that never arrive, replies that never come, refusals that pass: one in seven, on the way of driver and workers."""
    lots = random.Random(SEED)

    def fate(_number: int, _request: str) -> str:
        return lots.choice(("drop before", "drop after", "503", "429", "500", "truncate")) if lots.random() < 1 / 7 else ""

    with FaultProxy(server.port, fate) as proxy:
        through = replace(task, storage_path=task.storage_path.replace(f"A{server.port}", f"A{proxy.port}"), durability="strict")
        killed = start(through)
        wait_until(lambda: acknowledged_count(task.side) > 8, doing=killed)
        killed.kill()
        assert start(through).finish() == {"trials": 3, "errors": []}
        fates = {fate for _, fate in proxy.log}
    assert {"", "drop before", "drop after", "503", "429", "500"} <= fates
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert_files_tell_the_history(task.storage)


@object_servers.EVERYWHERE
def test_puts_that_conflict_lose_nothing(server: object_servers.Server, task: Task, start: Start) -> None:
    """Stores answer 409 where two requests for one name meet, also a client's own second try: was it put, or not?"""
    lots = random.Random(SEED)
    kinds = ["409", "409 ConditionalRequestConflict", "after 409"]

    def fate(_number: int, request: str) -> str:
        return lots.choice(kinds) if request.startswith("PUT") and lots.random() < 1 / 3 else ""

    with FaultProxy(server.port, fate) as proxy:
        through = replace(
            task, storage_path=task.storage_path.replace(f"A{server.port}", f"A{proxy.port}"), durability="strict", every=3
        )
        killed = start(through)
        wait_until(lambda: acknowledged_count(task.side) > 8, doing=killed)
        killed.kill()
        assert start(through).finish() == {"trials": 3, "errors": []}
        assert {fate for _, fate in proxy.log} == {"", *kinds}
        assert any("journal" in request and fate == "after 409" for request, fate in proxy.log)
        assert any("checkpoint" in request and fate for request, fate in proxy.log)
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    assert_files_tell_the_history(task.storage)


def test_keys_that_expire_are_read_anew(
    server: object_servers.Server, task: Task, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an experiment, twice, by the driver and by workers that save checkpoints."""
    for name in server.environment:
        monkeypatch.delenv(name)
    keys = tmp_path / "credentials"

    def hand_out(key: str) -> None:
        aside = tmp_path / "credentials.new"
        aside.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\nregion = us-east-1\n")
        aside.rename(keys)

    hand_out("KEY0")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    with FaultProxy(server.port, lambda *_: "") as proxy:
        through = task.storage_path.replace(f"A{server.port}", f"A{proxy.port}")
        task = replace(task, storage_path=through, rows=40, every=2, num_to_keep=1)
        driver = start(task)
        for number in (1, 2):
            rows = acknowledged_count(task.side)
            wait_until(lambda rows=rows: acknowledged_count(task.side) > rows + 15, doing=driver)
            hand_out(f"KEY{number}")
            proxy.expired = f"KEY{number - 1}"
        assert driver.finish() == {"trials": 3, "errors": []}
        fates = [fate for _, fate in proxy.log]
        assert fates.count("400 ExpiredToken") >= 4
        assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_restore_makes_few_requests(server: object_servers.Server, task: Task, start: Start, tmp_path: Path) -> None:
    """With an empty cache, what the journal takes up to the first line of a trial; more where the killed driver left more slots
    behind its last pack. One of 10,000 trials has ten packs more."""
    task = replace(task, samples=20, rows=4, pace_s=0.05)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) > 40, doing=driver)
    driver.kill()
    wait_until_all_gone(task)
    begun = len(begins(task.side))
    with FaultProxy(server.port, lambda *_: "") as proxy:
        elsewhere = {"HOLDFAST_CACHE_DIR": str(tmp_path / "another")}
        through = task.storage_path.replace(f"A{server.port}", f"A{proxy.port}")
        driver = start(replace(task, storage_path=through, takeover=True, environment=elsewhere))
        wait_until(lambda: len(begins(task.side)) > begun, doing=driver)
        # But for the files of trials that were at work, which are put meanwhile.
        requests = [request for request, _ in proxy.log if "journal%2F" in request or "/journal/" in request]
        assert driver.finish() == {"trials": 20, "errors": []}
    assert 20 < len(requests) < 60, requests


def begins(side: str) -> list[dict]:
    return [line for line in side_log(side) if line["what"] == "begin"]


@pytest.fixture
def fallible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object_servers.Fallible]:
    """A server that may be killed and started again; the environment leads there."""
    with object_servers.Fallible(tmp_path / "objects") as fallible:
        for name, value in fallible.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
        yield fallible


def test_a_server_that_is_killed_again_and_again(fallible: object_servers.Fallible, tmp_path: Path, start: Start) -> None:
    """Training goes on while the server is gone, and all is there when it is back."""
    task = Task(storage_path=fallible.uri, side=str(tmp_path / "side"), rows=150, samples=3, every=0, pace_s=0.02)
    driver = start(task)
    lots = random.Random(SEED)
    for _ in range(3):
        rows = acknowledged_count(task.side)
        wait_until(lambda rows=rows: acknowledged_count(task.side) > rows + 20, doing=driver)
        fallible.kill()
        rows = acknowledged_count(task.side)
        wait_until(lambda rows=rows: acknowledged_count(task.side) > rows + lots.randrange(10, 40), doing=driver)
        fallible.start()
    assert driver.finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert_files_tell_the_history(task.storage)


def test_a_store_that_is_gone_too_long_ends_the_driver_and_nothing_is_lost(
    fallible: object_servers.Fallible, tmp_path: Path, start: Start
) -> None:
    task = Task(storage_path=fallible.uri, side=str(tmp_path / "side"), rows=100, samples=3, every=0, pace_s=0.02)
    driver = start(replace(task, storage_timeout_s=1.0))
    wait_until(lambda: acknowledged_count(task.side) > 20, doing=driver)
    fallible.kill()
    rows = acknowledged_count(task.side)
    ended = driver.result()
    assert ended["error"] == "StorageError"
    assert "restore when the store can be reached" in ended["text"]
    assert acknowledged_count(task.side) > rows + 20
    fallible.start()
    wait_until_all_gone(task)
    assert start(task).finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert_files_tell_the_history(task.storage)
