"""Libraries with thread pools of their own work in trials.

They are used by the driver before `fit()`, loaded by the preloading server before the fork where that is safe, and used by
workers after it.
torch is not among what `make test` installs, because a plain `pip install torch` brings gigabytes: `.ci/run` brings its
small build.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from holdfast import RunConfig, TuneConfig, Tuner, grid_search, report

cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.slow


def openblas(seed: int) -> float:
    import numpy

    matrix = numpy.random.default_rng(seed).random((400, 400))
    return float(numpy.linalg.slogdet(matrix @ matrix.T + numpy.eye(400))[1])


def polars(seed: int) -> float:
    import polars as pl

    frame = pl.DataFrame({"group": [n % 7 for n in range(50_000)], "value": [float(n * seed) for n in range(50_000)]})
    return float(frame.lazy().group_by("group").agg(pl.col("value").sum()).collect()["value"].sum())


def pyarrow(seed: int) -> float:
    import pyarrow as pa

    table = pa.table({"group": [n % 7 for n in range(50_000)], "value": [float(n * seed) for n in range(50_000)]})
    return float(sum(table.group_by("group", use_threads=True).aggregate([("value", "sum")])["value_sum"].to_pylist()))


def torch(seed: int) -> float:
    import torch as t

    t.manual_seed(seed)
    model, data = t.nn.Sequential(t.nn.Linear(200, 200), t.nn.ReLU(), t.nn.Linear(200, 1)), t.randn(2_000, 200)
    optimizer = t.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss = (model(data) ** 2).mean()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("work", [openblas, polars, pyarrow, torch], ids=lambda work: work.__name__)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_library_works_in_trials(work: Any, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if work is torch and "CI" not in os.environ and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed here; .ci/run installs it")
    monkeypatch.setenv("HOLDFAST_START_METHOD", method)
    expected = [work(seed) for seed in (1, 2, 3)]  # and the driver's own thread pools run by now

    def train(config: dict[str, int]) -> None:
        report({"value": work(config["seed"])})

    tuner = Tuner(
        train,
        param_space={"seed": grid_search([1, 2, 3])},
        tune_config=TuneConfig(max_concurrent_trials=2),
        run_config=RunConfig(name="fork", storage_path=tmp_path, verbose=0),
    )
    results = tuner.fit()
    assert results.errors == []
    assert [result.metrics["value"] for result in results] == pytest.approx(expected)


def server_holds(library: str) -> bool:
    """Whether the process that this one was forked from has a library's native code: here it is loaded in any case by now."""
    return f"/{library}/" in Path(f"/proc/{os.getppid()}/maps").read_text()


def rows_of(train: Any, path: Path, samples: int) -> list[dict[str, Any]]:
    """The rows of trials, two at a time."""
    tuner = Tuner(
        train,
        tune_config=TuneConfig(max_concurrent_trials=2, num_samples=samples),
        run_config=RunConfig(name="held", storage_path=path, verbose=0),
    )
    results = tuner.fit()
    assert results.errors == []
    return [result.metrics for result in results]


@pytest.mark.parametrize("threads", [None, "2"], ids=["as it comes", "threads before the fork"])
def test_many_trials_use_blas_with_threads_from_a_server_that_holds_it(
    threads: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy

    def product() -> float:
        matrix = numpy.random.default_rng(1).random((600, 600))
        return float(numpy.trace(matrix @ matrix))

    def train(config: dict[str, Any]) -> dict[str, Any]:
        before = len(os.listdir("/proc/self/task"))
        found = product()
        return {"product": found, "more": len(os.listdir("/proc/self/task")) - before, "held": server_holds("numpy")}

    if threads is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
    rows = rows_of(train, tmp_path, 24)
    more = min(int(threads or 1), len(os.sched_getaffinity(0))) - 1
    assert [(row["held"], row["more"]) for row in rows] == [(True, more)] * 24
    assert [row["product"] for row in rows] == pytest.approx([product()] * 24)


def test_many_trials_use_pandas_and_jemalloc_from_a_server_that_holds_them(tmp_path: Path) -> None:
    import pandas
    import pyarrow as pa

    def train(config: dict[str, Any]) -> dict[str, Any]:
        pool = pa.jemalloc_memory_pool()
        for _ in range(5):  # what is freed is what jemalloc's own thread would have given back
            buffers = [pa.allocate_buffer(8 * 1024 * 1024, memory_pool=pool) for _ in range(8)]
            del buffers
        frame = pandas.DataFrame({"group": [n % 7 for n in range(100_000)], "value": [1.5] * 100_000})
        arrow = pa.Table.from_pandas(frame).group_by("group", use_threads=True).aggregate([("value", "sum")])
        total = float(frame.groupby("group")["value"].sum().sum())
        return {
            "total": total,
            "arrow": sum(arrow["value_sum"].to_pylist()),
            "held": server_holds("pandas") and server_holds("pyarrow"),
        }

    if "jemalloc" not in pa.supported_memory_backends():
        pytest.skip("this pyarrow was built without jemalloc")
    rows = rows_of(train, tmp_path, 24)
    assert [(row["held"], row["total"], row["arrow"]) for row in rows] == [(True, 150_000.0, 150_000.0)] * 24


def test_polars_is_left_to_each_trial_and_all_else_is_held(tmp_path: Path) -> None:
    import pandas
    import polars as pl
    import sklearn.svm

    def train(config: dict[str, Any]) -> dict[str, Any]:
        held = [name for name in ("pandas", "polars", "_polars_runtime", "sklearn") if server_holds(name)]
        return {"sum": pl.Series([1, 2]).sum(), "held": held, "named": [pandas.__name__, sklearn.svm.__name__]}

    assert [(row["held"], row["sum"]) for row in rows_of(train, tmp_path, 2)] == [(["pandas", "sklearn"], 3)] * 2
