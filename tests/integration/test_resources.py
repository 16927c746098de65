"""Resources on real processes: what a trial is told that it has, and how many run beside each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import holdfast as tune
from holdfast._core.events import AttemptEnded, AttemptStarted
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.engines.local import LocalEngine
from holdfast.errors import ConfigError
from holdfast.storage.local import LocalStorage
from integration.drivers import wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def train(config, data=None):
    """One row: what the trial has."""
    given = tune.get_context().get_trial_resources()
    return {
        "bundles": given.bundles,
        "sum": given.required_resources,
        "empty_head": given.head_bundle_is_empty,
        "strategy": given.strategy,
        "data": data,
    }


class Model(tune.Trainable):
    """Says itself what it needs."""

    @classmethod
    def default_resource_request(cls, config):
        return {"cpu": config["x"]}

    def step(self):
        return {"sum": self.trial_resources.required_resources, "done": True}


def fitted(path: Path, trainable, space=None, engine=None, **tune_config):
    run_config = tune.RunConfig(name="exp", storage_path=path, verbose=0, engine=engine or LocalEngine(cpus=4))
    job = tune.Tuner(trainable, param_space=space, tune_config=tune.TuneConfig(**tune_config), run_config=run_config)
    return job.fit()


def most_at_once(path: Path) -> int:
    """How many attempts were on workers at the same time."""
    running, most = 0, 0
    for record in read(LocalStorage(str(path / "exp"))):
        running += isinstance(record.event, AttemptStarted) - isinstance(record.event, AttemptEnded)
        most = max(most, running)
    return most


def test_a_trial_is_told_its_factory(tmp_path: Path) -> None:
    factory = tune.PlacementGroupFactory([{}, {"CPU": 1}, {"CPU": 1, "hdd": 2}], strategy="SPREAD")
    engine = LocalEngine(cpus=4, resources={"hdd": 2})
    (result,) = fitted(tmp_path, tune.with_resources(train, factory), engine=engine)
    row = result.metrics
    assert (row["bundles"], row["empty_head"], row["strategy"]) == ([{"CPU": 1.0}, {"CPU": 1.0, "hdd": 2.0}], True, "SPREAD")
    assert row["sum"] == {"CPU": 2.0, "hdd": 2.0}


def test_a_trial_without_a_word_has_one_cpu(tmp_path: Path) -> None:
    (result,) = fitted(tmp_path, train)
    assert result.metrics["bundles"] == [{"CPU": 1.0}]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda it: tune.with_parameters(tune.with_resources(it, {"cpu": 2}), data=[1, 2]),
        lambda it: tune.with_resources(tune.with_parameters(it, data=[1, 2]), {"cpu": 2}),
    ],
)
def test_parameters_and_resources_nest_either_way(tmp_path: Path, wrap) -> None:
    (result,) = fitted(tmp_path, wrap(train))
    assert (result.metrics["sum"], result.metrics["data"]) == ({"CPU": 2.0}, [1, 2])
    assert Path(result.path).name.startswith("train_")


def test_a_class_says_itself_what_it_needs_unless_it_is_said(tmp_path: Path) -> None:
    grid = fitted(tmp_path / "own", Model, {"x": tune.grid_search([1, 2])})
    assert [result.metrics["sum"] for result in grid] == [{"CPU": 1.0}, {"CPU": 2.0}]
    grid = fitted(tmp_path / "said", tune.with_resources(Model, {"cpu": 3}), {"x": tune.grid_search([1, 2])})
    assert [result.metrics["sum"] for result in grid] == [{"CPU": 3.0}] * 2


@pytest.mark.parametrize(
    ("has", "asks", "most"),
    [
        ({"HOLDFAST_CPUS": "4"}, {"cpu": 2}, 2),
        ({"HOLDFAST_CPUS": "4", "HOLDFAST_RESOURCES": '{"hdd": 1}'}, {"hdd": 1}, 1),
        ({"HOLDFAST_CPUS": "4", "HOLDFAST_GPUS": "1"}, {"cpu": 1, "gpu": 0.5}, 2),
    ],
)
def test_no_more_run_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has, asks, most: int) -> None:
    for name, value in has.items():
        monkeypatch.setenv(name, value)
    grid = fitted(tmp_path, tune.with_resources(train, asks), engine=LocalEngine(), num_samples=6)
    assert grid.num_terminated == 6
    assert 1 <= most_at_once(tmp_path) <= most


def test_memory_is_a_resource_of_the_machine(tmp_path: Path) -> None:
    (result,) = fitted(tmp_path, tune.with_resources(train, {"cpu": 1, "memory": 2**30}))
    assert result.metrics["sum"] == {"CPU": 1.0, "memory": 2.0**30}
    with pytest.raises(ConfigError, match=r"asks for .*memory.*could never run"):
        fitted(tmp_path / "more", tune.with_resources(train, {"cpu": 1, "memory": 2**60}))


SCRIPT = """
import os, sys, time
import holdfast as tune

def train(config):
    for i in range(20):
        tune.report({"i": i, "cpus": tune.get_context().get_trial_resources().required_resources["CPU"]})
        with open(os.environ["SIDE"], "a") as file:
            file.write(".")
        time.sleep(0.01)

asked = tune.with_resources(train, lambda spec: tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": spec.config.x}]))
path = sys.argv[1] + "/exp"
if tune.Tuner.can_restore(path):
    job = tune.Tuner.restore(path, asked)
else:
    job = tune.Tuner(asked, param_space={"x": tune.grid_search([1, 2, 1])},
                     run_config=tune.RunConfig(name="exp", storage_path=sys.argv[1], verbose=0))
print([result.metrics["cpus"] for result in job.fit()])
"""


def test_a_killed_job_comes_back_with_what_each_trial_was_given(tmp_path: Path) -> None:
    script, side = tmp_path / "script.py", tmp_path / "side"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = {**os.environ, "HOLDFAST_CPUS": "3", "SIDE": str(side)}
    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_until(lambda: side.exists() and len(side.read_bytes()) >= 25)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {it.trial_id: it.resources for it in load_state(LocalStorage(str(tmp_path / "exp"))).trials.values()}
    small = subprocess.run(command, env={**environment, "HOLDFAST_CPUS": "2"}, capture_output=True, text=True, check=False)
    assert "asks for {'cpu': 3.0}, the machine has" in small.stderr
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "[2.0, 3.0, 2.0]\n", done.stderr
    after = {it.trial_id: it.resources for it in load_state(LocalStorage(str(tmp_path / "exp"))).trials.values()}
    assert {trial_id: after[trial_id] for trial_id in before} == before
