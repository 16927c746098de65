"""Resources for trials that run: shares, bounds, and what is handed on to the scheduler inside."""

from __future__ import annotations

import pickle
import random

import pytest

from holdfast.errors import ConfigError, WrongType
from holdfast.resources import PlacementGroupFactory
from holdfast.schedulers import ASHAScheduler, PopulationBasedTraining, ResourceChangingScheduler
from holdfast.schedulers.resource_changing_scheduler import DistributeResources, DistributeResourcesToTopJob
from unit.schedulers.stage import Stage, StageTrial, StageView


class _View(StageView):
    """A view of an engine with more than CPUs."""

    def __init__(self, stage, total):
        super().__init__(stage)
        self.total = total

    def total_resources(self):
        return dict(self.total)


class Machine(Stage):
    """A stage whose places are amounts of resources."""

    def __init__(self, scheduler, total, each, **properties):
        self.each = PlacementGroupFactory(each if isinstance(each, list) else [each])
        super().__init__(scheduler, places=1000, **properties)
        self.view = _View(self, total)
        self.total = {{"cpu": "CPU", "gpu": "GPU"}.get(kind, kind): amount for kind, amount in total.items()}

    def add(self, config=None):
        trial = StageTrial(self, len(self.trials), dict(config or {}))
        trial._placement = self.each
        self.trials.append(trial)
        self._call("on_trial_add", trial)
        self.fill()
        return trial

    def startable(self, trial):
        return super().startable(trial) and self.fits([*(one for one in self.trials if one.worker), trial])

    def fits(self, trials):
        taken = {}
        for one in trials:
            for kind, amount in one.placement_group_factory.required_resources.items():
                taken[kind] = taken.get(kind, 0) + amount
        return all(amount <= self.total.get(kind, 0) + 1e-6 for kind, amount in taken.items())


def machine(allocate, count, total, each, base=None, **properties):
    stage = Machine(ResourceChangingScheduler(base, allocate), total, each, **properties)
    for _ in range(count):
        stage.add()
    stage.no_more()
    return stage


def given(stage):
    return [trial.placement_group_factory.required_resources for trial in stage.trials if not trial.is_finished()]


def turn(stage, times=1, **row):
    for _ in range(times):
        for trial in list(stage.trials):
            if trial.worker:
                stage.report(trial, **{"m": 0.0, **row})


