from __future__ import annotations

import pickle
import random

import numpy as np
import pytest

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search import BasicVariantGenerator, Searcher
from holdfast.space import grid_search, uniform

SPACE = {"a": grid_search([1, 2]), "u": uniform(0, 1)}


def ready(num_samples=2, seed=1, space=SPACE, **kwargs):
    searcher = BasicVariantGenerator(**kwargs)
    assert searcher.set_search_properties(None, None, space, num_samples=num_samples, seed=seed)
    return searcher


def test_it_suggests_all_and_finishes():
    searcher = ready()
    assert searcher.total == searcher.total_samples == 4
    found = [searcher.suggest(str(k)) for k in range(4)]
    assert [c["a"] for c in found] == [1, 2, 1, 2]
    assert searcher.suggest("x") == Searcher.FINISHED
    assert searcher.suggest("x") == Searcher.FINISHED


def test_asked_the_same_number_of_times_it_goes_on_exactly():
    whole = [ready().suggest("x")] and [s.suggest("x") for s in [ready()] for _ in range(4)]
    for cut in range(4):
        searcher = ready()
        for _ in range(cut):
            searcher.suggest("x")
        by_pickle = pickle.loads(pickle.dumps(searcher))
        by_state = ready()
        by_state.set_state(searcher.get_state())
        random.seed(cut)
        for restored in (by_pickle, by_state):
            assert [restored.suggest("x") for _ in range(4 - cut)] == whole[cut:]


def test_last_evaluated_shows_the_open_keys():
    searcher = ready(space={"k": 1, "n": {"g": grid_search([3])}})
    searcher.suggest("x")
    assert searcher.last_evaluated == {"n/g": 3}


def test_max_concurrent():
    searcher = ready(max_concurrent=1)
    first = searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a")
    searcher.on_trial_complete("unknown")
    assert searcher.suggest("b") == {"a": 2, "u": pytest.approx(0.5, abs=0.5)}
    assert first["a"] == 1


def test_random_state_takes_the_seeds_place():
    for make in (lambda: 5, lambda: random.Random(5), lambda: np.random.RandomState(5), lambda: np.random.default_rng(5)):
        found = {ready(seed=seed, random_state=make()).suggest("x")["u"] for seed in (1, 2)}
        assert len(found) == 1
    assert len({ready(seed=seed).suggest("x")["u"] for seed in (1, 2, -1)}) == 3
    with pytest.raises(ConfigError, match="random_state"):
        ready(random_state=5).set_state(ready(random_state=6).get_state())


def test_for_ever():
    searcher = ready(num_samples=-1)
    assert searcher.total is None
    assert searcher.total_samples == -1


def test_points():
    points = [{"a": 1, "u": 0.5}]
    searcher = ready(points_to_evaluate=points)
    assert searcher.suggest("x") == {"a": 1, "u": 0.5}
    assert searcher.total == 3
    with pytest.raises(SearchSpaceError, match="points_to_evaluate"):
        BasicVariantGenerator(points_to_evaluate=[3])


def test_misuse():
    with pytest.raises(SearchSpaceError, match="set_search_properties"):
        BasicVariantGenerator().suggest("x")
    with pytest.raises(ConfigError):
        BasicVariantGenerator(max_concurrent=-1)
    with pytest.raises(SearchSpaceError):
        ready(space=[])


def test_what_the_driver_may_rely_on():
    assert BasicVariantGenerator.instant
    assert BasicVariantGenerator.own_chance
    assert not Searcher.instant
    assert not Searcher.own_chance
