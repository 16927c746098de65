from __future__ import annotations

import numpy as np
import pytest

import holdfast as tune
from holdfast.search.matching import index_of, matches


@pytest.mark.parametrize(
    ("part", "value", "does"),
    [
        (1, 1, True),
        (1, 2, False),
        (float("nan"), float("nan"), True),
        (tune.uniform(0, 1), 0.5, True),
        (tune.uniform(0, 1), 2, False),
        (tune.uniform(0, 1), "text", False),
        (tune.choice([1, {"a": tune.uniform(0, 1)}]), {"a": 0.5}, True),
        (tune.choice([1, {"a": tune.uniform(0, 1)}]), {"a": 5}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, tune.randint(0, 3)], [1, 2], True),
        ([1, 2], [1], False),
        (np.arange(2), np.arange(2), False),  # arrays do not compare to one answer
        (tune.sample_from(lambda: 1), "anything", True),
    ],
)
def test_whether_a_value_may_have_come_of_a_part(part, value, does) -> None:
    assert matches(part, value) is does


def test_equal_categories_are_told_apart_by_their_type_and_identity() -> None:
    assert [index_of([1, 1.0, True], value) for value in (1, 1.0, True)] == [0, 1, 2]
    one, other = [1], [1]
    assert [index_of([one, other], value) for value in (one, other, [1])] == [0, 1, 0]


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("no")


def test_an_object_that_is_like_none_is_none_also_where_it_has_no_pickle() -> None:
    assert index_of([Unpicklable(), "a"], Unpicklable()) is None
    assert index_of([len], max) is None
