"""What every searcher that learns must do: a class of pytest tests to derive from.

    class TestMySearch(SearcherSuite):
        library, extra = "mylib", "mylib"

        def make(self, **arguments):
            return MySearch(**arguments)

The searcher is called as the driver calls it: one call after another, with the global generators set around each one where it has
no chance of its own.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from holdfast._runtime.chance import given_chance
from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search import Searcher
from holdfast.space import (
    choice,
    grid_search,
    lograndint,
    loguniform,
    qrandint,
    quniform,
    randint,
    randn,
    sample_from,
    uniform,
)
from holdfast.values import encode

TESTS = Path(__file__).parents[2]
SEED = 20261122


class Shape:
    """A category that is an object; equal to nothing but itself, and found again by its pickle."""

    def __init__(self, name: str) -> None:
        self.name = name


def space() -> dict[str, Any]:
    return {
        "x": uniform(0, 1),
        "net": {"width": qrandint(8, 64, 8), "act": choice(["relu", {"leaky": 0.1}, (1, "two")])},
        "opt": [loguniform(1e-4, 1), quniform(0, 1, 0.25)],
        "depth": randint(1, 5),
        "units": lograndint(4, 64),
        "noise": randn(0, 2),
        "shape": choice([Shape("a"), Shape("b")]),
        "fixed": 3,
        "only": choice(["one"]),
        "drawn": sample_from(lambda config: config["depth"] + random.random()),
    }


def is_valid(config: dict[str, Any]) -> bool:
    wide, (lr, part) = config["net"]["width"], config["opt"]
    return (
        0 <= config["x"] < 1
        and type(wide) is int
        and wide in range(8, 65, 8)
        and config["net"]["act"] in ("relu", {"leaky": 0.1}, (1, "two"))
        and 1e-4 <= lr < 1
        and part in (0, 0.25, 0.5, 0.75, 1)
        and type(config["depth"]) is int
        and 1 <= config["depth"] < 5
        and 4 <= config["units"] < 64
        and math.isfinite(config["noise"])
        and config["shape"].name in "ab"
        and config["fixed"] == 3
        and config["only"] == "one"
        and 0 <= config["drawn"] - config["depth"] < 1
    )


def loss(config: dict[str, Any]) -> float:
    return (config["x"] - 0.3) ** 2 + 0.1 * config["depth"]


MIXTURE: list[tuple[dict[str, Any] | None, bool]] = [
    ({"loss": float("nan")}, False),
    ({"loss": 1.0}, False),
    ({"loss": float("inf")}, False),
    ({"other": 1}, False),
    ({"loss": "much"}, False),
    ({"loss": None}, False),
    (None, True),
    ({"loss": [1, 2]}, False),
    ({"loss": -math.inf}, False),
    ({"loss": 0.5}, True),
]


class Play:
    """The driver's part: asks, and tells of each trial when two later ones were suggested."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.configs: list[dict[str, Any]] = []
        self.calls = 0
        self.told = 0

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.searcher.own_chance:
            return getattr(self.searcher, method)(*arguments, **named)
        with given_chance(SEED, "searcher", self.calls):
            return getattr(self.searcher, method)(*arguments, **named)

    def go(self, until: int, score: Any = loss) -> Play:
        while len(self.configs) < until:
            config = self.call("suggest", f"t{len(self.configs)}")
            if config is None and self.told < len(self.configs):  # it waits for an answer
                self.tell(score)
                continue
            assert isinstance(config, dict), config
            self.configs.append(config)
            if len(self.configs) - self.told > 2:
                self.tell(score)
        return self

    def tell(self, score: Any = loss) -> None:
        config, trial_id = self.configs[self.told], f"t{self.told}"
        self.call("on_trial_result", trial_id, {"loss": 5.0, "training_iteration": 1})
        if self.told % 5 == 4:
            self.call("on_trial_complete", trial_id, error=True)
        else:
            self.call("on_trial_complete", trial_id, result={"loss": score(config), "training_iteration": 2})
        self.told += 1

    def bytes(self) -> list[str]:
        """The suggestions as they would go on record."""
        return [encode({**config, "shape": config["shape"].name}).hex() for config in self.configs]


