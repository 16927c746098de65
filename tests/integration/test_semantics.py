"""What users of Ray Tune rely on and no signature shows."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import holdfast as tune
from holdfast._core.events import DecisionMade, TrialSuggested
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import ExperimentExists, ReportRefused
from holdfast.schedulers.base import TrialScheduler
from holdfast.search import Searcher
from holdfast.stopper import MaximumIterationStopper, Stopper
from holdfast.storage.local import LocalStorage


def play(config, state=None):
    """Six rows in virtual time, each with a checkpoint."""
    for i in range(state + 1 if state is not None else 0, 6):
        yield {"score": config.get("x", 1.0) * (i + 1), "deep": {"i": i}}, i


def simulated(path, space=None, *, trainable=play, workers=2, name="exp", tune_config=None, **run) -> tune.Tuner:
    run_config = tune.RunConfig(name=name, storage_path=path, verbose=0, engine=SimulatedEngine(workers=workers), **run)
    return tune.Tuner(trainable, param_space=space or {}, tune_config=tune_config, run_config=run_config)


def restored(path, trainable=play, **options) -> tune.Tuner:
    return tune.Tuner.restore(path / "exp", trainable, engine=SimulatedEngine(workers=2), **options)


def real(path, trainable, space=None, *, name="exp", tune_config=None, **run) -> tune.Tuner:
    run_config = tune.RunConfig(name=name, storage_path=path, verbose=0, **run)
    return tune.Tuner(trainable, param_space=space or {}, tune_config=tune_config, run_config=run_config)


def state_of(path):
    return load_state(LocalStorage(str(path / "exp")))


def rows(grid) -> list[int]:
    return [len(result.metrics_dataframe) if "score" in result.metrics else 0 for result in grid]


class Trouble(tune.Callback):
    """Ends the driver at its n-th row, once."""

    def __init__(self, marker: Path, at: int) -> None:
        self.marker, self.left = marker, at

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.left -= 1
        if not self.left and not self.marker.exists():
            self.marker.touch()
            raise ZeroDivisionError("the driver's own trouble")


# ------------------------------------------------------------------------------------------ configurations


def test_configurations_come_back_type_exact_without_param_space(tmp_path: Path) -> None:
    class Colour(enum.Enum):
        RED = 1

    class Model:
        pass

    def train(config):
        tune.report({"types": {key: type(value).__name__ for key, value in config.items()}, "keys": str(sorted(config["keys"]))})

    space = {
        "tuple": (1, ("a", 2.0)),
        "keys": {1: "one", 2: [1]},
        "scalar": np.float32(0.5),
        "array": tune.sample_from(lambda: np.arange(3)),
        "path": Path("/data"),
        "model": Model,
        "colour": tune.choice([Colour.RED]),
        "none": None,
        "nan": math.nan,
        "inf": tune.grid_search([math.inf]),
        "bytes": b"\x00\xff",
        "made": tune.sample_from(lambda config: Model()),
    }
    real(tmp_path, train, space)  # Tuner(...) alone puts the job on disk
    assert tune.Tuner.can_restore(tmp_path / "exp")
    [result] = tune.Tuner.restore(tmp_path / "exp", train).fit()
    assert result.error is None
    for config in (result.config, tune.Tuner.restore(tmp_path / "exp", train).get_results()[0].config):
        assert config["tuple"] == (1, ("a", 2.0))
        assert config["keys"] == {1: "one", 2: [1]}
        assert type(config["scalar"]) is np.float32
        assert config["array"].tolist() == [0, 1, 2]
        assert config["path"] == Path("/data")
        assert config["colour"].name == "RED"
        assert config["model"].__name__ == "Model"
        assert type(config["made"]).__name__ == "Model"
        assert (config["none"], config["inf"], config["bytes"]) == (None, math.inf, b"\x00\xff")
        assert math.isnan(config["nan"])
    seen = result.metrics["types"]
    assert seen == {key: type(value).__name__ for key, value in result.config.items()}
    assert result.metrics["keys"] == "[1, 2]"


def test_a_grid_runs_its_first_key_fastest_and_samples_repeat_it(tmp_path: Path) -> None:
    space = {"a": tune.grid_search([1, 2]), "b": {"grid_search": ["x", "y"]}}
    grid = simulated(tmp_path, space, tune_config=tune.TuneConfig(num_samples=2)).fit()
    assert [(result.config["a"], result.config["b"]) for result in grid] == [(1, "x"), (2, "x"), (1, "y"), (2, "y")] * 2


def test_seeds_repeat_an_experiment(tmp_path: Path) -> None:
    space = {"x": tune.uniform(0, 1), "y": tune.sample_from(lambda: random.random() + np.random.random())}

    def configs(name: str, seed: int | None = None) -> list[dict]:
        config = tune.TuneConfig(num_samples=2, seed=seed)
        return [result.config for result in simulated(tmp_path, space, name=name, tune_config=config).fit()]

    np.random.seed(5)
    first = configs("a")
    np.random.seed(5)
    assert configs("b") == first
    assert configs("c") != first
    assert configs("d", 9) == configs("e", 9) != configs("f", 10)
    assert first[0] != first[1]


# ------------------------------------------------------------------------------------------ names and places


def test_trials_are_named_as_in_ray_tune(tmp_path: Path) -> None:
    space = {"lr": tune.choice([0.01]), "deep": {"n": tune.grid_search([3])}, "plain": 1}
    [result] = simulated(tmp_path, space).fit()
    trial_id = result.metrics["trial_id"]
    assert re.fullmatch(r"[0-9a-f]{5}_00000", trial_id)
    date = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
    assert re.fullmatch(rf"play_{trial_id}_0_n=3,lr=0\.0100_{date}", os.path.basename(result.path))
    assert result.metrics["experiment_tag"] == "0_n=3,lr=0.0100"


def test_creators_get_the_trial_and_long_names_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def name(trial):
        seen.append((trial.trainable_name, trial.config["o"], trial.evaluated_params, trial.trial_id[-1], trial.status))
        return f"named-{trial.config['x']}"

    config = tune.TuneConfig(trial_name_creator=name, trial_dirname_creator=lambda trial: f"dir-{trial}")
    grid = simulated(tmp_path, {"x": tune.grid_search([1, 2]), "o": random.Random}, tune_config=config).fit()
    assert [os.path.basename(result.path) for result in grid] == ["dir-named-1", "dir-named-2"]
    assert seen[0] == ("play", random.Random, {"x": 1}, "0", "PENDING")
    monkeypatch.setenv("TUNE_MAX_LEN_IDENTIFIER", "20")
    [result] = simulated(tmp_path, {"long": tune.grid_search(["v" * 500])}, name="cut").fit()
    assert len(os.path.basename(result.path)) == len("_2026-01-01_00-00-00") + 20


NAMED = """
import sys, holdfast as tune
def train(config): pass
for _ in range(3):
    print(tune.Tuner(train, run_config=tune.RunConfig(storage_path=sys.argv[1]))._handle.storage.root)
