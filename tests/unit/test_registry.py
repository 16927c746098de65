"""Trainables by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import holdfast as tune
from holdfast import registry
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import ConfigError, JobChanged
from holdfast.registry import names_of, register_env, register_trainable, trainable_named


def train(config):
    yield {"score": config.get("x", 1)}


def other(config):
    yield {"score": 2}


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_trainables", {})


def tuner(path: Path, trainable) -> tune.Tuner:
    run_config = tune.RunConfig(name="exp", storage_path=path, verbose=0, engine=SimulatedEngine(workers=1))
    return tune.Tuner(trainable, run_config=run_config)


def restored(path: Path, trainable) -> tune.Tuner:
    return tune.Tuner.restore(path / "exp", trainable, engine=SimulatedEngine(workers=1))


def test_a_name_stands_for_a_trainable() -> None:
    register_trainable("b", train)
    register_trainable("a", train)
    assert trainable_named("a") is train
    assert names_of(train) == ["a", "b"]
    assert names_of(other) == []


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'PPO'.*registered: none"):
        trainable_named("PPO")
    register_trainable("mine", train)
    with pytest.raises(ConfigError, match=r"'PPO'.*registered: 'mine'"):
        trainable_named("PPO")


def test_a_name_taken_over_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    register_trainable("mine", train)
    register_trainable("mine", train)
    assert not recwarn
    with pytest.warns(UserWarning, match="'mine'.*another trainable before"):
        register_trainable("mine", other)
    register_trainable("mine", train, warn=False)
    assert trainable_named("mine") is train


@pytest.mark.parametrize(("name", "trainable"), [("", train), (7, train), ("x", 7), ("x", int), ("x", "train")])
def test_what_cannot_be_registered(name, trainable) -> None:
    with pytest.raises(ConfigError, match="register_trainable"):
        register_trainable(name, trainable)


def test_a_class_is_registered_where_it_is_a_trainable() -> None:
    class Mine(tune.Trainable):
        pass

    register_trainable("mine", Mine)
    assert trainable_named("mine") is Mine


def test_environments_are_refused_with_a_way_on() -> None:
    with pytest.raises(ConfigError, match=r"RLlib.*with_parameters"):
        register_env("cart", lambda config: None)


class TestJobs:
    def test_a_job_by_name_is_called_by_it_and_restored_by_name_or_trainable(self, tmp_path: Path) -> None:
        register_trainable("mine", train)
        grid = tuner(tmp_path, "mine").fit()
        assert grid[0].metrics["score"] == 1
        assert Path(grid[0].path).name.startswith("mine_")
        for again in ("mine", train):
            assert restored(tmp_path, again).fit()[0].metrics["score"] == 1

    def test_a_job_by_trainable_is_restored_by_a_name_of_it(self, tmp_path: Path) -> None:
        tuner(tmp_path, train).fit()
        register_trainable("mine", train)
        assert len(restored(tmp_path, "mine").fit()) == 1

    def test_another_trainable_is_refused_by_whatever_name(self, tmp_path: Path) -> None:
        register_trainable("mine", train)
        register_trainable("yours", other)
        tuner(tmp_path, "mine").fit()
        for wrong in ("yours", other):
            with pytest.raises(JobChanged, match=r"submitted with the trainable 'mine'.*register_trainable"):
                restored(tmp_path, wrong)

    def test_a_name_makes_a_plain_directory(self, tmp_path: Path) -> None:
        register_trainable("../my trainable", train)
        grid = tuner(tmp_path, "../my trainable").fit()
        assert Path(grid[0].path).parent == tmp_path / "exp"
        assert len(restored(tmp_path, "../my trainable").fit()) == 1