class SearcherSuite:
    """Derive from it, in a class whose name begins with Test, and define `make`.

    Attributes:
        library: The package that it needs.
        extra: The extra that installs it; empty for a searcher that needs none.
        trials: As many that the model has had its say three times.
        learning: (trials, how many of the last are looked at, seeds, bound of their mean loss; random search has 0.30).
        several: Whether it takes several metrics.
    """

    library = ""
    extra = ""
    trials = 14
    learning = (30, 10, 3, 0.2)
    several = False

    def make(self, **arguments: Any) -> Searcher:
        raise NotImplementedError

    def begun(self, seed: int = SEED, **arguments: Any) -> Searcher:
        searcher = self.make(**arguments)
        assert searcher.set_search_properties("loss", "min", space(), num_samples=self.trials, seed=seed)
        return searcher

    @pytest.fixture(scope="class")
    @classmethod
    def uninterrupted(cls) -> Play:
        return Play(cls().begun()).go(cls.trials)

    def test_suggestions_are_whole_and_lie_in_their_domains(self, uninterrupted: Play) -> None:
        assert all(map(is_valid, uninterrupted.configs))
        assert len(set(uninterrupted.bytes())) > self.trials / 2
        last = uninterrupted.searcher.last_evaluated
        assert {"x", "net/width", "net/act", "opt/0", "opt/1", "shape", "drawn"} <= last.keys()
        assert "fixed" not in last

    def test_it_learns(self) -> None:
        trials, last, seeds, bound = self.learning
        found = []
        for seed in range(seeds):
            searcher = self.make()
            searcher.set_search_properties(
                "loss", "max", {"x": uniform(0, 1), "in": {"y": uniform(0, 1)}}, num_samples=trials, seed=seed
            )
            play = Play(searcher).go(trials, lambda config: -_bowl(config))
            found += [_bowl(config) for config in play.configs[-last:]]
        assert sum(found) / len(found) < bound

    def test_what_is_no_finite_number_breaks_nothing(self) -> None:
        play = Play(self.begun())
        for number in range(self.trials):
            result, error = MIXTURE[number % len(MIXTURE)]
            config = play.call("suggest", f"t{number}")
            assert is_valid(config)
            if number % 3:
                play.call("on_trial_result", f"t{number}", result or {})
            play.call("on_trial_complete", f"t{number}", result=result, error=error)

    def test_points_come_first_and_exactly(self) -> None:
        whole = {
            "x": 0.123456789012345678,
            "net": {"width": 24, "act": (1, "two")},
            "opt": [0.07, 0.5],
            "depth": 2,
            "units": 33,
            "noise": 1.25,
            "only": "one",
            "drawn": 2.5,
        }
        searcher = self.begun(points_to_evaluate=[whole, {"depth": 4, "net": {"act": {"leaky": 0.1}}}])
        play = Play(searcher).go(3)
        first, second, third = play.configs
        assert {key: first[key] for key in whole} == whole
        assert second["depth"] == 4
        assert second["net"]["act"] == {"leaky": 0.1}
        assert is_valid(second)
        assert is_valid(third)

    def test_pickled_in_the_middle_it_goes_on_exactly(self, uninterrupted: Play) -> None:
        play = Play(self.begun()).go(self.trials * 2 // 3)
        play.searcher = pickle.loads(cloudpickle.dumps(play.searcher))
        assert play.go(self.trials).bytes() == uninterrupted.bytes()

    def test_its_state_goes_through_a_file_into_a_new_one(self, uninterrupted: Play, tmp_path: Path) -> None:
        play = Play(self.begun()).go(self.trials * 2 // 3)
        play.searcher.save(str(tmp_path / "state"))
        play.searcher = self.begun(seed=1)
        play.searcher.restore(str(tmp_path / "state"))
        assert play.go(self.trials).bytes() == uninterrupted.bytes()

    def test_replayed_from_the_beginning_in_another_process_it_answers_the_same(self, uninterrupted: Play) -> None:
        code = f"from unit.search.searcher_suite import replay; replay({type(self).__module__!r}, {type(self).__name__!r})"
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == uninterrupted.bytes()

    def test_what_it_adopts_is_its_own(self) -> None:
        play = Play(self.begun()).go(4)
        other = {**play.configs[0], "x": 0.25, "depth": 1, "drawn": 1.5, "fixed": 3}
        play.call("adopt", "t3", other)
        play.configs[3] = other
        play.call("adopt", "never-asked", {**other, "x": 0.26})
        play.call("on_trial_complete", "never-asked", result={"loss": 0.1})
        play.go(self.trials)
        assert all(map(is_valid, play.configs))

    def test_what_comes_after_the_end_is_not_heard(self, uninterrupted: Play) -> None:
        play = Play(self.begun())
        for until in range(1, self.trials + 1):
            play.go(until)
            if play.told:
                calls = play.calls
                play.call("on_trial_complete", f"t{play.told - 1}", result={"loss": -1e9})
                play.call("on_trial_complete", "nobody", result={"loss": -1e9})
                play.call("on_trial_result", f"t{play.told - 1}", {"loss": -1e9})
                play.calls = calls
        assert play.bytes() == uninterrupted.bytes()

    def test_points_of_elsewhere_are_learned_from(self) -> None:
        early, late = self.make(), self.begun()
        config = Play(self.begun()).go(1).configs[0]
        early.add_evaluated_point(config, 0.5)
        assert early.set_search_properties("loss", "min", space(), num_samples=self.trials, seed=SEED)
        late.add_evaluated_point(config, 0.5)
        assert Play(early).go(3).bytes() == Play(late).go(3).bytes()

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(SearchSpaceError, match=r"choice|leave"):
            self.make().set_search_properties("loss", "min", {"x": grid_search([1, 2])}, seed=1)
        with pytest.raises(ConfigError, match="mode"):
            self.make().set_search_properties("loss", None, {"x": uniform(0, 1)}, seed=1)
        with pytest.raises(ConfigError, match="acc"):
            self.make(metric="acc", mode="max").set_search_properties("loss", "max", {"x": uniform(0, 1)}, seed=1)
        with pytest.raises(SearchSpaceError, match="nowhere"):
            self.begun(points_to_evaluate=[{"nowhere": 1}])
        if not self.several:
            with pytest.raises(ConfigError, match="one metric"):
                self.make(metric=["a", "b"], mode=["min", "max"])

    def test_its_own_space_excludes_another(self) -> None:
        searcher = self.make(space={"x": uniform(0, 1), "in": {"y": uniform(0, 1)}}, metric="loss", mode="min")
        assert searcher.set_search_properties(None, None, {"z": uniform(0, 1)}, seed=1) is False
        searcher.set_search_properties(None, None, {"z": 5}, seed=1)
        assert 0 <= searcher.suggest("t")["in"]["y"] < 1

    def test_a_space_without_choice_is_suggested_as_it_is(self) -> None:
        searcher = self.make()
        searcher.set_search_properties("loss", "min", {"a": 1, "only": choice(["one"])}, num_samples=2, seed=1)
        assert [searcher.suggest("a"), searcher.suggest("b")] == [{"a": 1, "only": "one"}] * 2
        searcher.on_trial_complete("a", result={"loss": 1.0})

    def test_without_its_library_the_error_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not self.extra:
            self.make()
            return
        monkeypatch.setitem(sys.modules, self.library, None)
        with pytest.raises(ConfigError, match=rf"pip install 'holdfast\[{self.extra}\]'"):
            self.make()


def _bowl(config: dict[str, Any]) -> float:
    return (config["x"] - 0.2) ** 2 + (config["in"]["y"] - 0.7) ** 2


def replay(module: str, kind: str) -> None:
    """In a fresh process with scrambled generators: the suggestions of a suite, as one line of JSON."""
    import numpy as np

    random.seed(os.urandom(8))
    np.random.seed(int.from_bytes(os.urandom(4), "big"))
    suite = getattr(import_module(f"unit.search.{module.rpartition('.')[2]}"), kind)()
    print(json.dumps(Play(suite.begun()).go(suite.trials).bytes()))
