from __future__ import annotations

import pytest

from holdfast._core.events import Failure, Saved
from holdfast._core.policy import Policy
from holdfast._core.retry import allowed, charge, counts
from holdfast._core.trial import Kept, TrialState


def trial(failures: int, checkpoints: int = 0) -> TrialState:
    kept = tuple(Kept(Saved(index, 1, 1, ""), 1, 1, 0.0) for index in range(checkpoints))
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


@pytest.mark.parametrize(
    ("policy", "kinds", "again"),
    [
        ({"max_failures": 1}, ["oom", "timeout"], False),  # without budgets of their own all count together
        ({"max_failures": 0, "max_oom": 2}, ["oom", "oom"], True),
        ({"max_failures": 0, "max_oom": 2}, ["oom", "oom", "oom"], False),
        ({"max_failures": 0, "max_timeouts": -1}, ["timeout"] * 9, True),
        ({"max_failures": 0, "max_timeouts": 3}, ["code"], False),
        ({"max_failures": 0, "max_preemptions": 2}, ["node", "preempted", "node"], False),  # one budget for both
        ({"max_failures": 1, "max_preemptions": 5}, ["code", "preempted", "node"], True),
        ({"max_failures": 0, "max_preemptions": 0}, ["preempted"], False),
    ],
)
def test_a_kind_may_have_a_budget_of_its_own(policy: dict, kinds: list[str], again: bool) -> None:
    rules, it = Policy(**policy), trial(0)
    for kind in kinds:
        charge(it, Failure(kind, "x"), rules)
    assert allowed(it, Failure(kinds[-1], "x"), rules) is again
