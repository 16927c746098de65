"""Asking for more: what an extension does to an experiment, and what is refused before anything is written."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

import holdfast as tune
from holdfast._core.events import JobExtended, TrialSuggested
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import (
    ConfigError,
    ExperimentNotFound,
    JobChanged,
    NothingToGoOnFrom,
    NotOnInstance,
    SearchSpaceError,
)
from holdfast.schedulers import ASHAScheduler
from holdfast.search import BasicVariantGenerator, Searcher
from holdfast.storage.local import LocalStorage
from holdfast.testing import check_history


def train(config, state=None):
    """Rows for ever, a checkpoint with every second."""
    for number in range((state or {"n": 0})["n"] + 1, 100):
        row = {"score": config["x"] * number, "n": number}
        yield (row, {"n": number}) if number % 2 == 0 else row


def bare(config):
    """Rows for ever and no checkpoint."""
    for number in range(1, 100):
        yield {"score": config["x"] * number, "n": number}


def short(config, state=None):
    """Three rows, then it returns."""
    for number in range((state or {"n": 0})["n"] + 1, 4):
        yield {"score": config["x"] * number, "n": number}, {"n": number}


SPACE = {"x": tune.uniform(0, 1), "fixed": 7}
STOP = {"training_iteration": 4}


def finished(path, trainable=train, *, space=SPACE, run=None, **config: Any) -> Path:
    """An experiment that has come to its end."""
    settings = {"num_samples": 2, "metric": "score", "mode": "max", "seed": 3, **config}
    tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(**settings),
        run_config=tune.RunConfig(
            name="exp", storage_path=path, verbose=0, engine=SimulatedEngine(workers=2), **{"stop": STOP, **(run or {})}
        ),
    ).fit()
    return Path(path, "exp")


def extend(path, trainable=train, **wish: Any) -> tune.Tuner:
    return tune.Tuner.extend(path, trainable, engine=SimulatedEngine(workers=2), **wish)


def numbers(results) -> list[list[int]]:
    return [list(result.metrics_dataframe["n"]) for result in results]


def configs(results) -> list[float]:
    return [result.config["x"] for result in results]


def files(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


def test_finished_trials_go_on_and_new_samples_come(tmp_path) -> None:
    path = finished(tmp_path)
    before = configs(tune.Tuner.restore(path, train).get_results())
    results = extend(path, num_samples=2, stop={"training_iteration": 7}).fit()
    assert numbers(results) == [list(range(1, 8))] * 4
    assert configs(results)[:2] == before
    whole = finished(tmp_path / "whole", num_samples=4, run={"stop": {"training_iteration": 7}})
    assert configs(results) == configs(tune.Tuner.restore(whole, train).get_results()), "the next draws, not others"
    assert check_history(LocalStorage(str(path))) == []


def test_it_is_on_record_once_and_a_restore_knows_it(tmp_path) -> None:
    path = finished(tmp_path)
    tuner = extend(path, stop={"training_iteration": 6})
    first = tuner.fit()
    assert numbers(tuner.fit()) == numbers(first)
    assert numbers(tune.Tuner.restore(path, train).fit()) == numbers(first) == [list(range(1, 7))] * 2
    recorded = [record.event for record in read(LocalStorage(str(path))) if isinstance(record.event, JobExtended)]
    assert [event.changed for event in recorded] == [{"stop": f"{STOP} became {{'training_iteration': 6}}"}]


def test_extended_twice(tmp_path) -> None:
    path = finished(tmp_path)
    extend(path, num_samples=1).fit()
    results = extend(path, num_samples=1, stop={"n": 8}).fit()
    assert numbers(results) == [list(range(1, 9))] * 4
    assert load_state(LocalStorage(str(path))).policy.num_samples == 4


def test_nothing_is_written_before_fit(tmp_path) -> None:
    path = finished(tmp_path)
    before = files(path)
    extend(path, num_samples=1, stop={"training_iteration": 9})
    assert files(path) == before


def test_files_of_trials_go_on(tmp_path) -> None:
    path = finished(tmp_path)
    results = extend(path, stop={"training_iteration": 6}).fit()
    for result in results:
        assert len(Path(result.path, "result.json").read_text().splitlines()) == 6
        assert len(Path(result.path, "progress.csv").read_text().splitlines()) == 7


def test_from_a_snapshot_it_is_the_same(tmp_path) -> None:
    """The stop rule that holds behind a snapshot is that of the extended job."""
    path = finished(tmp_path, run={"callbacks": [Remembering()]})
    extend(path, stop={"training_iteration": 6}).fit()
    results = extend(path, num_samples=1).fit()
    assert numbers(results) == [list(range(1, 7))] * 3
    assert list((path / "journal" / "snapshots").iterdir())


class Remembering(tune.Callback):
    """Has a memory, so that each orderly end has a snapshot."""

    def get_state(self):
        return {"any": "thing"}


def test_a_trial_that_has_reached_the_new_bounds_stays_as_it_is(tmp_path) -> None:
    path = finished(tmp_path)
    results = extend(path, num_samples=1, stop={"training_iteration": 2}).fit()
    assert numbers(results) == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2]]


def test_a_trial_that_returned_by_itself_stays_as_it_is(tmp_path) -> None:
    path = finished(tmp_path, short, run={"stop": {"n": 50}})
    results = extend(path, short, stop={"n": 60}, num_samples=1).fit()
    assert numbers(results) == [[1, 2, 3]] * 3


def test_other_rules_that_would_change_nothing_are_refused_and_why_is_said(tmp_path) -> None:
    path = finished(tmp_path / "a", short, run={"stop": {"n": 50}})
    before = files(path)
    with pytest.raises(ConfigError, match=r"change nothing: no trial goes on with other stop \(they ended: 2 by themselves\)"):
        extend(path, short, stop={"n": 60})
    assert files(path) == before
    path = finished(tmp_path / "b", num_samples=4, scheduler=ASHAScheduler(max_t=4, grace_period=2, reduction_factor=2))
    with pytest.raises(ConfigError, match="by the scheduler"):
        extend(path, stop={"training_iteration": 2})
    assert load_state(LocalStorage(str(path))).extensions == []


def test_a_trial_that_the_scheduler_had_stopped_stays_as_it_is(tmp_path) -> None:
    path = finished(tmp_path, num_samples=6, scheduler=ASHAScheduler(max_t=100, grace_period=2, reduction_factor=2))
    before = numbers(tune.Tuner.restore(path, train).get_results())
    after = numbers(extend(path, stop={"training_iteration": 6}).fit())
    assert {len(rows) for rows in before} == {2, 4}
    assert all(new == old if len(old) == 2 else len(new) > 4 for old, new in zip(before, after, strict=True))
    assert max(map(len, after)) == 6


def test_a_stopper_takes_the_place_of_bounds(tmp_path) -> None:
    path = finished(tmp_path)
    results = extend(path, stop=tune.stopper.MaximumIterationStopper(3)).fit()
    assert [len(rows) for rows in numbers(results)] == [7, 7], "it counts the rows that it hears"
    results = extend(path, stop=lambda trial_id, result: result["n"] >= 9).fit()
    assert [len(rows) for rows in numbers(results)] == [9, 9]
    assert [len(rows) for rows in numbers(extend(path, stop={"n": 11}).fit())] == [11, 11]


def test_a_larger_budget_of_time(tmp_path) -> None:
    path = finished(tmp_path, num_samples=3, time_budget_s=5.5, run={"stop": {"n": 10}})
    before = numbers_or_none(path)
    with pytest.raises(ConfigError, match=r"time budget of 5\.5 s was spent: give time_budget_s= too"):
        extend(path, num_samples=1)
    for less in (5.5, 3, datetime.timedelta(seconds=4)):
        with pytest.raises(ConfigError, match="give more than both" if less != 5.5 else "asked for nothing"):
            extend(path, time_budget_s=less)
    results = extend(path, time_budget_s=datetime.timedelta(seconds=1000)).fit()
    assert before != [10, 10, 10]
    assert [len(rows) for rows in numbers(results)] == [10, 10, 10]


def numbers_or_none(path) -> list[int]:
    return [trial.mark for trial in load_state(LocalStorage(str(path))).trials.values()]


def test_what_has_no_checkpoint_is_named(tmp_path) -> None:
    path = finished(tmp_path, bare)
    before = files(path)
    with pytest.raises(NothingToGoOnFrom, match="from_scratch_ok=True") as found:
        extend(path, bare, stop={"training_iteration": 6})
    assert len(found.value.trial_ids) == 2
    assert files(path) == before
    results = extend(path, bare, stop={"training_iteration": 6}, from_scratch_ok=True).fit()
    assert numbers(results) == [list(range(1, 7))] * 2
    assert check_history(LocalStorage(str(path))) == []
    assert len(extend(path, bare, num_samples=1).fit()) == 3, "new samples need no checkpoint of old ones"


def test_a_new_space_is_where_new_samples_come_from(tmp_path) -> None:
    path = finished(tmp_path)
    results = extend(path, num_samples=2, new_space={"x": tune.uniform(5, 6), "fixed": 8}).fit()
    assert [result.config["fixed"] for result in results] == [7, 7, 8, 8]
    assert [x > 5 for x in configs(results)] == [False, False, True, True]
    again = extend(path, num_samples=1).fit()
    assert configs(again)[4] > 5
    assert len(set(configs(again))) == 5


def test_grids_are_tried_over_again(tmp_path) -> None:
    path = finished(tmp_path, space={"x": tune.grid_search([1, 2, 3])}, num_samples=1)
    assert sorted(configs(extend(path, num_samples=1).fit())) == [1, 1, 2, 2, 3, 3]
    results = extend(path, num_samples=1, new_space={"x": tune.grid_search([7, 8])}).fit()
    assert configs(results)[6:] == [7, 8]


def test_points_do_not_swallow_new_samples(tmp_path) -> None:
    search = BasicVariantGenerator(points_to_evaluate=[{"x": 0.5}, {"x": 0.25}, {"x": 0.125}])
    path = finished(tmp_path, search_alg=search, num_samples=2)
    results = extend(path, num_samples=1).fit()
    assert len(results) == 4
    assert configs(results)[:3] == [0.5, 0.25, 0.125]


class Listed(Searcher):
    """Gives what stands in a list, which an extension makes longer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = [1.0, 2.0]
        self.learned: list[tuple[str, float]] = []

    def set_search_properties(self, metric, mode, config, **spec):
        return True

    def extend(self, num_samples, space):
        self.left += [float(len(self.learned))] * num_samples
        return True

    def suggest(self, trial_id):
        return {"x": self.left.pop(0)} if self.left else self.FINISHED

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.learned.append((trial_id, result["score"]))


