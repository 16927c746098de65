"""Shared objects in whole experiments: read by every trial, given again after `kill -9`, gone with the driver."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import holdfast as tune
from holdfast._projection.history import birth_of
from holdfast.errors import ConfigError, JobChanged, NotSerializable, ObjectLost
from holdfast.storage.local import LocalStorage
from holdfast.storage.nameless import NAME
from holdfast.testing.census import Census, memory_files
from holdfast.testing.history import check_history
from holdfast.testing.simulation import digest
from holdfast.values import Reference

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROWS, SAMPLES, SIZE = 6, 3, 50_000


# ------------------------------------------------------------------------------------------------ a driver to kill


class Model:
    """A large object whose class is the script's own."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.weights = np.full(SIZE, level, dtype=np.float64)


def train(config: dict[str, Any], table: dict[str, Any]) -> None:
    """Reads all its objects, reports, and goes on from its newest checkpoint."""
    model, addend = tune.get([config["model"], config["deep"]["list"][1]])
    chosen = tune.get(config["one"]) if isinstance(config["one"], tune.ObjectRef) else config["one"]
    assert not (model.weights.flags.writeable or table["array"].flags.writeable)
    table["own"].append(1)
    assert table["own"] == [0, 1], "each attempt has its own copy"
    checkpoint, start = tune.get_checkpoint(), 0
    if checkpoint:
        start = int(Path(checkpoint.path, "next").read_text())
    for i in range(start, ROWS):
        with tempfile.TemporaryDirectory(dir=os.environ["SIDE"]) as folder:
            Path(folder, "next").write_text(str(i + 1))
            score = float(model.weights.sum() + table["array"][i]) + addend["n"] + chosen + config["x"]
            tune.report({"i": i, "score": score}, checkpoint=tune.Checkpoint.from_directory(folder))
        with Path(os.environ["SIDE"], "rows").open("a") as log:
            log.write(json.dumps([tune.get_context().get_trial_id(), {"i": i, "score": score}]) + "\n")
        time.sleep(0.01)


def space() -> dict[str, Any]:
    """Made anew by each driver, as a user's script does; its list alone would not keep the objects."""
    return {
        "model": tune.grid_search([tune.put(Model(1)), tune.put(Model(2))]),
        "deep": {"list": [0, tune.put({"n": 7})]},
        "one": tune.choice([tune.put(100), 200, tune.put(300)]),
        "x": tune.uniform(0, 1),
    }


def wrapped() -> Callable[..., None]:
    return tune.with_parameters(train, table={"array": np.arange(SIZE), "own": [0]})


