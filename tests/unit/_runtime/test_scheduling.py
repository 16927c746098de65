"""What a scheduler may order, and what it is told and asked, in experiments that it runs."""

from __future__ import annotations

import time

import pytest

from holdfast import CheckpointConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner
from holdfast._core.events import AttemptLost, DecisionMade, SchedulerOrdered, TrialChosen
from holdfast._journal import read
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import ConfigError
from holdfast.schedulers import TrialScheduler
from holdfast.search import Searcher
from holdfast.storage.local import LocalStorage
from holdfast.testing.history import check_history


def train(config, state):
    done, total = state or (0, 0.0)
    for step in range(done + 1, 7):
        total += config["lr"]
        yield {"score": total}, (step, total)


class Listening(TrialScheduler):
    """Writes down what it is told; its subclasses order."""

    own_chance = True

    def __init__(self, **tables) -> None:
        self.told = []
        self.orders = tables

    def on_trial_result(self, tune_controller, trial, result):
        iteration, number = result["training_iteration"], int(trial.trial_id[-1])
        what = self.orders.get(f"t{number}_{iteration}")
        return what(tune_controller, trial) or self.CONTINUE if what else self.CONTINUE

    def on_trial_complete(self, tune_controller, trial, result):
        self.told.append(("complete", trial.trial_id[-1]))

    def on_trial_remove(self, tune_controller, trial):
        self.told.append(("remove", trial.trial_id[-1]))


class Counting(Searcher):
    def __init__(self) -> None:
        super().__init__()
        self.count, self.heard = 0, []

    def set_search_properties(self, metric, mode, config, **spec):
        return True

    def suggest(self, trial_id):
        self.count += 1
        return {"lr": self.count / 10}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.heard.append(("complete", trial_id[-1], result is None))

    def on_pause(self, trial_id):
        self.heard.append(("pause", trial_id[-1]))


def fit(path, scheduler, workers=2, trials=2, search_alg=None, **run):
    tune = TuneConfig(
        metric="score", mode="max", num_samples=trials, scheduler=scheduler, seed=3, search_alg=search_alg or Counting()
    )
    run = RunConfig(storage_path=str(path), name="exp", engine=SimulatedEngine(workers), verbose=0, **run)
    results = Tuner(train, tune_config=tune, run_config=run).fit()
    storage = LocalStorage(str(path / "exp"))
    assert check_history(storage) == []
    return results, [record.event for record in read(storage)]


def trial(view, number):
    return next(it for it in view.get_trials() if it.trial_id.endswith(str(number)))


def test_the_worse_goes_on_from_the_better(tmp_path) -> None:
    def exploit(view, worse):
        view.change_trial(worse, {**worse.config, "lr": 1.0}, donor=trial(view, 1), tag="changed")
        return "PAUSE"

    results, events = fit(tmp_path, Listening(t0_3=exploit), checkpoint_config=CheckpointConfig(num_to_keep=1))
    rows = results[0].metrics_dataframe
    assert results[0].config == {"lr": 1.0}
    iterations, scores = rows["training_iteration"].tolist(), rows["score"].tolist()
    assert scores[3] == pytest.approx(0.2 * (iterations[3] - 1) + 1.0), "it went on from a checkpoint of the donor's, at its row"
    assert iterations[:3] == [1, 2, 3]
    assert iterations[-1] == 6
    tags = rows["experiment_tag"].tolist()
    assert tags == [tags[0]] * 3 + ["changed"] * (len(tags) - 3)
    assert sum(len(event.orders) for event in events if isinstance(event, DecisionMade)) == iterations.count(3)


def test_a_change_pauses_the_trial_whose_row_it_is_about(tmp_path) -> None:
    results, _ = fit(tmp_path, Listening(t0_2=lambda view, it: view.change_trial(it, {"lr": 5.0})))
    assert results[0].metrics_dataframe["score"].tolist()[:3] == pytest.approx([0.1, 0.2, 5.2])


def test_setters_of_a_trial_are_orders(tmp_path) -> None:
    def set_config(view, it):
        it.config = {"lr": 7.0}
        it.update_resources(PlacementGroupFactory([{"CPU": 2}]))

    results, _ = fit(tmp_path, Listening(t0_2=set_config))
    assert results[0].config == {"lr": 7.0}


def test_a_trial_that_runs_beside_is_not_changed(tmp_path) -> None:
    with pytest.raises(ConfigError, match="runs and cannot be changed"):
        fit(tmp_path, Listening(t0_2=lambda view, it: view.change_trial(trial(view, 1), {"lr": 5.0})))


def test_more_than_there_is_cannot_be_given(tmp_path) -> None:
    much = PlacementGroupFactory([{"CPU": 20}])
    with pytest.raises(ConfigError, match="could never run"):
        fit(tmp_path, Listening(t0_2=lambda view, it: view.update_trial_resources(it, much)))


