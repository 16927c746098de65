"""What each trial is given: from the trainable to the record, and never more than there is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import holdfast as tune
from holdfast._assembly.explaining import explain
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptLost, EpochEnded, TrialSuggested
from holdfast._core.policy import Placement
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import ConfigError
from holdfast.storage.local import LocalStorage


class Machine(SimulatedEngine):
    """A machine that has what it is said to have, and notes the most that it gave at once."""

    def __init__(self, **has: float) -> None:
        super().__init__(workers=100)
        self.has = has
        self.given: dict[tuple[str, int], StartAttempt] = {}
        self.most: dict[str, float] = {}
        self.orders: list[StartAttempt] = []

    def resources(self):
        return self.has

    def start(self, order):
        self.given[order.trial_id, order.attempt] = order
        self.orders.append(order)
        for kind in self.has:
            now = sum(other.resources.get(kind, 0.0) for other in self.given.values())
            self.most[kind] = max(self.most.get(kind, 0.0), now)
        super().start(order)

    def poll(self, timeout):
        seen = super().poll(timeout)
        for event in seen:
            if isinstance(event, (AttemptEnded, AttemptLost)):
                self.given.pop((event.trial_id, event.attempt), None)
        return seen


def play(config):
    for i in range(3):
        yield {"score": config.get("x", 1) * (i + 1)}


def tuner(path: Path, trainable, machine, space=None, **tune_config) -> tune.Tuner:
    run_config = tune.RunConfig(name="exp", storage_path=path, verbose=0, engine=machine)
    return tune.Tuner(trainable, param_space=space, tune_config=tune.TuneConfig(**tune_config), run_config=run_config)


def restore(path: Path, trainable, machine, **options) -> tune.Tuner:
    return tune.Tuner.restore(path / "exp", trainable, engine=machine, **options)


def state_of(path: Path):
    return load_state(LocalStorage(str(path / "exp")))


def test_a_constant_request_is_part_of_the_birth_record(tmp_path: Path) -> None:
    machine = Machine(cpu=8.0, hdd=2.0)
    tuner(tmp_path, tune.with_resources(play, {"cpu": 2, "hdd": 1}), machine, num_samples=6).fit()
    assert machine.most == {"cpu": 4.0, "hdd": 2.0}
    state = state_of(tmp_path)
    assert state.policy.request == {"cpu": 2.0, "hdd": 1.0}
    assert all(trial.resources is None for trial in state.trials.values())


def test_a_factory_travels_to_the_attempt(tmp_path: Path) -> None:
    machine = Machine(cpu=8.0)
    tuner(tmp_path, tune.with_resources(play, tune.PlacementGroupFactory([{}, {"CPU": 1}, {"CPU": 2}])), machine).fit()
    (order,) = machine.orders
    assert order.resources == {"cpu": 3.0}
    assert order.placement == Placement([{}, {"cpu": 1.0}, {"cpu": 2.0}])


def test_a_function_gives_each_trial_its_own(tmp_path: Path) -> None:
    machine = Machine(cpu=4.0)
    wanted = tune.with_resources(play, lambda spec: {"cpu": spec.config.x})
    tuner(tmp_path, wanted, machine, {"x": tune.grid_search([1, 2, 3, 4])}).fit()
    trials = state_of(tmp_path).trials.values()
    assert [trial.resources for trial in trials] == [{"cpu": 1.0}, {"cpu": 2.0}, {"cpu": 3.0}, {"cpu": 4.0}]
    assert machine.most == {"cpu": 4.0}
    assert explain(LocalStorage(str(tmp_path / "exp"))) == []


def test_a_class_says_itself_what_it_needs(tmp_path: Path) -> None:
    class Model(tune.Trainable):
        @classmethod
        def default_resource_request(cls, config):
            return tune.PlacementGroupFactory([{"CPU": config["x"]}, {"GPU": 1}]) if config["x"] else None

    from holdfast._assembly.requests import ask_per_trial, asked_by, grants

    ask = ask_per_trial(asked_by(Model), 0, grants(Machine(cpu=4.0, gpu=1.0)))
    assert ask(0, "t", {"x": 2}) == ({"cpu": 2.0, "gpu": 1.0}, Placement([{"cpu": 2.0}, {"gpu": 1.0}]))
    assert ask(0, "t", {"x": 0}) == ({"cpu": 1.0}, None)
    assert asked_by(tune.Trainable).amounts == {"cpu": 1.0}
    assert asked_by(tune.with_resources(Model, {"cpu": 3})).amounts == {"cpu": 3.0}


def test_chance_in_a_function_is_given(tmp_path: Path) -> None:
    asked = []
    for _ in range(2):
        machine = Machine(cpu=100.0)
        path = tmp_path / str(len(asked))
        wanted = tune.with_resources(play, lambda config: {"cpu": random.randint(1, 50)})
        tuner(path, wanted, machine, num_samples=5, seed=3).fit()
        asked.append([trial.resources["cpu"] for trial in state_of(path).trials.values()])
    assert asked[0] == asked[1]
    assert len(set(asked[0])) > 1


class TestWhatCanNeverRun:
    def test_a_constant_request_starts_nothing(self, tmp_path: Path) -> None:
        wanted = tune.with_resources(play, {"cpu": 2, "gpu": 1})
        job = tuner(tmp_path, wanted, Machine(cpu=8.0))
        with pytest.raises(ConfigError, match=r"One trial asks for .*'gpu': 1.0.*the machine has .*HOLDFAST_GPUS"):
            job.fit()
        assert not (tmp_path / "exp" / "journal" / "epochs").exists()
        assert len(restore(tmp_path, wanted, Machine(cpu=8.0, gpu=1.0)).fit()) == 1

    def test_strict_spread_is_refused_by_an_engine_of_one_machine(self, tmp_path: Path) -> None:
        spread = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
        with pytest.raises(ConfigError, match=r"STRICT_SPREAD.*'PACK' or 'SPREAD'"):
            tuner(tmp_path / "r", tune.with_resources(play, spread), Machine(cpu=8.0)).fit()
        assert not (tmp_path / "r" / "exp" / "journal" / "epochs").exists()
        alone = tune.PlacementGroupFactory([{}, {"CPU": 1}], strategy="STRICT_SPREAD")
        assert len(tuner(tmp_path, tune.with_resources(play, alone), Machine(cpu=8.0)).fit()) == 1

    def test_a_trials_own_request_ends_fit_and_goes_on_with_on_a_larger_machine(self, tmp_path: Path) -> None:
        wanted = tune.with_resources(play, lambda config: {"cpu": config["x"]})
        space = {"x": tune.grid_search([1, 2, 8, 1])}
        with pytest.raises(ConfigError, match=r"Trial \w{5}_00002 asks for {'cpu': 8.0}, the machine has {'cpu': 4.0}"):
            tuner(tmp_path, wanted, Machine(cpu=4.0), space, seed=1).fit()
        suggested = [r.event for r in read(LocalStorage(str(tmp_path / "exp"))) if isinstance(r.event, TrialSuggested)]
        assert [event.resources for event in suggested] == [{"cpu": 1.0}, {"cpu": 2.0}]
        grid = restore(tmp_path, wanted, Machine(cpu=8.0)).fit()
        assert [result.config["x"] for result in grid] == [1, 2, 8, 1]
        assert grid.num_terminated == 4

    def test_a_machine_that_is_smaller_than_a_trial_on_record(self, tmp_path: Path) -> None:
        class Ends(tune.Callback):
            def on_trial_result(self, iteration, trials, trial, result, **info):
                if trial.config["x"] == 4:
                    raise ZeroDivisionError

        wanted = tune.with_resources(play, lambda config: {"cpu": config["x"]})
        run_config = tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0, engine=Machine(cpu=8.0), callbacks=[Ends()])
        job = tune.Tuner(wanted, param_space={"x": tune.grid_search([1, 4])}, run_config=run_config)
        with pytest.raises(ZeroDivisionError):
            job.fit()
        before = [record.event for record in read(LocalStorage(str(tmp_path / "exp")))]
        with pytest.raises(ConfigError, match=r"_00001 asks for {'cpu': 4.0}, the machine has {'cpu': 2.0}"):
            restore(tmp_path, wanted, Machine(cpu=2.0)).fit()
        after = [record.event for record in read(LocalStorage(str(tmp_path / "exp")))]
        assert [event for event in after[len(before) :] if not isinstance(event, EpochEnded)] == []
        given_up = restore(tmp_path, wanted, Machine(cpu=2.0), resume_unfinished=False).fit()
        assert given_up.num_terminated == 2


def test_restored_trials_ask_as_they_were_submitted(tmp_path: Path) -> None:
    wanted = tune.with_resources(play, {"cpu": 3})
    tuner(tmp_path, wanted, Machine(cpu=2.0), num_samples=2)
    machine = Machine(cpu=4.0)
    with pytest.warns(UserWarning, match=r"given {'cpu': 3.0}, as it was submitted"):
        restore(tmp_path, tune.with_resources(play, {"cpu": 1}), machine)
    restore(tmp_path, play, machine).fit()
    assert [order.resources for order in machine.orders] == [{"cpu": 3.0}] * 2


@pytest.mark.parametrize("seed", range(8))
def test_what_is_given_at_once_is_never_more_than_there_is(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    print("seed", seed)
    has = {"cpu": 4.0, "gpu": 1.0, "hdd": 3.0}
    machine = Machine(**has)

    def ask(config):
        amounts = {"cpu": config["cpu"], "gpu": config["gpu"], "hdd": config["hdd"]}
        return amounts if any(amounts.values()) else {"cpu": 1}

    space = {
        "cpu": tune.choice([0, 0.5, 1, 4]),
        "gpu": tune.choice([0, 0.1, 0.25, 1]),
        "hdd": tune.choice([0, 1, 3]),
    }
    most = chance.choice([None, 2, 5])
    grid = tuner(
        tmp_path, tune.with_resources(play, ask), machine, space, num_samples=30, seed=seed, max_concurrent_trials=most
    ).fit()
    assert grid.num_terminated == 30
    assert all(machine.most[kind] <= has[kind] + 1e-9 for kind in has), machine.most