def tuner(storage: str) -> tune.Tuner:
    path = os.path.join(storage, "exp")
    if tune.Tuner.can_restore(path):
        return tune.Tuner.restore(path, wrapped(), param_space=space())
    return tune.Tuner(
        wrapped(),
        param_space=space(),
        tune_config=tune.TuneConfig(num_samples=SAMPLES, seed=5, max_concurrent_trials=1, metric="score", mode="max"),
        run_config=tune.RunConfig(name="exp", storage_path=storage, verbose=0),
    )


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts this file as a driver of the experiment below a directory; ends what a failed test leaves."""
    started = []

    def start(storage: str, **environment: str) -> subprocess.Popen[str]:
        Path(storage).mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, __file__, storage],
            env={**os.environ, "SIDE": storage, "HOLDFAST_CPUS": "2", "TMPDIR": str(tmp_path), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def rows(storage: str) -> list[tuple[str, dict[str, Any]]]:
    """What was acknowledged."""
    with contextlib.suppress(FileNotFoundError):
        return [tuple(json.loads(line)) for line in Path(storage, "rows").read_text().splitlines()]
    return []


def kill_after(process: subprocess.Popen[str], storage: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(rows(storage)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def finish(process: subprocess.Popen[str]) -> None:
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told


def assert_nothing_is_left(token: str, before: Census, *places: str) -> None:
    deadline = time.monotonic() + 5
    while left := Census.take(token, *places).since(before):
        assert time.monotonic() < deadline, left
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_restored_with_the_objects_given_again_it_is_as_if_nothing_had_happened(
    tmp_path: Path, driver: Callable[..., subprocess.Popen[str]], seed: int
) -> None:
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    path = os.path.join(killed, "exp")
    lots = random.Random(seed)
    moments = sorted(lots.sample(range(1, 2 * SAMPLES * ROWS - 1), 2))
    print("seed", seed, "killed after rows", moments)
    os.mkdir(killed)
    finish(driver(whole))
    before = Census.take("nobody.", str(tmp_path))
    for moment in moments:
        kill_after(driver(killed), killed, moment)
        assert_nothing_is_left(f"{birth_of(LocalStorage(path)).experiment_id}.", before, str(tmp_path))
        with pytest.raises(
            ConfigError, match=r"references at \['model\[0\]', 'model\[1\]', 'deep/list\[1\]', 'one\[0\]', 'one\[2\]'\]"
        ):
            tune.Tuner.restore(path, wrapped())
    finish(driver(killed))
    assert digest(LocalStorage(path)) == digest(LocalStorage(os.path.join(whole, "exp")))
    assert check_history(LocalStorage(path), rows(killed)) == []
    assert_nothing_is_left(f"{birth_of(LocalStorage(path)).experiment_id}.", before, str(tmp_path))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_where_memory_has_no_room_the_objects_go_to_disk_and_no_file_is_left(
    tmp_path: Path, driver: Callable[..., subprocess.Popen[str]], method: str
) -> None:
    """Without in-memory files, and with a directory for temporary files that is too small, they lie where the results go."""
    small, storage = tmp_path / "small", str(tmp_path / "storage")
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "holdfast-test", str(small)], check=False)
    assert done.returncode == 0, "this test needs the right to mount a tmpfs (root)"
    results = tmp_path / "results"
    results.mkdir()
    try:
        environment = {"TMPDIR": str(small), "HOLDFAST_RESULTS_DIR": str(results), "HOLDFAST_START_METHOD": method}
        process = driver(storage, NO_MEMORY_FILES="1", **environment)
        kill_after(process, storage, 3)
        assert [*small.iterdir(), *results.iterdir()] == []
        finish(driver(storage, NO_MEMORY_FILES="1", **environment))
        assert [*small.iterdir(), *results.iterdir()] == []
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert [row for result in tune.ResultGrid(LocalStorage(f"{storage}/exp")) for row in result.metrics_dataframe["i"]] == [
        *range(ROWS)
    ] * (2 * SAMPLES)


def test_no_room_anywhere_is_an_error_and_no_signal(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "holdfast-test", str(small)], check=False)
    assert done.returncode == 0, "this test needs the right to mount a tmpfs (root)"
    code = "import os, holdfast\ndel os.memfd_create\nholdfast.put(bytes(100_000))"
    environment = {**os.environ, "TMPDIR": str(small), "HOLDFAST_RESULTS_DIR": str(small)}
    try:
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    assert told.returncode == 1, told
    assert "StorageError: There is no room for an object of 100," in told.stderr


# ------------------------------------------------------------------------------------------------ in one process


def run_config(tmp_path: Path, **more: Any) -> tune.RunConfig:
    return tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0, **more)


def adds(config: dict[str, Any], more: Any = None) -> dict[str, Any]:
    return {"sum": float(np.sum(tune.get(config["m"]))) + (0 if more is None else float(np.sum(more)))}


class Sees(tune.Callback):
    """Reads what the trial's config leads to."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.seen += [tune.get(trial.config["m"]).sum(), tune.get(result["config"]["m"]).sum()]


def test_callbacks_and_results_of_the_same_process_have_the_objects(tmp_path: Path) -> None:
    sees = Sees()
    made = tune.Tuner(
        adds,
        param_space={"m": tune.grid_search([tune.put(np.ones(3)), tune.put(np.ones(4))])},
        run_config=run_config(tmp_path, callbacks=[sees]),
    )
    results = made.fit()
    assert [result.metrics["sum"] for result in results] == [3, 4]
    assert sorted(sees.seen) == [3, 3, 4, 4]
    for grid in (results, made.fit(), made.get_results()):
        assert [tune.get(result.config["m"]).sum() for result in grid] == [3, 4]
        assert json.loads(Path(grid[0].path, "params.json").read_text()) == {"m": "ObjectRef(m[0])"}


def test_a_finished_experiment_is_looked_at_without_its_objects(tmp_path: Path) -> None:
    tune.Tuner(adds, param_space={"m": tune.put(np.ones(3))}, run_config=run_config(tmp_path)).fit()
    again = tune.Tuner.restore(tmp_path / "exp", adds)
    for results in (again.get_results(), again.fit()):
        assert results[0].config == {"m": Reference("m")}
        with pytest.raises(ObjectLost, match="stood at 'm'"):
            tune.get(results[0].config["m"])
    assert tune.Result.from_path(results[0].path).config == {"m": Reference("m")}
    with pytest.raises(ConfigError, match=r"references at \['m'\]"):
        tune.Tuner.restore(tmp_path / "exp", adds, resume_config=tune.ResumeConfig(finished=tune.ResumeConfig.ResumeType.RESTART))


def test_an_experiment_that_never_ran_wants_its_objects_at_once(tmp_path: Path) -> None:
    tune.Tuner(adds, param_space={"m": tune.put(1), "n": 2}, run_config=run_config(tmp_path))
    with pytest.raises(ValueError, match=r"references at \['m'\].*Tuner\.restore\(.*param_space="):
        tune.Tuner.restore(tmp_path / "exp", adds)
    with pytest.raises(JobChanged, match="m: ObjectRef"):
        tune.Tuner.restore(tmp_path / "exp", adds, param_space={"m": 1, "n": 2})
    again = tune.Tuner.restore(tmp_path / "exp", adds, param_space={"m": tune.put(np.ones(5)), "n": 2})
    assert again.fit()[0].metrics["sum"] == 5


