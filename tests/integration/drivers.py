"""Experiments in processes of their own, made to be killed: what the driver's script runs, and how a test holds it.

The trials write a side log that no crash takes away (one `write` per line, in order): `begin` when an attempt begins,
`row` when a report has returned. Tests count its lines, so that moments are events and not times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.storage.base import Storage
from holdfast.storage.opening import inside, open_storage
from holdfast.testing.census import processes_of

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Task:
    """What a driver is to run.

    Attributes:
        storage_path, side: Where results go; the side log.
        rows, samples, workers: Size.
        every: A checkpoint every so many rows; 0 for none.
        pace_s: What one row takes.
        asha: Whether ASHA stops trials.
        unique: Whether each row holds a random word, so that a redone one differs from the first.
        family: Whether each trial starts a child that leaves its session and ignores what can be ignored.
        padding, checkpoint_bytes, drawn_bytes: Bytes in each row, in each checkpoint, in an object in each config.
        max_failures, max_preemptions, num_to_keep, upload, max_total_bytes, takeover, durability, storage_timeout_s: As in the
            library.
        resume_errored, restart_errored: As in `Tuner.restore`.
        by_class: Whether the trainable is a class; then a stop rule ends the trials, `every` is its checkpoint_frequency,
            and a checkpoint at the end is left to the default.
        reuse: As `reuse_actors`.
        group: Whether each trial asks for two bundles, of half a CPU each.
        population: "pbt" or "synch" for population based training, in step or not.
        first_rows: Where given, a stop rule ends trials there, and when all have ended the experiment is extended: to trials of
            `rows` rows, and by one sample.
        cloud: Where trials put their checkpoints themselves, a URI, and report them there; empty: they report local directories.
        artifacts: Whether trials write into their working directories, and that is synced.
    """

    storage_path: str
    side: str
    rows: int = 30
    samples: int = 4
    workers: int = 2
    every: int = 1
    pace_s: float = 0.002
    asha: bool = False
    unique: bool = True
    family: bool = False
    padding: int = 0
    checkpoint_bytes: int = 10
    drawn_bytes: int = 0
    max_failures: int = 0
    max_preemptions: int | None = None
    num_to_keep: int | None = None
    upload: str = "sync"
    max_total_bytes: int | None = None
    takeover: bool = False
    resume_errored: bool = False
    restart_errored: bool = False
    by_class: bool = False
    reuse: bool = False
    group: bool = False
    population: str = ""
    first_rows: int = 0
    durability: str = "group"
    storage_timeout_s: float = 1800.0
    artifacts: bool = False
    cloud: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return inside(self.storage_path, "exp")

    @property
    def storage(self) -> Storage:
        return open_storage(self.path)


def note(side: str, **fields: object) -> None:
    """Adds a line to a side log, whole or not at all."""
    descriptor = os.open(side, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, json.dumps(fields).encode() + b"\n")
    os.close(descriptor)


def leave_a_child() -> None:
    """Starts a child in a session of its own that ignores polite signals."""
    ready, told = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.write(told, b".")
        time.sleep(600)
        os._exit(0)
    os.read(ready, 1)


def train(config: dict[str, Any]) -> None:
    """A trial that goes on from its newest checkpoint and writes down what was acknowledged."""
    import secrets
    import tempfile

    import holdfast as tune

    trial, side, start = tune.get_context().get_trial_id(), os.environ["SIDE_LOG"], 0
    newest = tune.get_checkpoint()
    if newest is not None:
        with newest.as_directory() as folder:
            start = json.loads(Path(folder, "state.json").read_text())["next"]
    note(side, what="begin", trial=trial, start=start, pid=os.getpid())
    if config["family"]:
        leave_a_child()
    for i in range(start, config["rows"]):
        time.sleep(config["pace_s"])
        row: dict[str, Any] = {"i": i, "score": (config["x"] - 0.3) ** 2 + 1.0 / (i + 1)}
        if config["unique"]:
            row["word"] = secrets.token_hex(8)
        if config["padding"]:
            row["padding"] = "x" * config["padding"]
        if config["artifacts"]:
            with open(f"artifact-{tune.get_context().get_trial_id()}-{os.getpid()}", "a", encoding="utf-8") as file:
                file.write(f"{i}\n")
        saves = bool(config["every"]) and i % config["every"] == config["every"] - 1
        if saves:
            with tempfile.TemporaryDirectory(dir=os.path.dirname(side)) as folder:
                Path(folder, "state.json").write_text(json.dumps({"next": i + 1}))
                Path(folder, "weights").write_bytes(b"w" * config["checkpoint_bytes"])
                tune.report(row, checkpoint=in_the_cloud(config["cloud"], folder) if config["cloud"] else tune.Checkpoint(folder))
        else:
            tune.report(row)
        note(side, what="row", trial=trial, saves=saves, row=row)


def in_the_cloud(place: str, folder: str) -> Any:
    """What lies in a local directory, put to a store by the trial itself: at one place, again and again."""
    import holdfast as tune

    own = inside(place, tune.get_context().get_trial_id())
    for name in os.listdir(folder):
        open_storage(own).put(name, Path(folder, name).read_bytes())
    return tune.Checkpoint(own)


def class_trainable() -> type:
    """The same trial as a class. A row is written down as acknowledged when the next step is asked for."""
    import holdfast as tune

    class Counting(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.total, self.reported = 0, []
            if config["family"]:
                leave_a_child()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.total, self.reported = 0, []
            return True

        def step(self) -> dict[str, Any]:
            i, every, side = self.iteration, self.config["every"], os.environ["SIDE_LOG"]
            if self.reported:
                note(side, what="row", trial=self.trial_id, saves=bool(every) and i % every == 0, row=self.reported[-1])
            else:
                note(side, what="begin", trial=self.trial_id, start=i, pid=os.getpid())
            time.sleep(self.config["pace_s"])
            self.total += i
            self.reported.append({"i": i, "total": self.total, "score": (self.config["x"] - 0.3) ** 2 + 1.0 / (i + 1)})
            return self.reported[-1]

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "state.json").write_text(json.dumps({"next": self.iteration, "total": self.total}))
            Path(checkpoint_dir, "weights").write_bytes(b"w" * self.config["checkpoint_bytes"])

        def load_checkpoint(self, checkpoint: str) -> None:
            state = json.loads(Path(checkpoint, "state.json").read_text())
            assert state["next"] == self.iteration
            self.total = state["total"]

        def cleanup(self) -> None:
            note(os.environ["SIDE_LOG"], what="cleanup", trial=self.trial_id, at=self.iteration, pid=os.getpid())

    return Counting


class Table:
    """Something that must be pickled, as large as one likes and no two alike."""

    def __init__(self, size: int, which: float) -> None:
        self.data = repr(which) + "t" * size


def tuner(task: Task) -> Any:
    """The task as a new experiment, or the one that is there."""
    import holdfast as tune

    trainable = class_trainable() if task.by_class else train
    if task.group:
        trainable = tune.with_resources(trainable, tune.PlacementGroupFactory([{"CPU": 0.5}, {"CPU": 0.5}]))
    if tune.Tuner.can_restore(task.path):
        how = {"takeover": task.takeover, "resume_errored": task.resume_errored, "restart_errored": task.restart_errored}
        return tune.Tuner.restore(task.path, trainable, **how)
    copied = ("rows", "every", "pace_s", "unique", "family", "padding", "checkpoint_bytes", "artifacts", "cloud")
    space = {"x": tune.uniform(0, 1), **{name: getattr(task, name) for name in copied}}
    if task.drawn_bytes:
        space["table"] = tune.sample_from(lambda config, size=task.drawn_bytes: Table(size, config["x"]))
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=task.samples,
            metric="score",
            mode="min",
            seed=7,
            reuse_actors=task.reuse,
            max_concurrent_trials=task.workers,
            scheduler=_scheduler(task),
        ),
        run_config=tune.RunConfig(
            name="exp",
            storage_path=task.storage_path,
            verbose=0,
            durability=task.durability,
            storage_timeout_s=task.storage_timeout_s,
            sync_config=tune.SyncConfig(sync_artifacts=True, sync_period=0.2) if task.artifacts else None,
            failure_config=tune.FailureConfig(max_failures=task.max_failures, max_preemptions=task.max_preemptions),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=task.num_to_keep,
                upload=task.upload,
                max_total_bytes=task.max_total_bytes,
                checkpoint_frequency=task.every if task.by_class else 0,
            ),
            stop={"training_iteration": task.first_rows or task.rows} if task.by_class or task.first_rows else None,
        ),
    )


def _scheduler(task: Task) -> Any:
    import holdfast as tune
    from holdfast.schedulers import ASHAScheduler, PopulationBasedTraining

    if task.population:
        return PopulationBasedTraining(
            "training_iteration",
            perturbation_interval=3,
            hyperparam_mutations={"x": tune.uniform(0, 1)},
            quantile_fraction=0.5,
            synch=task.population == "synch",
        )
    return ASHAScheduler(max_t=task.rows, grace_period=2, reduction_factor=2) if task.asha else None


def main() -> None:
    """Runs a task given on the command line; prints one line of JSON."""
    import holdfast as tune

    task = Task(**json.loads(sys.argv[1]))
    try:
        results = tuner(task).fit()
        if task.first_rows and not load_state(task.storage).extensions:
            trainable = class_trainable() if task.by_class else train
            results = tune.Tuner.extend(task.path, trainable, num_samples=1, stop={"training_iteration": task.rows}).fit()
    except Exception as error:  # whatever ends the driver is what the test asks about
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
        raise SystemExit(1) from error
    print(json.dumps({"trials": len(results), "errors": [str(error) for error in results.errors]}), flush=True)


class DriverEnded(AssertionError):
    """A driver ended before what a test waits for."""


class DriverProcess:
    """A driver in a child process, in a session of its own.

    Args:
        task: What it runs.
        faults: `HOLDFAST_FAULTS` for it and for its workers.
        before: A command to put before the interpreter's, such as `unshare`.
    """

    def __init__(self, task: Task, faults: str = "", before: tuple[str, ...] = ()) -> None:
        environment = {**os.environ, "HOLDFAST_FAULTS": faults, "HOLDFAST_CPUS": "2", "SIDE_LOG": task.side, **task.environment}
        self.task = task
        self.process = subprocess.Popen(
            [*before, sys.executable, __file__, json.dumps(asdict(task))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def result(self, within_s: float = 60.0) -> dict[str, Any]:
        """What the driver printed at its end."""
        try:
            out, err = self.process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        lines = [line for line in out.splitlines() if line.startswith("{")]  # Ray prints there, too
        assert lines, f"the driver ended with {self.process.returncode} and said nothing:\n{err}"
        return json.loads(lines[-1])

    def finish(self) -> dict[str, Any]:
        """The result of a driver that ends well."""
        result = self.result()
        assert self.process.returncode == 0, result
        return result

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        """Ends what a failed test has left of it, its workers included."""
        if self.process.poll() is None:
            for process in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.communicate()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def roles(self) -> dict[str, list[int]]:
        """The pids of the driver's guardian, server and workers; lists that are empty where there is none yet."""
        guardians = _children(self.pid)
        servers = [pid for guardian in guardians for pid in _children(guardian)]
        workers = [pid for server in servers for pid in _children(server)]
        return {"guardian": guardians[:1], "server": servers[:1], "worker": workers}


