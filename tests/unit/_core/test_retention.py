from __future__ import annotations

import pytest

from holdfast._core.events import Saved
from holdfast._core.policy import Policy
from holdfast._core.retention import over_budget, surplus
from holdfast._core.trial import Kept, TrialState

NAN = float("nan")


def trial(*scores: float | None) -> TrialState:
    kept = tuple(Kept(Saved(index, 1, 1, ""), index + 1, index + 1, 0.0, score) for index, score in enumerate(scores))
    return TrialState("t", 0, "t", "t", "0", b"", b"", kept=kept)


@pytest.mark.parametrize(
    ("policy", "scores", "dropped"),
    [
        (Policy(), (1.0, 2.0, 3.0), []),
        (Policy(num_to_keep=2), (None, None), []),
        (Policy(num_to_keep=2), (None, None, None, None), [0, 1]),
        (Policy(num_to_keep=1, score_attribute="a"), (1.0, 3.0, 2.0), [0]),  # the best, and the newest
        (Policy(num_to_keep=1, score_attribute="a", score_order="min"), (1.0, 3.0, 2.0), [1]),
        (Policy(num_to_keep=1, score_attribute="a"), (1.0, 2.0, 3.0), [0, 1]),
        (Policy(num_to_keep=2, score_attribute="a"), (NAN, 1.0, None, 0.5), [0, 2]),
        (Policy(num_to_keep=2, score_attribute="a", score_order="min"), (NAN, 1.0, None, 0.5), [0, 2]),
        (
            Policy(num_to_keep=2, score_attribute="a", score_order="min"),
            (0.0, 1.0, NAN, NAN),
            [2],
        ),  # the newest stays, NaN or not
        (Policy(num_to_keep=1, score_attribute="a"), (2.0, 2.0, 2.0), [0, 1]),  # of equals the newest
        (Policy(num_to_keep=1, score_attribute="a"), (float("inf"), 1.0), []),
    ],
)
def test_what_is_given_up(policy: Policy, scores: tuple, dropped: list[int]) -> None:
    assert surplus(trial(*scores), policy) == dropped


def sized(index: int, state: str, *scores: float | None) -> TrialState:
    kept = tuple(Kept(Saved(number, 1, 10, ""), number + 1, number + 1, 0.0, score) for number, score in enumerate(scores))
    return TrialState(f"t{index}", index, "t", "t", "0", b"", b"", state=state, kept=kept)


@pytest.mark.parametrize(
    ("policy", "bytes_allowed", "dropped"),
    [
        ({"metric": "a", "mode": "max"}, 50, []),
        ({"metric": "a", "mode": "max"}, 40, [("t1", 0)]),
        ({"metric": "a", "mode": "max"}, 20, [("t1", 0), ("t0", 0), ("t0", 1)]),
        ({"metric": "a", "mode": "max"}, 1, [("t1", 0), ("t0", 0), ("t0", 1), ("t2", 0)]),  # t2 resumes from its newest
        ({"metric": "a", "mode": "min"}, 20, [("t2", 0), ("t0", 0), ("t0", 1)]),  # the best is t1's
        ({"score_attribute": "b", "score_order": "min", "metric": "a", "mode": "max"}, 40, [("t2", 0)]),
    ],
)
def test_what_goes_when_the_disk_is_to_hold_no_more(policy: dict, bytes_allowed: int, dropped: list) -> None:
    trials = [sized(0, "TERMINATED", 2.0, 3.0), sized(1, "ERROR", 1.0), sized(2, "RUNNING", 4.0, 5.0)]
    found = over_budget(trials, Policy(**policy, max_total_bytes=bytes_allowed), set())
    assert found == dropped


def test_what_has_no_score_goes_before_what_has_one() -> None:
    trials = [sized(0, "TERMINATED", 2.0), sized(1, "TERMINATED", None), sized(2, "TERMINATED", NAN)]
    assert over_budget(trials, Policy(metric="a", mode="min", max_total_bytes=10), set()) == [("t1", 0), ("t2", 0)]
    assert over_budget(trials, Policy(metric="a", mode="min", max_total_bytes=10), {("t1", 0)}) == [("t2", 0)]