def test_a_reference_that_comes_from_nowhere_in_the_space_is_refused(tmp_path: Path) -> None:
    made = tune.Tuner(adds, param_space={"m": tune.sample_from(lambda: tune.put(1))}, run_config=run_config(tmp_path))
    with pytest.raises(NotSerializable, match="An ObjectRef has no place in param_space"):
        made.fit()
    kept = tune.put(1)
    with pytest.raises(NotSerializable, match=r"param_space\['m'\].*has no place in param_space"):
        tune.Tuner(adds, param_space={"m": tune.sample_from(lambda: kept)}, run_config=run_config(tmp_path / "other"))


class Holder:
    """An object of the user's that holds a reference."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference


def reads(config: dict[str, Any]) -> dict[str, Any]:
    return {"sum": float(tune.get(config["holder"].reference).sum()), "n": config["n"]}


def test_functions_of_the_space_may_read_and_hand_on_its_references(tmp_path: Path) -> None:
    held = tune.put(np.ones(6))
    space = {
        "m": held,
        "n": tune.sample_from(lambda config: int(tune.get(config["m"]).sum())),
        "holder": tune.sample_from(lambda config: Holder(config["m"])),
    }
    made = tune.Tuner(reads, param_space=space, run_config=run_config(tmp_path))
    assert {key: made.fit()[0].metrics[key] for key in ("sum", "n")} == {"sum": 6, "n": 6}


class Net(tune.Trainable):
    """A class trainable with a shared array, reused for one trial after another."""

    def setup(self, config: dict[str, Any], weights: Any = None) -> None:
        self.weights, self.own = weights, config["x"]

    def step(self) -> dict[str, Any]:
        assert not self.weights.flags.writeable
        return {"sum": float(self.weights.sum()) + self.own, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.own = new_config["x"]
        return True


@pytest.mark.parametrize("reuse", [False, True])
def test_a_class_trainable_with_objects_and_resources(tmp_path: Path, reuse: bool) -> None:
    trainable = tune.with_resources(tune.with_parameters(Net, weights=np.ones(10)), {"cpu": 1})
    results = tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search([1, 2, 3])},
        tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=1),
        run_config=run_config(tmp_path),
    ).fit()
    assert [result.metrics["sum"] for result in results] == [11, 12, 13]
    assert birth_of(LocalStorage(results.experiment_path)).trainable_name == "Net"


def test_objects_live_as_long_as_the_tuner(tmp_path: Path) -> None:
    import gc

    gc.collect()
    before = len(memory_files([os.getpid()]))
    made = tune.Tuner(
        tune.with_parameters(adds, more=np.ones(2)), param_space={"m": tune.put(np.ones(3))}, run_config=run_config(tmp_path)
    )
    gc.collect()
    assert len(memory_files([os.getpid()])) == before + 2
    assert made.fit()[0].metrics["sum"] == 5
    made = None
    gc.collect()
    assert len(memory_files([os.getpid()])) == before


# ------------------------------------------------------------------------------------------------ checkpoints in a space


def goes_on(config: dict[str, Any]) -> None:
    checkpoint = tune.get_checkpoint() or config["start"]
    first = int(Path(checkpoint.path, "next").read_text()) if checkpoint else 0
    for i in range(first, first + 3):
        Path("state").mkdir(exist_ok=True)
        Path("state", "next").write_text(str(i + 1))
        tune.report({"i": i}, checkpoint=tune.Checkpoint.from_directory("state"))


def test_checkpoints_of_an_earlier_experiment_start_a_new_one_that_survives(tmp_path: Path) -> None:
    config = tune.RunConfig(name="first", storage_path=str(tmp_path), verbose=0)
    first = tune.Tuner(goes_on, param_space={"start": None}, run_config=config).fit()[0]
    space = {"start": tune.grid_search([first.checkpoint, None]), "other": [first.checkpoint]}
    tune.Tuner(goes_on, param_space=space, run_config=run_config(tmp_path))
    results = tune.Tuner.restore(tmp_path / "exp", goes_on).fit()
    assert [list(result.metrics_dataframe["i"]) for result in results] == [[3, 4, 5], [0, 1, 2]]
    assert results[0].config == {"start": first.checkpoint, "other": [first.checkpoint]}


def refuse_memory_files() -> None:
    """The operating system has no room in memory for objects."""
    create = os.memfd_create

    def memfd_create(name: str, flags: int = os.MFD_CLOEXEC) -> int:
        if name == NAME:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return create(name, flags)

    os.memfd_create = memfd_create


if __name__ == "__main__":
    if os.environ.get("NO_MEMORY_FILES"):
        refuse_memory_files()
    assert tuner(sys.argv[1]).fit().num_errors == 0