def test_a_users_searcher_hears_of_it_and_knows_all_results(tmp_path) -> None:
    path = finished(tmp_path, space={}, search_alg=Listed(), num_samples=-1)
    with pytest.raises(ConfigError, match="no bound of samples"):
        extend(path, num_samples=1)
    path = finished(tmp_path / "bounded", space={}, search_alg=Listed(), num_samples=9)
    assert configs(extend(path, num_samples=2).fit()) == [1.0, 2.0, 2.0, 2.0]


def test_without_an_end_a_new_space_takes_over(tmp_path) -> None:
    space = {"x": tune.uniform(0, 1)}
    path = finished(tmp_path, space=space, num_samples=-1, time_budget_s=7)
    before = len(configs(tune.Tuner.restore(path, train).get_results()))
    after = configs(extend(path, time_budget_s=14, new_space={"x": tune.uniform(5, 6)}).fit())
    assert {x > 5 for x in after[before:]} == {True}
    assert {x < 1 for x in after[:before]} == {True}


def test_optuna_goes_on_with_all_that_it_knows(tmp_path) -> None:
    from holdfast.search.optuna import OptunaSearch

    space = {"x": tune.uniform(0, 1), "kind": tune.choice(["a", "b"])}
    path = finished(tmp_path, space=space, search_alg=OptunaSearch(), num_samples=12)
    results = extend(path, num_samples=3).fit()
    assert sum(configs(results)[12:]) / 3 > 0.8, "it has learned from the first twelve that more is better"
    wider = extend(path, num_samples=4, new_space={**space, "x": tune.uniform(3, 4)}).fit()
    assert all(3 <= x <= 4 for x in configs(wider)[15:])
    with pytest.raises(SearchSpaceError, match="new_space changes 'kind'"):
        extend(path, num_samples=1, new_space={**space, "kind": tune.choice(["a", "c"])})
    own = finished(tmp_path / "own", space={}, search_alg=OptunaSearch({"x": tune.uniform(0, 1)}), num_samples=2)
    with pytest.raises(ConfigError, match="cannot be extended so"):
        extend(own, num_samples=1, new_space={})


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({}, "asked for nothing"),
        ({"stop": dict(STOP)}, "asked for nothing"),
        ({"num_samples": -1}, "a whole number"),
        ({"num_samples": 1.5}, "a whole number"),
        ({"num_samples": True}, "a whole number"),
        ({"num_samples": "2"}, "a whole number"),
        ({"time_budget_s": 5}, "no budget of time"),
        ({"time_budget_s": "soon"}, "positive number of seconds"),
        ({"stop": 7}, "a dictionary of bounds"),
        ({"stop": {"n": "many"}}, "a number that the metric is to reach"),
        ({"stop": lambda: True}, "two arguments|takes"),
        ({"new_space": {"x": tune.uniform(2, 3), "fixed": 1}}, "say how many"),
        ({"num_samples": 1, "new_space": {"y": tune.uniform(2, 3)}}, "added .'y'., missing .'fixed', 'x'."),
        ({"num_samples": 1, "new_space": [1]}, "must be a dictionary"),
        ({"num_samples": 1, "param_space": {"x": 1}}, "other keys"),
    ],
)
def test_what_cannot_be_is_refused_with_nothing_written(tmp_path, wish, says) -> None:
    path = finished(tmp_path)
    before = files(path)
    with pytest.raises(ConfigError, match=says):
        extend(path, **wish)
    assert files(path) == before