def test_a_trial_without_a_worker_is_stopped_at_once_and_all_hear_of_it(tmp_path) -> None:
    scheduler, searcher = Listening(), Counting()
    scheduler.orders["t0_2"] = lambda view, it: "PAUSE"
    scheduler.orders["t1_4"] = lambda view, it: view.stop_trial(trial(view, 0))
    # One place: the paused one waits until the other is done, so it is stopped while it has no worker.
    results, _ = fit(tmp_path, scheduler, workers=1, search_alg=searcher)
    assert len(results[0].metrics_dataframe) == 2
    assert scheduler.told == [("remove", "0"), ("complete", "1")]
    assert searcher.heard == [("complete", "0", False), ("complete", "1", False)]


def test_a_running_one_is_stopped_or_paused_at_its_next_row(tmp_path) -> None:
    scheduler = Listening()
    scheduler.orders["t0_2"] = lambda view, it: view.stop_trial(trial(view, 1))
    scheduler.orders["t0_3"] = lambda view, it: view.pause_trial(it)
    results, events = fit(tmp_path, scheduler)
    assert len(results[1].metrics_dataframe) in (2, 3)
    assert [event.number for event in events if isinstance(event, DecisionMade) and event.action == "PAUSE"] == [3]
    assert len(results[0].metrics_dataframe) == 6


def test_what_is_ordered_while_it_only_hears_is_a_record_of_its_own(tmp_path) -> None:
    class StopsOthers(Listening):
        def on_trial_complete(self, tune_controller, trial, result):
            for other in tune_controller.get_live_trials():
                tune_controller.stop_trial(other)

    scheduler = StopsOthers(t0_2=lambda view, it: "PAUSE")
    results, events = fit(tmp_path, scheduler, workers=1, trials=3)
    assert len([event for event in events if isinstance(event, SchedulerOrdered)]) == 1
    assert [len(result.metrics_dataframe) for result in results if result.metrics][:2] == [2, 6]


class LeastFirst(Listening):
    """Runs the trial with the fewest rows, and pauses each at every second row."""

    def on_trial_result(self, tune_controller, trial, result):
        return self.PAUSE if result["training_iteration"] % 2 == 0 else self.CONTINUE

    def choose_trial_to_run(self, tune_controller):
        able = [it for it in tune_controller.get_trials() if tune_controller.may_start(it)]
        return min(able, key=lambda it: (it.last_result.get("training_iteration", 0), it.trial_id), default=None)


def test_a_scheduler_that_chooses_says_who_runs(tmp_path) -> None:
    _, events = fit(tmp_path, LeastFirst(), workers=1, trials=3)
    chosen = [event.trial_id[-1] for event in events if isinstance(event, TrialChosen) and event.trial_id]
    assert chosen[:3] == ["0", "1", "2"]
    assert sorted(chosen[3:6]) == ["0", "1", "2"]


def test_no_trial_is_left_paused_for_good(tmp_path) -> None:
    class Silent(LeastFirst):
        def choose_trial_to_run(self, tune_controller):
            return None

    results, _ = fit(tmp_path, Silent(), workers=2, trials=3)
    assert [len(result.metrics_dataframe) for result in results] == [6, 6, 6]


def test_a_choice_that_is_no_trial_is_refused(tmp_path) -> None:
    class Wrong(LeastFirst):
        def choose_trial_to_run(self, tune_controller):
            return "the first"

    with pytest.raises(ConfigError, match="choose_trial_to_run answered 'the first'"):
        fit(tmp_path, Wrong())


def test_orders_are_taken_from_the_scheduler_alone(tmp_path) -> None:
    kept = []
    fit(tmp_path, Listening(t0_2=lambda view, it: kept.extend([view, it])))
    view, it = kept
    for attempted in (lambda: view.stop_trial(it), lambda: view.save_trial(it)):
        with pytest.raises(ConfigError, match="not here"):
            attempted()
    with pytest.raises(ConfigError, match="not here"):
        it.config = {}


def test_the_searcher_hears_of_pauses(tmp_path) -> None:
    searcher = Counting()
    fit(tmp_path, Listening(t0_2=lambda view, it: view.search_alg.searcher.on_pause(it.trial_id)), search_alg=searcher)
    assert ("pause", "0") in searcher.heard


def test_the_view_shows_time_and_resources(tmp_path) -> None:
    seen = []
    fit(tmp_path, Listening(t0_2=lambda view, it: seen.extend([view.time, view.total_resources()])))
    assert seen == [pytest.approx(2.0, abs=0.5), {"cpu": 2.0}]


def test_time_that_is_played_does_not_run_on_while_a_searcher_thinks(tmp_path) -> None:
    class Slow(Counting):
        def suggest(self, trial_id):
            time.sleep(0.05)
            return super().suggest(trial_id)

    seen = []
    fit(tmp_path, Listening(t1_6=lambda view, it: seen.append(view.time)), search_alg=Slow())
    assert seen == [pytest.approx(6.0, abs=0.5)]


