from __future__ import annotations

import pytest

from holdfast._core.admission import capacity
from holdfast._core.policy import Policy


@pytest.mark.parametrize(
    ("resources", "request_", "max_concurrent", "expected"),
    [
        ({"cpu": 2.0}, {"cpu": 1.0}, 0, 2),
        ({"cpu": 2.0}, {"cpu": 1.0}, 1, 1),
        ({"cpu": 2.0}, {"cpu": 1.0}, 9, 2),
        ({"cpu": 2.0}, {"cpu": 4.0}, 0, 0),
        ({"cpu": 2.0}, {"gpu": 1.0}, 0, 0),
        ({"cpu": 8.0, "gpu": 3.0}, {"cpu": 1.0, "gpu": 1.0}, 0, 3),
        ({"cpu": 0.3}, {"cpu": 0.1}, 0, 3),  # 0.3 / 0.1 is 2.9999999999999996
        ({"cpu": 1.0}, {"cpu": 0.0}, 5, 5),
    ],
)
def test_capacity(resources, request_, max_concurrent, expected) -> None:
    assert capacity(resources, Policy(request=request_, max_concurrent=max_concurrent)) == expected


def test_trials_that_ask_for_nothing_are_not_bounded_by_resources() -> None:
    assert capacity({"cpu": 1.0}, Policy(request={})) > 1_000