Start = Callable[..., DriverProcess]
"""Makes a `DriverProcess`, and ends what a failed test leaves of it: the fixture `start`."""


def _children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def side_log(side: str) -> list[dict[str, Any]]:
    """The side log's lines, in order."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in Path(side).read_text().splitlines()]
    return []


def acknowledged(side: str) -> list[tuple[str, dict[str, Any]]]:
    """What `check_history` asks for."""
    return [(line["trial"], line["row"]) for line in side_log(side) if line["what"] == "row"]


def acknowledged_count(side: str) -> int:
    """How many reports have returned; cheap, because it is asked in a loop."""
    with contextlib.suppress(FileNotFoundError):
        return Path(side).read_bytes().count(b'"what": "row"')
    return 0


def needlessly_redone(side: str) -> list[str]:
    """Attempts that began before the newest checkpoint whose report had returned."""
    found, safe = [], dict[str, int]()
    for line in side_log(side):
        if line["what"] == "begin" and line["start"] < safe.get(line["trial"], 0):
            found.append(f"{line['trial']} began at {line['start']}, a checkpoint was acknowledged at {safe[line['trial']]}")
        elif line["what"] == "row" and line["saves"]:
            safe[line["trial"]] = line["row"]["i"] + 1
    return found


def wait_until(condition: Callable[[], object], within_s: float = PATIENCE_S, doing: DriverProcess | None = None) -> None:
    """Waits for an event; fails at once when the driver that should bring it about has ended."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        if doing is not None and doing.process.poll() is not None and not condition():
            raise DriverEnded(f"the driver has ended: {doing.process.communicate()}")
        time.sleep(0.001)


