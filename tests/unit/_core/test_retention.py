from __future__ import annotations

import pytest

from holdfast._core.events import Saved
from holdfast._core.policy import Policy
from holdfast._core.retention import surplus
from holdfast._core.trial import Kept, TrialState

NAN = float("nan")


def trial(*scores: float | None) -> TrialState:
    kept = [Kept(Saved(index, 1, 1, ""), index + 1, index + 1, 0.0, score) for index, score in enumerate(scores)]
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
