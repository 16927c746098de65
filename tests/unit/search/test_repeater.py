"""Repeater: groups, their mean, and its memory."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from holdfast.errors import ConfigError
from holdfast.search import BasicVariantGenerator, ConcurrencyLimiter, Repeater, Searcher
from holdfast.search.repeater import TRIAL_INDEX
from unit.search.test_concurrency_limiter import Noting


def test_each_suggestion_is_tried_so_often_and_its_mean_heard_once() -> None:
    repeater = Repeater(Noting(), 3)
    assert [repeater.suggest(name) for name in "abcd"] == [
        {"n": 1, TRIAL_INDEX: 0},
        {"n": 1, TRIAL_INDEX: 1},
        {"n": 1, TRIAL_INDEX: 2},
        {"n": 2, TRIAL_INDEX: 0},
    ]
    repeater.on_trial_result("a", {"loss": 9.0})
    for name, loss in (("c", 3.0), ("a", 1.0), ("a", 99.0)):
        repeater.on_trial_complete(name, {"loss": loss})
        assert repeater.searcher.heard == []
    repeater.on_trial_complete("b", {"loss": 5.0})
    repeater.on_trial_complete("b", {"loss": 99.0})
    assert repeater.searcher.heard == [("end", "a", 3.0, False)]


def test_without_the_index_the_configs_are_alike() -> None:
    repeater = Repeater(Noting(), 2, set_index=False)
    assert [repeater.suggest(name) for name in "abc"] == [{"n": 1}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("bad", [{"loss": math.nan}, {"loss": math.inf}, {}, {"loss": "x"}, {"loss": None}, None, "error"])
def test_what_has_no_score_does_not_count(bad: Any) -> None:
    repeater = Repeater(Noting(), 2)
    for name in "abcd":
        repeater.suggest(name)
    for name in "acd":
        if bad == "error":
            repeater.on_trial_complete(name, {"loss": 7.0}, error=True)
        else:
            repeater.on_trial_complete(name, bad)
    repeater.on_trial_complete("b", {"loss": 2.0})
    assert repeater.searcher.heard == [("end", "c", None, True), ("end", "a", 2.0, False)]


def test_the_end_of_the_search_goes_through_and_a_group_is_finished_first() -> None:
    repeater = Repeater(Noting(most=1), 2)
    assert [isinstance(repeater.suggest(name), dict) for name in "ab"] == [True, True]
    assert repeater.suggest("c") == Searcher.FINISHED


def test_a_recorded_answer_is_the_searchers_own_for_the_first_of_a_group() -> None:
    repeater = Repeater(Noting(), 2)
    repeater.suggest("a")
    repeater.adopt("a", {"n": 50, "fixed": 1, TRIAL_INDEX: 0})
    assert repeater.suggest("b") == {"n": 50, "fixed": 1, TRIAL_INDEX: 1}
    repeater.adopt("b", {"n": 50, "fixed": 1, TRIAL_INDEX: 1})
    repeater.adopt("c", {"n": 60, TRIAL_INDEX: 0})
    assert repeater.suggest("d") == {"n": 60, TRIAL_INDEX: 1}
    assert repeater.searcher.heard == [("adopt", "a", {"n": 50, "fixed": 1}), ("adopt", "c", {"n": 60})]


def test_its_memory_and_the_searchers_go_together(tmp_path: Any) -> None:
    one = Repeater(Noting(), 2)
    for name in "abc":
        one.suggest(name)
    one.on_trial_complete("a", {"loss": 1.0})
    one.save(str(tmp_path / "state"))
    two = Repeater(Noting(), 2)
    two.restore(str(tmp_path / "state"))
    for repeater in (one, two, pickle.loads(pickle.dumps(one))):
        assert repeater.suggest("d") == {"n": 2, TRIAL_INDEX: 1}
        for name in "bdc":
            repeater.on_trial_complete(name, {"loss": 4.0})
        assert repeater.searcher.heard == [("end", "a", 2.5, False), ("end", "c", 4.0, False)]


def test_a_limiter_around_it_counts_trials() -> None:
    limiter = ConcurrencyLimiter(Repeater(Noting(), 2), 3)
    assert [limiter.suggest(name) for name in "abcd"][2:] == [{"n": 2, TRIAL_INDEX: 0}, None]


def test_what_cannot_be_is_refused() -> None:
    for wrong in (0, True, 1.5):
        with pytest.raises(ConfigError, match="positive"):
            Repeater(Noting(), wrong)
    with pytest.raises(ConfigError, match="constant_grid_search"):
        Repeater(BasicVariantGenerator(), 2)
    several = Noting()
    several._metric = ["a", "b"]
    with pytest.raises(ConfigError, match="one metric"):
        Repeater(several, 2)
