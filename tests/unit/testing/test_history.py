"""The history checker passes what is sound and names each thing that is not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast._core.events import DecisionMade, Record, ResultReported
from holdfast._journal import read
from holdfast.config import CheckpointConfig, RunConfig, TuneConfig
from holdfast.space import uniform
from holdfast.testing import history as checker
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.history import check_history
from holdfast.testing.simulation import Simulation
from holdfast.values import decode


def train(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    for i in range(state["i"] + 1 if state else 0, 4):
        yield {"score": config["x"], "i": i}, {"i": i}


def simulation() -> Simulation:
    run = RunConfig(name="simulated", verbose=0, checkpoint_config=CheckpointConfig(num_to_keep=1))
    return Simulation(train, {"x": uniform(0, 1)}, TuneConfig(num_samples=2, metric="score", mode="min", seed=1), run)


@pytest.fixture
def disk() -> SimulatedStorage:
    """An experiment that has ended."""
    disk = simulation().begin()
    simulation().run(disk)
    return disk


def rows_of(disk: SimulatedStorage) -> list[tuple[str, dict[str, Any]]]:
    events = [record.event for record in read(disk)]
    return [(event.trial_id, decode(event.metrics)) for event in events if isinstance(event, ResultReported)]


def check_records(disk: SimulatedStorage, monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> list[str]:
    """What is found where the journal reads as these records."""
    monkeypatch.setattr(checker, "read", lambda storage: iter(records))
    return check_history(disk)


def test_a_sound_experiment_has_no_problems(disk: SimulatedStorage) -> None:
    rows = rows_of(disk)
    assert len(rows) == 8
    assert check_history(disk, rows) == []


def test_a_row_that_is_not_on_record_is_named(disk: SimulatedStorage) -> None:
    trial_id, row = rows_of(disk)[0]
    assert check_history(disk, [(trial_id, {**row, "i": 99})]) == [
        f"{trial_id}: an acknowledged row is not on record: { {**row, 'i': 99} }"
    ]
    assert len(check_history(disk, [("another", row)])) == 1


def test_a_checkpoint_that_is_missing_or_that_nobody_named_is_named(disk: SimulatedStorage) -> None:
    path = next(path for path in disk.files() if "checkpoint_" in path)
    trial = path.partition("/")[0]
    disk.delete(f"{trial}/checkpoint_000003")
    disk.put(f"{trial}/checkpoint_000009/state.pkl", b"")
    disk.put(f"{trial}/.staging-1-abc-4/state.pkl", b"")
    assert check_history(disk) == [
        f"{trial}/checkpoint_000003: the state names it and it is not there",
        f"{trial}/checkpoint_000009: no record names it",
        f"{trial}/.staging-1-abc-4: left half-written",
    ]


def test_a_gap_in_the_records_is_named(disk: SimulatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    records = list(read(disk))
    found = check_records(disk, monkeypatch, records[:5] + records[6:])
    assert any("comes after 4" in line for line in found)


@pytest.mark.parametrize("kind", [ResultReported, DecisionMade])
def test_a_record_that_comes_twice_is_named(disk: SimulatedStorage, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    records = list(read(disk))
    at = next(i for i, record in enumerate(records) if isinstance(record.event, kind))
    again = [Record(it.position + 1, it.epoch, it.time, it.wall, it.event) for it in records[at:]]
    assert check_records(disk, monkeypatch, [*records[: at + 1], *again]) != []


def test_an_experiment_that_did_not_end_is_not_at_rest(disk: SimulatedStorage) -> None:
    half = crash(disk, len(disk.log) // 2, random.Random(0), "kill")
    assert check_history(half, at_rest=False) == []
    assert "the newest driver did not end in good order" in check_history(half)


def test_what_a_restore_deletes_stays_deleted_when_the_power_fails_next(disk: SimulatedStorage) -> None:
    """Nothing may be deleted on the strength of a record that the next power cut can take."""
    lots, cuts = random.Random(7), 0
    born = next(at for at, operation in enumerate(disk.log) if operation.path == "journal/birth") + 1
    for at in range(born, len(disk.log)):
        again = crash(disk, at, lots, "kill")
        begin = len(again.log)
        simulation().run(again)
        for then in range(begin, len(again.log)):
            if again.log[then].kind == "delete":
                cuts += 1
                cut = crash(again, then + 1, lots, "power")
                assert check_history(cut, at_rest=False) == [], (at, then)
    assert cuts > 50
