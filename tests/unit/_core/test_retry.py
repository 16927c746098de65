from __future__ import annotations

import pytest

from holdfast._core.events import Failure, Saved
from holdfast._core.policy import Policy
from holdfast._core.retry import allowed, counts
from holdfast._core.trial import Kept, TrialState


def trial(failures: int, checkpoints: int = 0) -> TrialState:
    kept = [Kept(Saved(index, 1, 1, ""), 1, 1, 0.0) for index in range(checkpoints)]
    return TrialState("t", 0, "t", "t", "0", b"", b"", failures=failures, kept=kept)


@pytest.mark.parametrize(
    ("failures", "max_failures", "again"),
    [(1, 0, False), (1, 1, True), (2, 1, False), (3, 3, True), (4, 3, False), (99, -1, True)],
)
def test_three_failures_are_four_attempts(failures: int, max_failures: int, again: bool) -> None:
    assert allowed(trial(failures), Failure("code", "x"), Policy(max_failures=max_failures)) is again


@pytest.mark.parametrize("kind", ["code", "worker", "storage"])
def test_failures_of_each_kind_count(kind: str) -> None:
    assert counts(Failure(kind, "x"))


def test_a_broken_checkpoint_costs_nothing_while_there_is_another() -> None:
    broken = Failure("checkpoint", "x")
    assert not counts(broken)
    assert allowed(trial(0, checkpoints=1), broken, Policy())
    assert not allowed(trial(0, checkpoints=0), broken, Policy(max_failures=-1))
