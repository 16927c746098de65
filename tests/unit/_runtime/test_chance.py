from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from holdfast._runtime.chance import draw_seed, given_chance


def drawn(*who: object) -> tuple[float, float]:
    with given_chance(7, *who):
        return random.random(), float(np.random.random())


def test_the_same_call_draws_the_same_numbers() -> None:
    assert drawn("stopper", 1) == drawn("stopper", 1)
    assert len({drawn("stopper", 1), drawn("stopper", 2), drawn("searcher", 1)}) == 3


def test_the_generators_are_put_back() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    drawn("stopper", 1)
    with pytest.raises(KeyError), given_chance(7, "stopper", 2):
        random.random()
        raise KeyError
    assert (random.random(), np.random.random()) == expected


def test_one_at_a_time_has_the_generators() -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait(10)
        with given_chance(7, "second"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with given_chance(7, "first"):
        inside.set()
        with given_chance(7, "nested"):  # one call may lead to another
            order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_seed_is_drawn_from_numpys_generator_so_that_seeding_it_repeats_an_experiment() -> None:
    np.random.seed(3)
    first = [draw_seed(), draw_seed()]
    np.random.seed(3)
    assert [draw_seed(), draw_seed()] == first
    assert first[0] != first[1]
    assert all(0 <= seed < 2**63 for seed in first)
