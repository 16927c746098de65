"""Libraries with thread pools of their own work in trials.

They are used by the driver before `fit()`, loaded by the preloading server before the fork, and used by workers after it.
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