"""


def test_default_names_are_unique_though_many_start_in_one_second(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NAMED, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert len(names) == len(set(names)) == 9
    assert all(re.match(r"train_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", os.path.basename(name)) for name in names)


def test_names_without_a_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_DISABLE_DATED_SUBDIR", "1")
    paths = [simulated(tmp_path, name=None).fit().experiment_path for _ in range(2)]
    assert [os.path.basename(path) for path in paths] == ["play", "play_1"]


# ------------------------------------------------------------------------------------------ rows


def test_what_a_function_returns_yields_or_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CPUS", "2")
    side = tmp_path / "side"

    def train(config):
        what = config["what"]
        if what == "zero":
            return 0
        if what == "dict":
            return {"a": np.int64(1), "nested": {"b": (1, np.float32(0.5)), "nan": math.nan, "none": None}}
        if what == "done":
            tune.report({"a": 1, "done": True})
            side.touch()
        if what == "own":
            tune.report({"training_iteration": 42, "time_total_s": 0.25})
        if what == "lock":
            tune.report({"a": 1})
            tune.report({"guard": threading.Lock()})
        if what == "large":
            tune.report({"blob": bytes(100_000_000)})
        if what == "around":
            context = tune.get_context()
            tune.report({"cwd": os.getcwd(), "dir": context.get_trial_dir(), "before": os.environ["TUNE_ORIG_WORKING_DIR"]})
        return None

    def yielding(config):
        yield 1
        yield {"a": 2}
        yield None

    kinds = ["zero", "dict", "done", "own", "lock", "large", "around", "nothing"]
    grid = real(tmp_path, train, {"what": tune.grid_search(kinds)}).fit()
    by = dict(zip(kinds, grid, strict=True))
    assert by["zero"].metrics["_metric"] == 0
    row = by["dict"].metrics
    assert (type(row["a"]), row["nested"]["b"], row["nested"]["none"]) == (int, (1, 0.5), None)
    assert math.isnan(row["nested"]["nan"])
    assert by["done"].metrics["done"] is True
    assert not side.exists()
    assert (by["own"].metrics["training_iteration"], by["own"].metrics["time_total_s"]) == (42, 0.25)
    assert by["nothing"].metrics["trial_id"]
    assert by["nothing"].config == {"what": "nothing"}
    assert [type(by[kind].error) for kind in ("lock", "large")] == [ReportRefused, ReportRefused]
    assert "cannot be pickled" in str(by["lock"].error)
    assert by["lock"].metrics["a"] == 1
    assert "16 MiB" in str(by["large"].error)
    around = by["around"]
    assert around.metrics["cwd"] == around.metrics["dir"] == around.path
    assert around.metrics["before"] == os.getcwd()
    assert [by[kind].error for kind in kinds if kind not in ("lock", "large")] == [None] * 6
    [result] = real(tmp_path, yielding, name="yields").fit()
    assert list(result.metrics_dataframe["training_iteration"]) == [1, 2]
    assert result.metrics["a"] == 2


def test_trials_can_keep_the_drivers_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    [result] = real(tmp_path, lambda config: {"cwd": os.getcwd()}).fit()
    assert result.metrics["cwd"] == os.getcwd()


def test_workers_are_used_again_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CPUS", "2")
    for reuse, limit, expected in ((True, 1, 1), (False, 1, 3)):
        config = tune.TuneConfig(num_samples=3, reuse_actors=reuse, max_concurrent_trials=limit)
        grid = real(tmp_path, lambda config: {"worker": os.getpid()}, name=f"reuse-{reuse}", tune_config=config).fit()
        assert len({result.metrics["worker"] for result in grid}) == expected


# ------------------------------------------------------------------------------------------ stopping


class StopAllAt(Stopper):
    """Ends everything at the n-th row."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, trial_id, result):
        self.left -= 1
        return False

    def stop_all(self):
        return self.left <= 0


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ({"training_iteration": 2}, [2, 2]),
        ({"deep/i": 2}, [3, 3]),
        ({"score": 5, "training_iteration": 4}, [4, 3]),
        (lambda trial_id, result: result["deep"]["i"] == 1, [2, 2]),
        (MaximumIterationStopper(4), [4, 4]),
        ([MaximumIterationStopper(4), MaximumIterationStopper(3)], [3, 3]),
        (StopAllAt(5), None),
    ],
)
def test_stop_rules(tmp_path: Path, stop, expected: list[int] | None) -> None:
    grid = simulated(tmp_path, {"x": tune.grid_search([1.0, 2.0])}, stop=stop).fit()
    assert grid.num_terminated == 2
    if expected is None:
        assert 5 <= sum(rows(grid)) <= 6  # the other trial ends with its next row
    else:
        assert rows(grid) == expected
    assert rows(restored(tmp_path).fit()) == rows(grid)


