"""ConcurrencyLimiter: the bound, batches, pauses, and its memory."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import holdfast as tune
from holdfast._assembly.submission import drafted
from holdfast.config import RunConfig, TuneConfig
from holdfast.errors import ConfigError
from holdfast.search import BasicVariantGenerator, ConcurrencyLimiter, Searcher, SearchGenerator


class Noting(Searcher):
    """Suggests numbers and notes what it hears."""

    def __init__(self, frees: bool | None = None, most: int = 99) -> None:
        super().__init__("loss", "min")
        self.heard: list[tuple[Any, ...]] = []
        self.asked = 0
        self.frees = frees
        self.most = most

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if self.asked == self.most:
            return self.FINISHED
        self.asked += 1
        return {"n": self.asked}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.heard.append(("row", trial_id, result["loss"]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.heard.append(("end", trial_id, None if result is None else result["loss"], error))

    def on_pause(self, trial_id: str) -> bool | None:
        self.heard.append(("pause", trial_id))
        return self.frees

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        self.heard.append(("adopt", trial_id, config))

    def get_state(self) -> dict[str, Any]:
        return {"heard": list(self.heard), "asked": self.asked}

    def set_state(self, state: dict[str, Any]) -> None:
        self.heard, self.asked = list(state["heard"]), state["asked"]


class Bounded(Noting):
    """Keeps a bound by itself."""

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        self.most = max_concurrent
        return True


def test_no_more_live_than_the_bound() -> None:
    limiter = ConcurrencyLimiter(Noting(), 2)
    assert [limiter.suggest(name) for name in "abc"] == [{"n": 1}, {"n": 2}, None]
    limiter.on_trial_complete("stranger", {"loss": 0})
    assert limiter.suggest("c") is None
    limiter.on_trial_result("a", {"loss": 3})
    limiter.on_trial_result("stranger", {"loss": 3})
    limiter.on_trial_complete("a", {"loss": 1})
    limiter.on_trial_complete("a", {"loss": 1})
    assert limiter.suggest("c") == {"n": 3}
    limiter.on_trial_complete("b", error=True)
    assert limiter.searcher.heard == [("row", "a", 3), ("end", "a", 1, False), ("end", "b", None, True)]


def test_what_the_searcher_does_not_give_takes_no_place() -> None:
    limiter = ConcurrencyLimiter(Noting(most=1), 2)
    assert [limiter.suggest(name) for name in "abc"] == [{"n": 1}, Searcher.FINISHED, Searcher.FINISHED]


def test_a_batch_is_heard_together_and_in_order() -> None:
    limiter = ConcurrencyLimiter(Noting(), 3, batch=True)
    for name in "abc":
        limiter.suggest(name)
    for name, loss in (("c", 1), ("a", 2)):
        limiter.on_trial_complete(name, {"loss": loss})
        limiter.on_trial_complete(name, {"loss": 99})
        assert limiter.suggest("d") is None
        assert limiter.searcher.heard == []
    limiter.on_trial_complete("b", error=True)
    assert limiter.searcher.heard == [("end", "a", 2, False), ("end", "b", None, True), ("end", "c", 1, False)]
    assert [limiter.suggest(name) for name in "defg"] == [{"n": 4}, {"n": 5}, {"n": 6}, None]


def test_a_batch_that_is_never_full_ends_with_its_last_trial() -> None:
    limiter = ConcurrencyLimiter(Noting(most=2), 3, batch=True)
    assert [limiter.suggest(name) for name in "abc"] == [{"n": 1}, {"n": 2}, Searcher.FINISHED]
    limiter.on_trial_complete("a", {"loss": 1})
    limiter.on_trial_complete("b", {"loss": 2})
    assert len(limiter.searcher.heard) == 2


@pytest.mark.parametrize(("frees", "next_one"), [(None, None), (False, None), (True, {"n": 2})])
def test_a_paused_trial_keeps_its_place_unless_the_searcher_says_so(frees: bool | None, next_one: Any) -> None:
    limiter = ConcurrencyLimiter(Noting(frees), 1)
    limiter.suggest("a")
    limiter.on_pause("a")
    assert limiter.suggest("b") == next_one
    limiter.on_unpause("a")
    assert limiter.suggest("c") is None
    limiter.on_trial_complete("a", {"loss": 1})
    assert limiter.searcher.heard == [("pause", "a"), ("end", "a", 1, False)]
    assert limiter.suggest("c") == (None if next_one else {"n": 2})


def test_a_searcher_that_keeps_the_bound_itself_is_left_to_do_so() -> None:
    limiter = ConcurrencyLimiter(Bounded(), 2)
    assert [limiter.suggest(name) for name in "abc"] == [{"n": 1}, {"n": 2}, Searcher.FINISHED]
    batches = ConcurrencyLimiter(Bounded(), 2, batch=True)
    assert [batches.suggest(name) for name in "abc"] == [{"n": 1}, {"n": 2}, None]
    assert limiter.set_max_concurrency(5)
    assert limiter.searcher.most == limiter.max_concurrent == 5


@pytest.mark.parametrize("batch", [False, True])
def test_its_memory_and_the_searchers_go_together(batch: bool, tmp_path: Any) -> None:
    one = ConcurrencyLimiter(SearchGenerator(Noting()), 2, batch)
    one.suggest("a")
    one.adopt("b", {"n": 7})
    one.on_trial_complete("b", {"loss": 1})
    one.save(str(tmp_path / "state"))
    two = ConcurrencyLimiter(SearchGenerator(Noting()), 2, batch)
    two.restore(str(tmp_path / "state"))
    for limiter in (one, two, pickle.loads(pickle.dumps(one))):
        assert limiter.suggest("c") == (None if batch else {"n": 2})
        limiter.on_trial_complete("a", {"loss": 2})
        heard = [("adopt", "b", {"n": 7}), ("end", "b", 1, False), ("end", "a", 2, False)]
        assert limiter.searcher.searcher.heard == (heard[:1] + heard[:0:-1] if batch else heard)


def test_it_is_as_the_searcher_inside() -> None:
    limiter = ConcurrencyLimiter(Noting(), 2)
    assert (limiter.metric, limiter.mode, limiter.instant, limiter.own_chance) == ("loss", "min", False, False)
    assert limiter.by_number is False
    assert limiter.last_evaluated is None
    with pytest.raises(NotImplementedError):
        limiter.add_evaluated_point({"n": 1}, 2.0)


@pytest.mark.parametrize("bound", [0, -1, True, 1.5, None])
def test_a_bound_is_a_positive_number(bound: Any) -> None:
    with pytest.raises(ConfigError, match="positive"):
        ConcurrencyLimiter(Noting(), bound)


def test_what_it_goes_around() -> None:
    with pytest.raises(ConfigError, match="max_concurrent="):
        ConcurrencyLimiter(BasicVariantGenerator(), 2)
    with pytest.raises(ConfigError, match="Searcher"):
        ConcurrencyLimiter(object(), 2)


def test_another_bound_in_the_tune_config_is_refused() -> None:
    def submit(both: int) -> Any:
        config = TuneConfig(search_alg=ConcurrencyLimiter(Noting(), 2), max_concurrent_trials=both)
        return drafted(train, {}, config, RunConfig())

    assert submit(2)
    with pytest.raises(ValueError, match=r"max_concurrent_trials=3.*max_concurrent=2"):
        submit(3)


def train(config: dict[str, Any]) -> None:
    tune.report({"loss": 1})


def test_spaces_go_through() -> None:
    class Strict(Noting):
        def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
            self.given = (metric, mode, config, spec)
            return False

    searcher = Strict()
    assert ConcurrencyLimiter(searcher, 1).set_search_properties("a", "max", {"x": 1}, seed=3) is False
    assert searcher.given == ("a", "max", {"x": 1}, {"seed": 3})