def test_the_trainable_and_the_place_are_looked_at_as_in_a_restore(tmp_path) -> None:
    path = finished(tmp_path)
    with pytest.raises(JobChanged, match="submitted with the trainable 'train'"):
        extend(path, short, num_samples=1)
    with pytest.raises(ExperimentNotFound):
        extend(tmp_path / "elsewhere", num_samples=1)
    with pytest.raises(NotOnInstance, match="extend is called on the class"):
        _ = tune.Tuner.restore(path, train).extend


def test_two_that_ask_at_once_do_not_mix(tmp_path) -> None:
    path = finished(tmp_path)
    one, other = extend(path, num_samples=1), extend(path, num_samples=2)
    one.fit()
    with pytest.raises(JobChanged, match="extended meanwhile"):
        other.fit()
    assert len(tune.Tuner.restore(path, train, engine=SimulatedEngine()).fit()) == 3
    assert len(extend(path, num_samples=2).fit()) == 5


class StopsTheDriver(tune.Callback):
    """Raises at a third row, once in a directory."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["n"] == 3 and not self.flag.exists():
            self.flag.touch()
            raise RuntimeError("the driver ends here")


def test_an_experiment_that_is_not_finished_is_extended_too(tmp_path) -> None:
    """A row that waits for its decision is decided by the rule that held when it was reported; then the new one holds."""
    for bound in (3, 4):
        where = tmp_path / str(bound)
        where.mkdir()
        with pytest.raises(RuntimeError, match="ends here"):
            finished(where, run={"callbacks": [StopsTheDriver(where / "flag")], "stop": {"training_iteration": bound}})
        assert numbers_or_none(where / "exp") == [2, 2]
        results = extend(where / "exp", num_samples=1, stop={"training_iteration": 6}).fit()
        assert numbers(results) == [list(range(1, 7))] * 3
        assert check_history(LocalStorage(str(where / "exp"))) == []


def test_one_script_that_resumes_accepts_the_extended_experiment(tmp_path) -> None:
    path = finished(tmp_path)
    extend(path, num_samples=1).fit()
    again = tune.Tuner(
        train,
        param_space=SPACE,
        tune_config=tune.TuneConfig(num_samples=2, metric="score", mode="max", seed=3),
        run_config=tune.RunConfig(
            name="exp", storage_path=tmp_path, verbose=0, stop=STOP, if_exists="resume", engine=SimulatedEngine(workers=2)
        ),
    )
    assert len(again.fit()) == 3


def test_a_function_in_the_new_space_is_asked_when_all_before_it_is_written(tmp_path) -> None:
    path = finished(tmp_path)

    def last_on_disk(spec):
        return max(record.position for record in read(LocalStorage(str(path))))

    space = {"x": tune.uniform(2, 3), "fixed": tune.sample_from(last_on_disk)}
    results = extend(path, num_samples=4, new_space=space).fit()
    heard = [record.event.heard for record in read(LocalStorage(str(path))) if isinstance(record.event, TrialSuggested)]
    assert all(result.config["fixed"] >= position for result, position in list(zip(results, heard, strict=True))[2:])
