"""What a trial finds itself given: threads for its CPUs, the GPUs that are its own (of a machine that is said to have them)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import holdfast as tune
from holdfast._core.events import AttemptEnded, AttemptStarted
from holdfast._journal import read
from holdfast.engines.local import LocalEngine
from holdfast.errors import ConfigError
from holdfast.storage.local import LocalStorage
from holdfast.testing.history import check_history

cloudpickle.register_pickle_by_value(sys.modules[__name__])

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def look(config: dict[str, Any]) -> dict[str, Any]:
    """One row: what the trial sees, and when it saw it."""
    began = time.monotonic()
    time.sleep(config.get("takes", 0.0))
    seen = {name: os.environ.get(name) for name in (*THREADS, "CUDA_VISIBLE_DEVICES")}
    return {**seen, "began": began, "ended": time.monotonic(), "pid": os.getpid()}


def fitted(path: Path, asks: Any, engine: LocalEngine, space: dict[str, Any] | None = None, **tune_config: Any) -> Any:
    return tune.Tuner(
        tune.with_resources(look, asks),
        param_space=space or {},
        tune_config=tune.TuneConfig(**tune_config),
        run_config=tune.RunConfig(name="exp", storage_path=str(path), verbose=0, engine=engine),
    ).fit()


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREADS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("cpus", "threads"), [(3, "3"), (0.5, "1")])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_libraries_are_told_how_many_cpus_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: float, threads: str, method: str
) -> None:
    monkeypatch.setenv("HOLDFAST_START_METHOD", method)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    (result,) = fitted(tmp_path, {"cpu": cpus}, LocalEngine(cpus=4))
    assert [result.metrics[name] for name in THREADS] == [threads, threads, "7"], "what the user has set stands"


def test_a_trial_that_asked_for_no_gpu_sees_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (result,) = fitted(tmp_path, {"cpu": 1}, LocalEngine(cpus=4))
    assert result.metrics["CUDA_VISIBLE_DEVICES"] == ""


def test_whole_gpus_are_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    grid = fitted(tmp_path, {"cpu": 1, "gpu": 1}, LocalEngine(cpus=8), {"takes": 0.05}, num_samples=9)
    rows = [result.metrics for result in grid]
    assert {row["CUDA_VISIBLE_DEVICES"] for row in rows} == {"4", "6", "7"}
    assert_never_two(rows)


def assert_never_two(rows: list[dict[str, Any]]) -> None:
    """No two trials saw a GPU at the same time."""
    for one in rows:
        for other in rows:
            apart = one["ended"] <= other["began"] or other["ended"] <= one["began"]
            shared = set(one["CUDA_VISIBLE_DEVICES"].split(",")) & set(other["CUDA_VISIBLE_DEVICES"].split(","))
            assert one is other or apart or not shared, (one, other)


def test_two_of_four(tmp_path: Path) -> None:
    grid = fitted(tmp_path, {"cpu": 1, "gpu": 2}, LocalEngine(cpus=8, gpus=4), {"takes": 0.05}, num_samples=4)
    rows = [result.metrics for result in grid]
    assert {row["CUDA_VISIBLE_DEVICES"] for row in rows} == {"0,1", "2,3"}
    assert_never_two(rows)


def test_parts_share_one_gpu_and_what_has_no_room_on_any_waits(tmp_path: Path) -> None:
    """1.8 of two GPUs are asked for by three, and no GPU has room for two of them."""
    grid = fitted(tmp_path, {"cpu": 1, "gpu": 0.6}, LocalEngine(cpus=8, gpus=2), {"takes": 0.1}, num_samples=6)
    rows = [result.metrics for result in grid]
    assert grid.num_terminated == 6
    assert {row["CUDA_VISIBLE_DEVICES"] for row in rows} == {"0", "1"}
    assert_never_two(rows)
    running = most = 0
    for record in read(LocalStorage(str(tmp_path / "exp"))):
        running += isinstance(record.event, AttemptStarted) - isinstance(record.event, AttemptEnded)
        most = max(most, running)
    assert most == 2


def test_halves_lie_together(tmp_path: Path) -> None:
    asks = lambda config: {"cpu": 1, "gpu": config["part"]}  # noqa: E731 - as a user writes it
    space = {"part": tune.grid_search([0.5, 0.5, 1]), "takes": 0.3}
    grid = fitted(tmp_path, asks, LocalEngine(cpus=8, gpus=2), space)
    assert [result.metrics["CUDA_VISIBLE_DEVICES"] for result in grid] == ["0", "0", "1"]


def test_a_reused_worker_never_sees_another_gpu_than_before(tmp_path: Path) -> None:
    asks = lambda config: {"cpu": 1, "gpu": config["part"]}  # noqa: E731
    space = {"part": tune.grid_search([1, 0.5, 2, 0.5, 1, 2]), "takes": 0.02}
    grid = fitted(tmp_path, asks, LocalEngine(cpus=8, gpus=2), space, reuse_actors=True)
    assert grid.num_terminated == 6
    seen: dict[int, set[str]] = {}
    for result in grid:
        seen.setdefault(result.metrics["pid"], set()).add(result.metrics["CUDA_VISIBLE_DEVICES"])
    assert all(len(devices) == 1 for devices in seen.values()), seen


@pytest.mark.parametrize("gpus", [1.5, 2.25])
def test_a_gpu_and_a_half_is_refused(tmp_path: Path, gpus: float) -> None:
    with pytest.raises(ConfigError, match="a part of one, or for whole ones"):
        fitted(tmp_path, {"gpu": gpus}, LocalEngine(cpus=2, gpus=4))


def test_a_trial_that_waits_for_a_gpu_is_called_back_when_the_experiment_stops(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        for i in range(1000):
            time.sleep(0.005)
            tune.report({"i": i})

    grid = tune.Tuner(
        tune.with_resources(train, {"cpu": 1, "gpu": 0.6}),
        tune_config=tune.TuneConfig(num_samples=3, time_budget_s=1.5),
        run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0, engine=LocalEngine(cpus=8, gpus=2)),
    ).fit()
    assert (grid.num_terminated, grid.num_errors) == (3, 0)
    assert ["i" in result.metrics for result in grid] == [True, True, False]
    assert not Path(grid[2].path, "error.txt").exists()
    assert check_history(LocalStorage(str(tmp_path / "exp")), []) == []