def test_a_stop_rule_on_an_unknown_key_warns_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert rows(simulated(tmp_path, stop={"los": 1}).fit()) == [6]
    assert [str(warning.message).split(";")[0] for warning in caught] == ["stop= names 'los', which no row holds so far"]


def test_a_time_budget_counts_experiment_time_over_drivers(tmp_path: Path) -> None:
    marker = tmp_path / "stopped"
    config = tune.TuneConfig(num_samples=-1, time_budget_s=datetime.timedelta(seconds=15))
    with pytest.raises(ZeroDivisionError):
        simulated(tmp_path, tune_config=config, workers=1, callbacks=[Trouble(marker, 9)]).fit()
    before = state_of(tmp_path).time
    assert 8 <= before <= 10
    grid = restored(tmp_path).fit()
    assert 15 <= state_of(tmp_path).time <= 17
    assert state_of(tmp_path).stopping == "budget"
    assert len(restored(tmp_path).fit()) == len(grid)


def test_samples_without_end_run_until_a_stopper_says_so(tmp_path: Path) -> None:
    grid = simulated(tmp_path, {"x": tune.uniform(0, 1)}, tune_config=tune.TuneConfig(num_samples=-1), stop=StopAllAt(20)).fit()
    assert 3 <= len(grid) <= 7
    assert 20 <= sum(rows(grid)) <= 21


