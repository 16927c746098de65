"""Trackers of experiments whose drivers are killed: every row is there once, and a tracker that is down holds nobody up."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import struct
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from integration.drivers import acknowledged_count, wait_until
from integration.tracked import FileTracker
from object_servers import _start, free_port

SECRET = "a-secret-that-nobody-may-store"
ENVIRONMENT = {
    "HOLDFAST_CPUS": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "COMET_ERROR_TRACKING_ENABLE": "0",
    "WANDB_ERROR_REPORTING": "false",
}


class Driver:
    """One driver after another, all of one experiment."""

    def __init__(self, where: Path, tracker: str, rows: int = 12, pace_s: float = 0.01, **options: Any) -> None:
        self.where, self.path, self.side = where, where / "exp", str(where / "side")
        self.asked = {"storage_path": str(where), "tracker": tracker, "rows": rows, "options": options}
        self.errors = where / "errors"
        self.environment = {"PACE_S": str(pace_s)}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, **ENVIRONMENT, **self.environment, "SIDE_LOG": self.side, "HOME": str(self.where)}
        environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
        script = Path(__file__).parent / "tracked.py"
        asked = self.where / "asked"
        asked.write_text(json.dumps(self.asked))  # it holds a secret, and W&B notes command lines
        with self.errors.open("ab") as errors:
            command = [sys.executable, str(script), str(asked)]
            self.process = subprocess.Popen(command, stderr=errors, env=environment, start_new_session=True)

    def poll(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def kill(self) -> None:
        """SIGKILL of the driver; what it has started goes by itself."""
        assert self.process is not None
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        _, left = psutil.wait_procs(started, timeout=20)
        assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]

    def finish(self) -> None:
        assert self.process is not None
        assert self.process.wait(120) == 0, self.errors.read_text()

    def wait(self, condition: Callable[[], bool], within_s: float = 240.0) -> None:
        wait_until(lambda: condition() or self.poll() is not None, within_s)
        assert self.poll() is None, f"the driver ended with {self.poll()}:\n{self.errors.read_text()}"

    def killed_after(self, rows: int) -> None:
        self.start()
        self.wait(lambda: acknowledged_count(self.side) >= rows)
        self.kill()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def make(tracker: str, **options: Any) -> Driver:
        made.append(Driver(tmp_path, tracker, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


def as_history_has_it(path: Path) -> dict[str, list[float]]:
    """By trial, the losses in order, as the journal's projection says."""
    found = {}
    for file in path.glob("train_*/result.json"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert [row["n"] for row in rows] == list(range(len(rows)))
        found[rows[0]["trial_id"]] = [row["loss"] for row in rows]
    assert len(found) == 3
    return found


def assert_no_secret(path: Path) -> None:
    for file in path.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("seed", range(2))
def test_each_row_is_sent_once_over_kills(driver, seed):
    lots = random.Random(seed)
    one = driver("file", path="")
    one.asked["options"] = {"path": str(one.where / "tracker")}
    for rows in sorted(lots.sample(range(1, 30), 2)):
        one.killed_after(rows)
    one.start()
    one.finish()
    told: dict[str, list[Any]] = defaultdict(list)
    ends = {}
    for what, name, *more in FileTracker(str(one.where / "tracker")).lines():
        if what == "row":
            told[name.removeprefix("train_")].append(more[0])
        if what == "end":
            ends[name.removeprefix("train_")] = more[0]
    history = as_history_has_it(one.path)
    assert dict(told) == {trial: list(range(1, len(losses) + 1)) for trial, losses in history.items()}
    assert sorted(ends.values()) == [False, False, True]
    assert not (one.path / ".trackers_due").exists()


def test_a_tracker_that_is_down_is_reported_tried_again_and_made_up_for(driver):
    one = driver("file", path="", rows=3)
    tracker = one.where / "tracker"
    one.asked["options"] = {"path": str(tracker)}
    one.environment["HOLDFAST_TRACKER_WAIT_S"] = "0.2"
    down = Path(f"{tracker}.down")
    down.touch()
    one.start()
    one.finish()
    said = one.errors.read_text()
    assert "FileTracker fails, and is tried again: ConnectionError: the tracker is down" in said
    assert "nothing is lost: restore, and it is sent" in said
    assert all(len(losses) == 3 for losses in as_history_has_it(one.path).values())
    assert not tracker.exists()
    down.unlink()
    one.start()  # all trials are finished; only the tracker is owed something
    one.finish()
    rows = [line for line in FileTracker(str(tracker)).lines() if line[0] == "row"]
    assert sorted((name, number) for _, name, number, _ in rows) == sorted(
        (f"train_{trial}", number) for trial in as_history_has_it(one.path) for number in (1, 2, 3)
    )
    before = tracker.read_text()
    one.start()
    one.finish()
    assert tracker.read_text() == before


@contextlib.contextmanager
def mlflow_server(where: Path, port: int) -> Iterator[Path]:
    database = where / "mlflow.db"
    words = ["bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(where / "artifacts")]
    # Without its runners of jobs, which nothing here needs: several processes, and files in /dev/shm that stay when it is killed.
    process = _start(words, {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    try:
        yield database
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=10)
        process.wait()


@pytest.mark.timeout(400)
def test_mlflow_that_comes_late_over_a_kill(driver, tmp_path):
    port = free_port()
    one = driver(
        "mlflow",
        rows=12,
        pace_s=3.0,
        tracking_uri=f"http://127.0.0.1:{port}",
        tags={"team": "a"},
        save_artifact=True,
        nested=True,
        tracking_token=SECRET,
    )
    one.start()
    one.wait(lambda: "MLflowLoggerCallback fails, and is tried again" in one.errors.read_text())
    with mlflow_server(tmp_path, port) as database:

        def metrics() -> list[tuple[str, str, int, float]]:
            if not database.exists():
                return []
            with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                query = (
                    "SELECT r.name, r.status, m.step, m.value FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key = 'loss'"
                )
                with contextlib.suppress(sqlite3.OperationalError):  # its tables are being made
                    return connection.execute(query).fetchall()
            return []

        one.wait(lambda: len(metrics()) > 2)
        one.kill()
        one.environment |= {"PACE_S": "0", "HOLDFAST_TRACKER_WAIT_S": "120"}
        one.start()
        one.finish()
        said = one.errors.read_text()
        assert "MLflowLoggerCallback works again" in said
        assert "has not taken" not in said
        told = defaultdict(dict)
        for name, _, step, value in metrics():
            assert step not in told[name.removeprefix("train_")]
            told[name.removeprefix("train_")][step] = value
        history = as_history_has_it(one.path)
        assert {name: [row[step] for step in sorted(row)] for name, row in told.items()} == history
        assert sorted({(name, status) for name, status, _, _ in metrics()}, key=str) == sorted(
            ((f"train_{trial}", "FAILED" if losses[0] == 2 else "FINISHED") for trial, losses in history.items()), key=str
        )
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM runs")]
            assert sorted(names) == sorted(["exp", *(f"train_{trial}" for trial in history)])
            parents = connection.execute("SELECT count(*), count(DISTINCT value) FROM tags WHERE key = 'mlflow.parentRunId'")
            assert parents.fetchall() == [(3, 1)]
            params = connection.execute("SELECT value FROM params WHERE key = 'x'").fetchall()
            assert sorted(params) == [("1",), ("2",), ("3",)]
        assert list((tmp_path / "artifacts").rglob("checkpoint_*/next"))
    assert_no_secret(one.path)


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of an offline run: a log of LevelDB's kind, blocks of 32 KiB behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def test_wandb_offline_over_two_kills(driver):
    one = driver("wandb", rows=24, pace_s=0.15, project="p", mode="offline", api_key=SECRET, upload_checkpoints=True)
    runs = lambda: list(one.path.glob("train_*/wandb/offline-run-*/*.wandb"))  # noqa: E731
    for rows in (4, 20):
        one.start()
        one.wait(lambda rows=rows: acknowledged_count(one.side) >= rows and len(runs()) > 0)
        one.kill()
    one.environment["PACE_S"] = "0.01"
    one.start()
    one.finish()
    told = {}
    for file in runs():
        items = [
            {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for record in wandb_records(file)
            if record.WhichOneof("record_type") == "history"
        ]
        assert [row["_step"] for row in items] == list(range(len(items)))
        trial = file.name.removeprefix("run-").removesuffix(".wandb")
        assert trial not in told
        told[trial] = [row["loss"] for row in items]
        exits = [record.exit.exit_code for record in wandb_records(file) if record.WhichOneof("record_type") == "exit"]
        assert exits == [int(items[0]["loss"] == 2)]
    assert told == as_history_has_it(one.path)
    assert_no_secret(one.path)


def test_comet_offline_over_two_kills(driver, tmp_path):
    (tmp_path / "tmp").mkdir()
    one = driver("comet", rows=24, pace_s=0.1, online=False, tags=["a"], save_checkpoints=True, api_key=SECRET)
    one.environment["TMPDIR"] = str(tmp_path / "tmp")

    def staging() -> set[str]:
        return {file.read_text() for file in one.path.glob("train_*/comet/.staging")}

    for rows in (4, 20):
        before = staging()
        one.start()  # killed when both running trials have an archive that is being filled: Comet fills it elsewhere
        one.wait(lambda rows=rows, old=before: acknowledged_count(one.side) >= rows and len(staging() - old) == 2)
        one.kill()
    one.environment["PACE_S"] = "0.01"
    one.start()
    one.finish()
    told = {}
    for file in one.path.glob("train_*/comet/*.zip"):
        with zipfile.ZipFile(file) as archive:
            messages = [json.loads(line) for line in archive.read("messages.json").decode().splitlines()]
            assert any('/next"' in json.dumps(message) for message in messages)
        metrics = [m["payload"]["metric"] for m in messages if "metric" in m["payload"]]
        losses = sorted((m["step"], m["metricValue"]) for m in metrics if m["metricName"] == "loss")
        trial = next(m["payload"]["value"] for m in messages if m["payload"].get("key") == "trial_id")
        assert [step for step, _ in losses] == list(range(1, len(losses) + 1))
        told[trial] = [float(value) for _, value in losses]
    assert told == as_history_has_it(one.path)
    assert not list((tmp_path / "tmp").rglob("messages.json"))
    assert_no_secret(one.path)


AIM_READER = """
import json, sys
from aim import Repo, Run
repo, found = Repo.from_path(sys.argv[1]), []
for name in repo.list_all_runs():
    run = Run(name, repo=repo, system_tracking_interval=None, capture_terminal_logs=False)
    metrics = {metric.name: metric.values.sparse_list()[1] for metric in run.metrics()}
    found.append([run["trial_id"], run.experiment, run["hparams"], run["failed"], metrics])
    run.close()
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Aim cannot be installed there")
def test_aim_in_a_local_repository_over_a_kill(driver, tmp_path):
    one = driver("aim", rows=12, pace_s=0.1, repo=str(tmp_path / "repo"), metrics=["loss"])
    one.start()
    one.wait(lambda: acknowledged_count(one.side) > 5 and len(list((tmp_path / "repo").glob(".aim/seqs/chunks/*"))) > 1)
    one.kill()
    one.environment["PACE_S"] = "0.01"
    one.start()
    one.finish()
    read = subprocess.run(
        [sys.executable, "-c", AIM_READER, str(tmp_path / "repo")], capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(read.stdout.splitlines()[-1])
    history = as_history_has_it(one.path)
    assert {trial: sorted(metrics["loss"], reverse=True) for trial, *_, metrics in told} == history
    assert len(told) == 3
    for trial, experiment, hparams, failed, metrics in told:
        first = history[trial][0]
        assert (experiment, hparams, failed, list(metrics)) == ("exp", {"x": first, "rows": 12}, first == 2, ["loss"])


def test_an_aim_repository_is_given_by_its_path():
    from holdfast.errors import ConfigError
    from holdfast.integration.aim import AimLoggerCallback

    with pytest.raises(ConfigError, match="give the path"):
        AimLoggerCallback(repo=object())
    assert AimLoggerCallback("aim://host:1").repo == "aim://host:1"
