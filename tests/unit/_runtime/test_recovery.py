"""Taking an experiment over in each of the three ways, whatever the last driver left open."""

from __future__ import annotations

import random
from typing import ClassVar

import pytest

from holdfast._assembly.explaining import explain
from holdfast._core.events import CheckpointCommitted, CheckpointLost, ResultReported
from holdfast._core.policy import Resume
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast._runtime.recovery import saves_in, sweep
from holdfast.callback import Callback
from holdfast.config import CheckpointConfig, RunConfig, TuneConfig
from holdfast.space import uniform
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.simulation import Simulation, digest


def train(config, state=None):
    for i in range(state["i"] + 1 if state else 0, 3):
        yield {"score": config["x"] * i}, {"i": i}


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    keep = CheckpointConfig(num_to_keep=1)
    run = RunConfig(name="simulated", verbose=0, checkpoint_config=keep)
    return Simulation(train, {"x": uniform(0, 1)}, TuneConfig(num_samples=2, seed=1), run, workers=2)


@pytest.fixture(scope="module")
def killed(simulation: Simulation) -> list[SimulatedStorage]:
    """The disk as left by a driver that was killed at each of its operations in turn."""
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    return [crash(disk, at, random.Random(at), "kill") for at in range(born, len(disk.log))]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["skip", "restart", "resume"])
def test_it_ends_well_from_wherever_the_last_driver_was_killed(
    simulation: Simulation, killed: list[SimulatedStorage], how: str
) -> None:
    for at, left in enumerate(killed):
        disk = crash(left, 0, random.Random(0), "kill")
        assert simulation.run(disk, resume=Resume(unfinished=how)).reason == "finished", at
        state = load_state(disk)
        assert [trial.state for trial in state.trials.values()] == ["TERMINATED"] * 2, at
        simulation.run(disk)  # and once more, with nothing to do
        assert digest(disk)
        assert explain(disk) == [], at


def test_what_is_skipped_does_not_run_again(simulation: Simulation, killed: list[SimulatedStorage]) -> None:
    disk = next(disk for disk in killed if len(load_state(disk).trials) == 2)
    disk = crash(disk, 0, random.Random(0), "kill")
    simulation.run(disk, resume=Resume(unfinished="skip"))
    assert simulation.replies == []
    assert [trial.last for trial in load_state(disk).trials.values()] == [None, None]


def test_a_sweep_takes_what_no_record_names_and_nothing_else() -> None:
    disk = SimulatedStorage()
    for name in ("checkpoint_000001", "checkpoint_000002", "checkpoint_000003", ".staging-2-x", "model.pt"):
        disk.put(f"trial/{name}/f", b"x")
    saves = saves_in(disk, "trial")
    disk.put("trial/checkpoint_000004/f", b"a later driver's")
    removed = sweep(disk, saves, {"checkpoint_000002"})
    assert removed == ["trial/.staging-2-x", "trial/checkpoint_000001", "trial/checkpoint_000003"]
    assert disk.names("trial") == ["checkpoint_000002", "checkpoint_000004", "model.pt"]


class Seen(Callback):
    """Remembers each row and each end that it has heard of, and says at the end what that was."""

    ends: ClassVar[list] = []

    def __init__(self) -> None:
        self.rows: set[tuple[str, int]] = set()
        self.over: set[str] = set()

    def on_trial_result(self, iteration, trials, trial, result, **info):
        assert info.get("repeated") or (trial.trial_id, result["training_iteration"]) not in self.rows
        self.rows.add((trial.trial_id, result["training_iteration"]))

    def on_trial_complete(self, iteration, trials, trial, **info):
        assert info.get("repeated") or trial.trial_id not in self.over
        self.over.add(trial.trial_id)

    def on_experiment_end(self, trials, **info):
        Seen.ends.append((len(self.rows), len(self.over)))

    def get_state(self):
        return {"rows": self.rows, "over": self.over}

    def set_state(self, state):
        self.rows, self.over = state["rows"], state["over"]


@pytest.mark.slow
@pytest.mark.parametrize("snapshot_due", [lambda *_: False, lambda *_: True], ids=["never", "always"])
def test_a_callback_with_a_memory_misses_nothing_and_hears_nothing_twice_unmarked(snapshot_due) -> None:
    run = RunConfig(name="simulated", verbose=0, callbacks=[Seen()])
    simulation = Simulation(train, {"x": uniform(0, 1)}, TuneConfig(num_samples=3, seed=1), run, workers=2)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk, snapshot_due=snapshot_due)
    Seen.ends.clear()
    for at in range(born, len(disk.log)):
        again = crash(disk, at, random.Random(at), "kill")
        if not load_state(again).ended:
            simulation.run(again, snapshot_due=snapshot_due)
            assert Seen.ends.pop() == (9, 3), at


def run_with(*callbacks: Callback) -> SimulatedStorage:
    run = RunConfig(name="simulated", verbose=0, callbacks=list(callbacks))
    simulation = Simulation(train, {"x": uniform(0, 1)}, TuneConfig(num_samples=2, seed=1), run, workers=1)
    Listening.disk = disk = simulation.begin()
    simulation.run(disk)
    return disk


class Listening(Callback):
    """Looks what is on record when it hears of a row."""

    disk: ClassVar[SimulatedStorage]
    rows: ClassVar[int] = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        Listening.rows += 1
        last = [record.event for record in read(Listening.disk)][-1]
        assert isinstance(last, ResultReported)
        assert (last.trial_id, last.number) == (trial.trial_id, result["training_iteration"])


def test_a_callback_hears_only_what_is_on_record() -> None:
    run_with(Listening())
    assert Listening.rows == 6


def test_a_row_and_its_decision_are_one_write_where_no_user_code_is_asked() -> None:
    with_user_code, alone = ([it for it in run_with(*them).log if it.kind == "write"] for them in ([Callback()], []))
    assert len(with_user_code) - len(alone) >= 6


@pytest.mark.slow
def test_a_kill_loses_no_checkpoint_that_was_staged() -> None:
    run = RunConfig(name="simulated", verbose=0)
    simulation = Simulation(train, {"x": uniform(0, 1)}, TuneConfig(num_samples=2, seed=1), run, workers=1, upload_s=1.7)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    completed = 0
    for at in range(born, len(disk.log)):
        again = crash(disk, at, random.Random(at), "kill")
        simulation.run(again)
        events = [record.event for record in read(again)]
        assert not any(isinstance(event, CheckpointLost) for event in events), at
        completed += any(isinstance(event, CheckpointCommitted) and event.order for event in events)
    assert completed