def test_max_concurrent_trials_bounds_a_larger_engine_also_after_a_restore(tmp_path: Path) -> None:
    class Count(tune.Callback):
        def __init__(self) -> None:
            self.running, self.most = set(), 0

        def on_trial_start(self, iteration, trials, trial, **info):
            self.running.add(trial.trial_id)
            self.most = max(self.most, len(self.running))

        def on_trial_complete(self, iteration, trials, trial, **info):
            self.running.discard(trial.trial_id)

    count = Count()
    config = tune.TuneConfig(num_samples=6, max_concurrent_trials=2)
    assert len(simulated(tmp_path, tune_config=config, workers=8, callbacks=[count]).fit()) == 6
    assert (count.most, count.running) == (2, set())  # the user's own instance, readable after fit


# ------------------------------------------------------------------------------------------ callbacks


def test_in_place_changes_reach_loggers_results_and_restores(tmp_path: Path) -> None:
    order: list[str] = []

    class Change(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            order.append("first")
            result["doubled"] = result["score"] * 2

    class See(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            order.append(f"second {result['doubled']}")

    grid = simulated(tmp_path, callbacks=[Change(), See()]).fit()
    assert order[:4] == ["first", "second 2.0", "first", "second 4.0"]
    lines = [json.loads(line) for line in Path(grid[0].path, "result.json").read_text().splitlines()]
    assert [line["doubled"] for line in lines] == [2.0 * (i + 1) for i in range(6)]
    for it in (grid, restored(tmp_path).get_results()):
        assert it[0].metrics["doubled"] == 12.0
        assert list(it[0].metrics_dataframe["doubled"]) == [line["doubled"] for line in lines]


def test_a_callback_remembers_and_hears_again_what_it_may_have_missed(tmp_path: Path) -> None:
    log = tmp_path / "heard"

    class Remember(tune.Callback):
        def __init__(self) -> None:
            self.scores: list[float] = []

        def setup(self, stop=None, num_samples=None, total_num_samples=None, **info):
            with log.open("a") as file:
                file.write("setup\n")

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self.scores.append(result["score"])
            with log.open("a") as file:
                file.write(f"{result['score']}{' again' if info.get('repeated') else ''}\n")

        def on_experiment_end(self, trials, **info):
            with log.open("a") as file:
                file.write(f"{self.scores}\n")

        def get_state(self):
            return {"scores": list(self.scores)}

        def set_state(self, state):
            self.scores = list(state["scores"])

    with pytest.raises(ZeroDivisionError):
        simulated(tmp_path, callbacks=[Remember(), Trouble(tmp_path / "stopped", 3)]).fit()
    assert not (tmp_path / "exp" / "journal" / "snapshots").exists()  # a row was not decided: no moment for one
    restored(tmp_path).fit()
    heard = log.read_text().splitlines()
    assert heard[:4] == ["setup", "1.0", "2.0", "3.0"]
    assert heard[4] == "setup"
    assert "3.0 again" in heard
    assert heard[-1] == str([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert (tmp_path / "exp" / "journal" / "snapshots").exists()


def test_the_driver_ends_with_a_callbacks_own_error_wherever_it_is_raised(tmp_path: Path) -> None:
    for method in ("setup", "on_step_begin", "on_trial_start", "on_checkpoint", "on_trial_complete", "on_experiment_end"):

        class Raises(tune.Callback):
            """Raises in one method while the file `mended` is not there."""

        def trouble(self, *args, method=method, **info):
            if not (tmp_path / f"mended-{method}").exists():
                raise ZeroDivisionError(method)

        setattr(Raises, method, trouble)
        (tmp_path / method).mkdir()
        with pytest.raises(ZeroDivisionError, match=method):
            simulated(tmp_path / method, callbacks=[Raises()]).fit()
        (tmp_path / f"mended-{method}").touch()
        grid = restored(tmp_path / method).fit()
        assert (rows(grid), grid.num_terminated) == ([6], 1)


# ------------------------------------------------------------------------------------------ restoring


def test_fit_on_a_finished_experiment_runs_nothing(tmp_path: Path) -> None:
    made = simulated(tmp_path, {"x": tune.grid_search([1.0, 2.0])})
    grid = made.fit()
    before = len(list(read(LocalStorage(str(tmp_path / "exp")))))
    for again in (made.fit(), restored(tmp_path).fit(), made.get_results()):
        assert [result.metrics["score"] for result in again] == [result.metrics["score"] for result in grid]
    assert len(list(read(LocalStorage(str(tmp_path / "exp"))))) == before


def test_changed_code_is_accepted_and_on_record(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        simulated(tmp_path, callbacks=[Trouble(tmp_path / "stopped", 3)]).fit()
    before = state_of(tmp_path).definitions

    def changed(config, state=None):
        yield {"score": -1.0}

    changed._name = "play"
    assert restored(tmp_path, changed).fit()[0].metrics["score"] == -1.0
    after = state_of(tmp_path).definitions
    assert after["trainable"] != before["trainable"]
    assert after["job"] == before["job"]


def test_unfinished_trials_may_be_left_with_what_they_have_and_the_rest_still_comes(tmp_path: Path) -> None:
    config = tune.TuneConfig(num_samples=4)
    with pytest.raises(ZeroDivisionError):
        simulated(tmp_path, tune_config=config, callbacks=[Trouble(tmp_path / "stopped", 6)]).fit()
    grid = restored(tmp_path, resume_unfinished=False).fit()
    assert (len(grid), grid.num_terminated) == (4, 4)
    assert rows(grid) == [3, 3, 0, 6]  # two ran, one waited, and one was not suggested yet


def test_finished_trials_may_be_run_again(tmp_path: Path) -> None:
    kind = tune.ResumeConfig.ResumeType
    first = simulated(tmp_path, stop={"training_iteration": 3}).fit()
    assert rows(first) == [3]
    again = restored(tmp_path, resume_config=tune.ResumeConfig(finished=kind.RESTART)).fit()
    assert rows(again) == [3]
    assert again[0].path == f"{first[0].path}_restart1"
    assert state_of(tmp_path).at(0).attempt == 2


class Entropy(TrialScheduler):
    """Decides by what the operating system throws."""

    own_chance = True

    def on_trial_result(self, tune_controller, trial, result):
        return random.SystemRandom().choice([self.CONTINUE] * 3 + [self.STOP])


def drawing(log: Path):
    """A searcher that draws from the operating system and writes down what it has been given as its own."""

    class Drawing(Searcher):
        def __init__(self) -> None:
            super().__init__()
            self.mine: dict[str, float] = {}

        def suggest(self, trial_id):
            self.mine[trial_id] = random.SystemRandom().random()
            return {"x": self.mine[trial_id]}

        def adopt(self, trial_id, config):
            self.mine[trial_id] = config["x"]

        def on_trial_complete(self, trial_id, result=None, error=False):
            log.write_text(json.dumps(self.mine))

    return Drawing()


def test_answers_on_record_stand_though_the_plugins_would_give_others(tmp_path: Path) -> None:
    def answers() -> list:
        events = [record.event for record in read(LocalStorage(str(tmp_path / "exp")))]
        return [
            (event.trial_id, event.config if isinstance(event, TrialSuggested) else (event.number, event.action))
            for event in events
            if isinstance(event, (TrialSuggested, DecisionMade))
        ]

    log = tmp_path / "mine"
    config = tune.TuneConfig(
        metric="score", mode="max", num_samples=12, scheduler=Entropy(), search_alg=drawing(log), max_concurrent_trials=2
    )
    with pytest.raises(ZeroDivisionError):
        simulated(tmp_path, tune_config=config, callbacks=[Trouble(tmp_path / "stopped", 16)]).fit()
    before = answers()
    assert "holdfast-searcher" not in [thread.name for thread in threading.enumerate()]
    grid = restored(tmp_path).fit()
    assert answers()[: len(before)] == before
    assert "holdfast-searcher" not in [thread.name for thread in threading.enumerate()]
    assert len(grid) == 12
    mine = json.loads(log.read_text())
    assert mine == {result.metrics["trial_id"]: result.config["x"] for result in grid}
    found = state_of(tmp_path).inexact
    assert [wrong.plugin for wrong in found].count("searcher") == 1
    first = next(record for record in read(LocalStorage(str(tmp_path / "exp"))) if isinstance(record.event, TrialSuggested))
    searcher = next(wrong for wrong in found if wrong.plugin == "searcher")
    assert searcher.position == first.position
    assert "did not repeat" in searcher.detail


KILLED = """
import os, signal, sys, holdfast as tune
def train(config): return {"x": config["x"]}
run = tune.RunConfig(name="exp", storage_path=sys.argv[1])
tuner = tune.Tuner(train, param_space={"x": tune.grid_search([1, 2])}, run_config=run)
if sys.argv[2] == "made":
    os.kill(os.getpid(), signal.SIGKILL)
tuner.fit()
"""


@pytest.mark.parametrize("moment", ["made", "after_claim", "after_append", "before_dispatch"])
def test_a_driver_killed_before_its_first_trial_can_be_restored(tmp_path: Path, moment: str) -> None:
    faults = {} if moment == "made" else {"HOLDFAST_FAULTS": f"{moment}=kill"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    killed = subprocess.run(command, env={**os.environ, **faults}, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert tune.Tuner.can_restore(tmp_path / "exp")

    def train(config):
        return {"x": config["x"]}

    with pytest.raises(ExperimentExists, match="Go on with it"):
        real(tmp_path, train).fit()  # it is another process's, though it never ran
    grid = tune.Tuner.restore(tmp_path / "exp", train).fit()
    assert [result.metrics["x"] for result in grid] == [1, 2]


def failing(config, state=None):
    """Three rows, then an error."""
    yield from ({"score": i} for i in range(3))
    raise LookupError(f"no luck with {config['x']}")


@pytest.mark.parametrize("fail_fast", [True, "raise"])
def test_fail_fast_ends_the_experiment_which_can_go_on_later(tmp_path: Path, fail_fast) -> None:
    failures = tune.FailureConfig(fail_fast=fail_fast)
    made = simulated(tmp_path, {"x": tune.grid_search([1, 2])}, trainable=failing, workers=1, failure_config=failures)
    if fail_fast == "raise":
        with pytest.raises(LookupError, match="no luck with 1"):
            made.fit()
    else:
        assert [type(error) for error in made.fit().errors] == [LookupError]
    assert (state_of(tmp_path).ended, state_of(tmp_path).unfinished) == ("fail_fast", 1)

    def failing_no_more(config, state=None):
        yield {"score": 7}

    failing_no_more._name = "failing"
    grid = restored(tmp_path, failing_no_more).fit()
    assert [(result.metrics["score"], type(result.error)) for result in grid] == [(2, LookupError), (7, type(None))]


def test_without_fail_fast_a_failed_trial_raises_nothing(tmp_path: Path) -> None:
    grid = simulated(tmp_path, {"x": tune.grid_search([1, 2])}, trainable=failing).fit()
    assert (grid.num_errors, [str(error) for error in grid.errors]) == (2, ["no luck with 1", "no luck with 2"])
    assert "LookupError" in Path(grid[0].path, "error.txt").read_text()


def test_the_same_tuner_goes_on_after_it_was_interrupted(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path / "stopped", 3)
    made = simulated(tmp_path, callbacks=[trouble])
    with pytest.raises(ZeroDivisionError):
        made.fit()
    assert rows(made.get_results()) == [3]
    assert rows(made.fit()) == [6]
    assert trouble.left < 0  # the user's own instance went on


def test_a_strict_experiment_runs_as_well(tmp_path: Path) -> None:
    assert rows(simulated(tmp_path, durability="strict").fit()) == [6]


def test_a_searcher_that_waits_is_asked_again(tmp_path: Path) -> None:
    from holdfast.search import BasicVariantGenerator

    config = tune.TuneConfig(num_samples=3, search_alg=BasicVariantGenerator(max_concurrent=1))
    assert rows(simulated(tmp_path, tune_config=config, workers=4).fit()) == [6, 6, 6]


def test_output_goes_where_it_was_asked_to(tmp_path: Path) -> None:
    def train(config):
        print("said")
        print("sighed", file=sys.stderr)
        return {"a": 1}

    [result] = real(tmp_path, train, log_to_file=("out.txt", "err.txt")).fit()
    assert [Path(result.path, name).read_text() for name in ("out.txt", "err.txt")] == ["said\n", "sighed\n"]


# ------------------------------------------------------------------------------------------ where fit() works


def test_fit_works_off_the_main_thread_twice_at_once_and_in_a_running_loop(tmp_path: Path) -> None:
    def train(config):
        return {"x": config["x"]}

    found: dict[str, list[int]] = {}

    def fit(name: str) -> None:
        grid = real(tmp_path, train, {"x": tune.grid_search([1, 2])}, name=name).fit()
        found[name] = [result.metrics["x"] for result in grid]

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads = [threading.Thread(target=fit, args=(f"thread{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    async def main() -> None:
        fit("loop")

    asyncio.run(main())
    assert found == {"thread0": [1, 2], "thread1": [1, 2], "loop": [1, 2]}
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_fit_works_inside_a_trial(tmp_path: Path) -> None:
    def inner(config):
        return {"y": config["y"] * 10}

    def outer(config):
        run = tune.RunConfig(name="inner", storage_path=tmp_path, verbose=0)
        grid = tune.Tuner(inner, param_space={"y": tune.grid_search([1, 2])}, run_config=run).fit()
        tune.report({"sum": sum(result.metrics["y"] for result in grid), "name": tune.get_context().get_experiment_name()})

    [result] = real(tmp_path, outer).fit()
    assert result.error is None
    assert (result.metrics["sum"], result.metrics["name"]) == (30, "exp")


# ------------------------------------------------------------------------------------------ damage


def test_a_damaged_checkpoint_gives_way_to_the_one_before_at_no_cost(tmp_path: Path) -> None:
    def train(config):
        checkpoint = tune.get_checkpoint()
        start = int(Path(checkpoint.path, "i").read_text()) + 1 if checkpoint else 0
        with (tmp_path / "executed").open("a") as file:
            file.write(f"{start} ")
        for i in range(start, 4):
            Path("state").mkdir(exist_ok=True)
            Path("state", "i").write_text(str(i))
            tune.report({"score": i}, checkpoint=tune.Checkpoint("state"))
            if i == 2 and start == 0:
                Path("checkpoint_000002", "i").write_text("9")
                raise ValueError("no luck")

    [result] = real(tmp_path, train, failure_config=tune.FailureConfig(max_failures=1)).fit()
    assert result.error is None
    assert (tmp_path / "executed").read_text().split() == ["0", "2"]
    assert list(result.metrics_dataframe["score"]) == [0, 1, 2, 3]