def test_an_attempt_on_its_way_to_a_changed_trial_is_taken_back(tmp_path) -> None:
    class Late(Listening):
        """Changes a paused trial in the very moment in which a place for it becomes free."""

        def on_trial_complete(self, tune_controller, done, result):
            super().on_trial_complete(tune_controller, done, result)
            for other in tune_controller.get_live_trials():
                if other.status == "PAUSED":
                    tune_controller.change_trial(other, {"lr": 9.0})

    results, events = fit(tmp_path, Late(t0_2=lambda view, it: "PAUSE"), workers=1)
    assert [event.cause for event in events if isinstance(event, AttemptLost)] == ["recalled"]
    assert results[0].metrics_dataframe["score"].tolist() == pytest.approx([0.1, 0.2, *(0.2 + 9.0 * i for i in range(1, 5))])


def test_live_trials_are_those_that_are_not_finished(tmp_path) -> None:
    class Compares(Listening):
        def on_trial_result(self, tune_controller, trial, result):
            live = [it for it in tune_controller.get_trials() if not it.is_finished()]
            assert tune_controller.get_live_trials() == live
            assert tune_controller.get_trial(trial.trial_id) is trial
            assert tune_controller.get_trial("nobody") is None
            self.told.append(len(live))
            return self.PAUSE if result["training_iteration"] == 2 else self.CONTINUE

    scheduler = Compares()
    fit(tmp_path, scheduler, workers=2, trials=5)
    assert {1, 2, 3, 4, 5} & set(scheduler.told) > {1}


def test_places_are_filled_beside_a_trial_that_is_on_its_way(tmp_path) -> None:
    class FirstPending(Listening):
        """Chooses as Ray Tune's own scheduler does, which knows nothing of attempts on their way."""

        def choose_trial_to_run(self, tune_controller):
            return next((it for it in tune_controller.get_trials() if it.status == it.PENDING), None)

    class AtOnce(Counting):
        instant = True

    _, events = fit(tmp_path, FirstPending(), workers=4, trials=4, search_alg=AtOnce())
    kinds = [type(event).__name__ for event in events]
    assert kinds[: kinds.index("ResultReported")].count("AttemptStarted") == 4


def test_an_order_to_stop_the_trial_in_question_outweighs_the_answer(tmp_path) -> None:
    scheduler = Listening(t0_2=lambda view, it: view.stop_trial(it))
    results, events = fit(tmp_path, scheduler)
    assert len(results[0].metrics_dataframe) == 2
    assert scheduler.told[0] == ("remove", "0")
    assert [event.by for event in events if isinstance(event, DecisionMade) and event.action == "STOP"] == ["order"]


def test_a_running_trial_that_was_ordered_to_stop_is_heard_of_as_removed(tmp_path) -> None:
    scheduler = Listening(t0_2=lambda view, it: view.stop_trial(trial(view, 1)))
    fit(tmp_path, scheduler)
    assert sorted(scheduler.told) == [("complete", "0"), ("remove", "1")]


def test_setting_a_tag_is_an_order(tmp_path) -> None:
    results, _ = fit(tmp_path, Listening(t0_2=lambda view, it: it.set_experiment_tag("other")))
    assert results[0].metrics_dataframe["experiment_tag"].tolist()[2:] == ["other"] * 4


def test_chance_is_given_to_a_class_that_derives_from_one_without() -> None:
    from holdfast._runtime.chance import has_own_chance
    from holdfast.schedulers import FIFOScheduler

    class Inherits(FIFOScheduler):
        pass

    class Says(FIFOScheduler):
        own_chance = True

    assert [has_own_chance(it()) for it in (FIFOScheduler, Inherits, Says, TrialScheduler)] == [True, False, True, False]


def test_a_searcher_is_asked_again_after_what_it_had_not_heard_when_it_had_nothing(tmp_path) -> None:
    """An end that comes between question and answer, and ends that orders bring about, may change its mind."""
    from holdfast.search import ConcurrencyLimiter

    class StopsResting(Listening):
        def on_trial_result(self, tune_controller, trial, result):
            first = int(trial.trial_id[-1]) % 2 == 0
            return self.PAUSE if first and result["training_iteration"] == 3 else self.CONTINUE

        def on_trial_complete(self, tune_controller, trial, result):
            for other in tune_controller.get_live_trials():
                tune_controller.stop_trial(other)

    for number, scheduler in enumerate((Listening(), StopsResting())):
        folder = tmp_path / str(number)
        folder.mkdir()
        results, _ = fit(folder, scheduler, workers=2, trials=9, search_alg=ConcurrencyLimiter(Counting(), 2, batch=True))
        assert len(results) == 9
