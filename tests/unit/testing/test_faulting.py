from __future__ import annotations

import functools
from typing import Any

import pytest

from holdfast import faults, session
from holdfast.errors import ConfigError
from holdfast.session import TuneContext, report
from holdfast.testing.faulting import fail_at, kill_driver_after, kill_driver_at
from holdfast.trainable import Trainable


class Counting(Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.n = 0

    def step(self) -> dict[str, Any]:
        self.n += 1
        return {"n": self.n}


class Rows:
    """A session that keeps what is reported."""

    def __init__(self, attempt: int = 1, iteration: int = 0, trial: str = "abcde_00003") -> None:
        self.context = TuneContext(
            experiment_name="exp", trial_name="train", trial_id=trial, trial_dir="/t", trial_resources={}, storage="/"
        )
        self.attempt = attempt
        self.iteration = iteration

    def report(self, metrics: dict[str, Any], checkpoint: object = None) -> None:
        self.iteration += 1

    def checkpoint(self) -> None:
        return None


def train(config: dict[str, Any]) -> None:
    for _ in range(5):
        report({"a": 1})


def rows_until_struck(trainable: Any, own: Rows) -> int | None:
    """The iteration at which the fault came; None where it did not."""
    session.enter(own)
    try:
        trainable({})
    except RuntimeError:
        return own.iteration
    finally:
        session.leave()
    return None


@pytest.mark.parametrize(
    ("options", "own", "struck"),
    [
        ({}, Rows(), 2),
        ({"after": True}, Rows(), 3),
        ({}, Rows(attempt=2), None),
        ({"attempt": 2}, Rows(attempt=2), 2),
        ({"attempt": None}, Rows(attempt=7), 2),
        ({}, Rows(iteration=2), 2),
        ({}, Rows(iteration=3), None),
        ({"after": True}, Rows(iteration=3), None),
        ({"trials": [1, 2]}, Rows(), None),
        ({"trials": range(4)}, Rows(), 2),
    ],
)
def test_when_it_strikes(options: dict[str, Any], own: Rows, struck: int | None) -> None:
    assert rows_until_struck(fail_at(train, 3, **options), own) == struck


def test_faults_nest_and_a_partial_is_a_function_too() -> None:
    both = fail_at(fail_at(functools.partial(train), 2, attempt=1), 4, attempt=2)
    assert rows_until_struck(both, Rows()) == 1
    assert rows_until_struck(both, Rows(attempt=2)) == 3


def test_a_class_is_spared_outside_a_trial_and_a_restored_row_does_not_count_as_its_own() -> None:
    faulty = fail_at(Counting, 2, after=True)
    assert issubclass(faulty, Counting)
    trainable = faulty({})
    assert [trainable.train()["n"] for _ in range(4)] == [1, 2, 3, 4]


def test_a_driver_cannot_be_killed_at_what_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="after_append"):
        kill_driver_at("nowhere")
    with pytest.raises(ConfigError, match="1 or more"):
        kill_driver_after(0)
    assert not any(faults.armed(point) for point in faults.POINTS)