def test_what_is_free_is_shared_evenly_and_again_when_a_trial_ends():
    stage = machine(DistributeResources(), 3, {"cpu": 8.0}, {"CPU": 1})
    turn(stage, 3)
    assert given(stage) == [{"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 2.0}]
    stage.complete(stage.trials[0])
    turn(stage, 2)
    assert given(stage) == [{"CPU": 4.0}, {"CPU": 4.0}]
    stage.complete(stage.trials[1])
    turn(stage, 2)
    assert given(stage) == [{"CPU": 8.0}]
    before = len(stage.orders)
    turn(stage, 3)
    assert len(stage.orders) == before  # nothing new: it is left alone


def test_a_trial_keeps_what_it_began_with_and_shrinks_for_others():
    stage = machine(DistributeResources(), 1, {"cpu": 4.0}, {"CPU": 2})
    turn(stage)
    assert given(stage) == [{"CPU": 4.0}]
    stage.add()
    turn(stage, 2)
    assert given(stage) == [{"CPU": 2.0}, {"CPU": 2.0}]
    stage.add()
    turn(stage, 2)
    assert given(stage) == [{"CPU": 2.0}] * 3  # the third waits


def test_kinds_that_a_trial_did_not_ask_for_stay_free_and_gpus_grow_by_themselves():
    stage = machine(DistributeResources(), 2, {"cpu": 8.0, "gpu": 2.0}, {"CPU": 1})
    turn(stage, 2)
    assert given(stage) == [{"CPU": 4.0}] * 2
    stage = machine(DistributeResources(), 2, {"cpu": 8.0, "gpu": 3.0}, {"CPU": 1, "GPU": 0.5})
    turn(stage, 3)
    assert given(stage) == [{"CPU": 4.0, "GPU": 1.5}, {"CPU": 4.0, "GPU": 1.5}]


def test_steps_bounds_and_reserves():
    allocate = DistributeResources(increase_by={"CPU": 2, "GPU": 0.25}, increase_by_times=2, reserve_resources={"cpu": 1})
    stage = machine(allocate, 2, {"cpu": 12.0, "gpu": 1.0}, {"CPU": 1})
    turn(stage, 3)
    assert given(stage) == [{"CPU": 5.0, "GPU": 0.5}] * 2
    stage.complete(stage.trials[0])
    turn(stage, 2)
    assert given(stage) == [{"CPU": 5.0, "GPU": 0.5}]  # at most twice


def test_new_bundles():
    stage = machine(DistributeResources(add_bundles=True), 1, {"cpu": 6.0, "gpu": 4.0}, [{"CPU": 1}, {"CPU": 1, "GPU": 1}])
    turn(stage)
    placed = stage.trials[0].placement_group_factory
    assert placed.bundles == [{"CPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}] + [{"CPU": 1.0, "GPU": 1.0}] * 3
    stage = machine(DistributeResources(), 1, {"cpu": 7.0}, [{}, {"CPU": 1}, {"CPU": 1}])
    turn(stage)
    placed = stage.trials[0].placement_group_factory
    assert placed.head_bundle_is_empty
    assert placed.bundles == [{"CPU": 4.0}, {"CPU": 3.0}]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_gets_all_that_is_free(mode):
    stage = machine(DistributeResourcesToTopJob(), 3, {"cpu": 8.0}, {"CPU": 1}, metric="m", mode=mode)
    sign = 1 if mode == "max" else -1
    for _ in range(2):
        for trial in stage.trials:
            stage.report(trial, m=sign * trial.index)
    assert given(stage) == [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 6.0}]
    stage.report(stage.trials[2], m=float("nan"))
    assert given(stage) == [{"CPU": 1.0}] * 3  # shrunk first
    stage.report(stage.trials[1], m=sign * 1)
    assert given(stage) == [{"CPU": 1.0}, {"CPU": 6.0}, {"CPU": 1.0}]


def test_the_best_needs_a_metric():
    stage = machine(DistributeResourcesToTopJob(), 1, {"cpu": 8.0}, {"CPU": 1})
    with pytest.raises(ConfigError, match="DistributeResourcesToTopJob has metric"):
        turn(stage)
    stage = machine(DistributeResourcesToTopJob(metric="a/b", mode="min"), 1, {"cpu": 8.0}, {"CPU": 1})
    turn(stage, a={"b": 3})
    assert given(stage) == [{"CPU": 8.0}]
    base = ASHAScheduler(metric="m", mode="max")
    stage = machine(DistributeResourcesToTopJob(), 1, {"cpu": 8.0}, {"CPU": 1}, base=base)
    turn(stage)
    assert given(stage) == [{"CPU": 8.0}]


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_there_is(seed):
    print("seed", seed)
    lots = random.Random(seed)
    kinds = {"add_bundles": lots.random() < 0.5, "increase_by": lots.choice([None, {"CPU": 1.5}, {"CPU": 1, "GPU": 0.5}])}
    allocate = lots.choice([DistributeResources, DistributeResourcesToTopJob])(**kinds)
    each = lots.choice([{"CPU": 1}, {"CPU": 0.5, "GPU": 0.25}, {"CPU": 2, "GPU": 1}])
    stage = Machine(ResourceChangingScheduler(None, allocate), {"cpu": 9.0, "gpu": 4.0}, each, metric="m", mode="max")

    def train(trial):
        assert stage.fits([one for one in stage.trials if one.worker])
        return None if len(trial.rows) > 10 else {"m": lots.random()}

    stage.play(train, lots, new=7, fault=0.02)


def test_the_scheduler_inside_decides_and_has_its_say_first():
    base = PopulationBasedTraining("training_iteration", "m", "max", 2, hyperparam_mutations={"lr": [1, 2]}, log_config=False)
    scheduler = ResourceChangingScheduler(base, None)
    assert scheduler.required == ("training_iteration", "m")
    assert not scheduler.log_config
    assert scheduler.own_chance
    assert (scheduler.metric, scheduler.mode) == ("m", "max")
    stage = Stage(scheduler, places=2)
    trials = [stage.add({"lr": 1}), stage.add({"lr": 2})]
    stage.no_more()
    for trial in trials:
        stage.report(trial, m=0.0)
        stage.report(trial, m=-float(trial.index))
    assert [order.donor for order in stage.orders if order.verb == "change"] == [trials[0].trial_id]
    assert "PopulationBasedTraining" in scheduler.debug_string()
    asha = ResourceChangingScheduler(ASHAScheduler(metric="m", mode="max", max_t=2))
    stage = Stage(asha, places=8)
    trial = stage.add()
    assert stage.report(trial, m=0.0) == "PAUSE"
    assert trial.placement_group_factory.required_resources == {"CPU": 8.0}
    assert stage.report(trial, m=0.0) == "STOP"


def test_a_function_of_the_users_own():
    seen = []

    def allocate(tune_controller, trial, result, scheduler):
        seen.append((trial.trial_id, result["training_iteration"], scheduler.base_trial_resources.required_resources))
        if result["training_iteration"] < 2:
            return None
        return PlacementGroupFactory(
            [{"CPU": tune_controller.total_resources()["cpu"] // len(tune_controller.get_live_trials())}]
        )

    scheduler = ResourceChangingScheduler(resources_allocation_function=allocate)
    assert not scheduler.own_chance
    stage = Stage(scheduler, places=4)
    trial = stage.add()
    assert stage.report(trial) == "CONTINUE"
    assert stage.report(trial) == "PAUSE"
    assert stage.report(trial) == "CONTINUE"
    assert seen == [(trial.trial_id, n, {"CPU": 1.0}) for n in (1, 2, 3)]
    stage = Stage(ResourceChangingScheduler(resources_allocation_function=lambda *_: {"CPU": 2}), places=4)
    trial = stage.add()
    with pytest.raises(ConfigError, match="PlacementGroupFactory or None"):
        stage.report(trial)


def test_a_trial_that_saves_nothing_is_warned_of_once():
    stage = machine(DistributeResources(), 1, {"cpu": 4.0}, {"CPU": 1})
    stage.report(stage.trials[0], saved=False)
    stage.add()
    with pytest.warns(UserWarning, match="begins again each time"):
        stage.report(stage.trials[0], saved=False)


def test_it_remembers_what_trials_began_with():
    stage = machine(DistributeResources(), 2, {"cpu": 8.0}, {"CPU": 1})
    turn(stage, 2)
    stage.scheduler = pickle.loads(pickle.dumps(stage.scheduler))
    assert stage.scheduler.base_of(stage.trials[0]).required_resources == {"CPU": 1.0}
    stage.add()
    turn(stage, 3)
    assert given(stage) == [{"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 2.0}]


def test_bad_arguments():
    with pytest.raises(WrongType, match="base_scheduler"):
        ResourceChangingScheduler("asha")
    with pytest.raises(WrongType, match="resources_allocation_function"):
        ResourceChangingScheduler(None, 3)
    for bad in ({"CPU": -1}, {"CPU": "many"}, {"CPU": True}, {"CPU": float("nan")}):
        with pytest.raises(ConfigError, match="no amount"):
            DistributeResources(increase_by=bad)
        with pytest.raises(ConfigError, match="no amount"):
            DistributeResources(reserve_resources=bad)
    with pytest.raises(ConfigError, match="mode"):
        DistributeResourcesToTopJob(mode="up")