def wait_until_stopped(driver: DriverProcess) -> None:
    """Waits until the driver has stopped itself (SIGSTOP) at a crash point."""
    wait_until(lambda: status_of(driver.pid) == psutil.STATUS_STOPPED, doing=driver)


def kill_at_random(driver: DriverProcess, task: Task, lots: random.Random, most: int) -> None:
    """Kills the driver when some further rows, fewer than `most`, are acknowledged; in half of all cases its workers first."""
    rows = acknowledged_count(task.side) + lots.randrange(1, most)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: acknowledged_count(task.side) >= rows, doing=driver)
    if lots.random() < 0.5:
        for pid in driver.roles()["worker"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    driver.kill()


def status_of(pid: int) -> str:
    """As psutil names it; a process that is gone is as dead as one that nobody has waited for."""
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def token_of(task: Task) -> str:
    """How the `HOLDFAST_TOKEN` of all processes of the experiment begins."""
    created = next(iter(read(task.storage))).event
    return f"{created.experiment_id}."


def wait_until_all_gone(task: Task, within_s: float = 2.0) -> None:
    """Waits until no process of the experiment is left."""
    token = token_of(task)
    deadline = time.monotonic() + within_s
    while left := processes_of(token):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.005)


if __name__ == "__main__":
    main()
