from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from holdfast.errors import ConfigError, ExperimentNotFound
from holdfast.search import SearchAlgorithm, Searcher


class Counting(Searcher):
    def __init__(self):
        super().__init__("loss", "min")
        self.count = 0
        self.points = []

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]

    def add_evaluated_point(self, parameters, value, error=False, pruned=False, intermediate_values=None):
        self.points.append((parameters, value, error, pruned))


def test_state_goes_through_a_file(tmp_path):
    one = Counting()
    one.count = 3
    one.save(str(tmp_path / "x"))
    one.save_to_dir(str(tmp_path), "s1")
    two = Counting()
    two.restore(str(tmp_path / "x"))
    assert two.count == 3
    one.count = 4
    one.save_to_dir(str(tmp_path), "s2")
    os.utime(tmp_path / "searcher-state-s1.pkl", (1, 1))
    two.restore_from_dir(str(tmp_path))
    assert two.count == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["searcher-state-s1.pkl", "searcher-state-s2.pkl", "x"]


def test_a_failing_save_leaves_nothing(tmp_path):
    with pytest.raises(NotImplementedError):
        Searcher().save_to_dir(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExperimentNotFound):
        Searcher().restore_from_dir(str(tmp_path))


def test_objectives_must_fit():
    searcher = Searcher("loss", "min")
    assert (searcher.metric, searcher.mode) == ("loss", "min")
    assert Searcher(["a", "b"], ["min", "obs"]).mode == ["min", "obs"]
    for metric, mode in [("a", "up"), (["a"], "min"), ("a", ["min"]), (["a", "b"], ["min"]), (["a"], ["up"]), ("a", "obs")]:
        with pytest.raises(ConfigError):
            Searcher(metric, mode)


def test_trials_of_elsewhere_are_learned_from():
    def trial(status, row):
        return SimpleNamespace(config={"x": 1}, last_result=row, status=status)

    trials = [
        trial("TERMINATED", {"loss": 1, "done": True}),
        trial("TERMINATED", {"loss": 2}),
        trial("ERROR", {"loss": 3}),
        trial("ERROR", {}),
    ]
    for given in (trials, SimpleNamespace(trials=trials)):
        searcher = Counting()
        searcher.add_evaluated_trials(given, "loss")
        assert searcher.points == [({"x": 1}, 1, False, False), ({"x": 1}, 2, False, True), ({"x": 1}, 3, True, False)]


def test_what_a_subclass_must_define():
    searcher = Searcher()
    assert isinstance(searcher, SearchAlgorithm)
    assert searcher.set_search_properties("a", "min", {}) is False
    assert searcher.set_max_concurrency(3) is False
    searcher.on_trial_result("t", {})
    searcher.adopt("t", {})
    for call in (
        lambda: searcher.suggest("t"),
        lambda: searcher.on_trial_complete("t"),
        lambda: searcher.add_evaluated_point({}, 1.0),
    ):
        with pytest.raises(NotImplementedError, match="Searcher"):
            call()
