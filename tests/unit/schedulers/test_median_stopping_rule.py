"""The median stopping rule: against the paper's sentence, and what it does where the paper is silent."""

from __future__ import annotations

import math
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.schedulers import MedianStoppingRule, create_scheduler
from unit.schedulers.stage import Stage

NOTHING = object()
WORSE_THAN_ANY = (math.nan, math.inf, -math.inf, None, "text", NOTHING)


def running_average(values):
    """The mean, added up in a way that gives equal values their own."""
    mean = values[0]
    for count, value in enumerate(values[1:], start=2):
        mean += (value - mean) / count
    return mean


def reference(stream, grace, least, mode):
    """Decides a stream of (trial, t, value) by the paper: Golovin et al. 2017 (KDD), section 3.2.2.

    A trial stops at step s if its best objective value by s is strictly worse than the median of the running averages of the
    others' objectives up to s. Here all others count that have come to s, if they are enough, and averages begin at the
    grace period.
    """
    heard, best, answers = {}, {}, []
    for trial, t, value in stream:
        answer = "CONTINUE"
        if isinstance(value, float):
            score = (-value if mode == "min" else value) if math.isfinite(value) else -math.inf
            best[trial] = max(best.get(trial, -math.inf), score)
            if t >= grace:
                heard.setdefault(trial, []).append((t, score))
                reached = [rows for name, rows in heard.items() if name != trial and rows[-1][0] >= t]
                finite = [[score for time, score in rows if time <= t and math.isfinite(score)] for rows in reached]
                averages = [running_average(scores) for scores in finite if scores]
                if len(averages) < least:
                    answer = "too few"
                elif best[trial] < np.median(averages):
                    answer = "STOP"
        answers.append(answer)
    return answers


@pytest.mark.parametrize("seed", range(200))
def test_it_decides_as_the_paper_says(seed):
    chance = random.Random(seed)
    print("seed", seed)
    grace, least, mode = chance.choice([0, 1, 2, 3.5]), chance.choice([1, 2, 3, 5]), chance.choice(["min", "max"])
    step = chance.choice([lambda: 1, lambda: chance.choice([0, 1, 3]), chance.random])
    score = chance.choice([lambda: chance.gauss(0, 1), lambda: float(chance.randrange(3)), lambda: chance.choice([0.1, 0.3])])
    bad = chance.choice([0.0, 0.1, 0.5])
    scheduler = MedianStoppingRule("t", "loss", mode, grace, least)
    stage = Stage(scheduler, places=50)
    times, stream, answers = {}, [], []
    while len(stream) < 400 and (len(stage.trials) < 25 or stage.live):
        if len(stage.trials) < 25 and (chance.random() < 0.2 or not stage.running):
            times[stage.add().trial_id] = 0.0
            stage.more = False  # no trial waits: none yields
            continue
        trial = chance.choice(stage.running)
        times[trial.trial_id] += step()
        value = chance.choice(WORSE_THAN_ANY) if chance.random() < bad else score()
        stream.append((trial.trial_id, times[trial.trial_id], value))
        answers.append(stage.report(trial, t=times[trial.trial_id], **({} if value is NOTHING else {"loss": value})))
        if trial.worker and chance.random() < 0.03:
            chance.choice([stage.complete, stage.fail])(trial)
        if chance.random() < 0.02:
            stage.scheduler = pickle.loads(pickle.dumps(stage.scheduler))
    wanted = reference(stream, grace, least, mode)
    assert answers == ["CONTINUE" if answer == "too few" else answer for answer in wanted]
    assert "STOP" in answers or "STOP" not in wanted


@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.parametrize("seed", range(40))
def test_no_trial_is_left_paused_whatever_happens(seed, places):
    chance = random.Random(seed)
    print("seed", seed)
    rule = {"grace_period": 2, "min_time_slice": chance.choice([0, 3]), "hard_stop": chance.random() < 0.5}
    scheduler = MedianStoppingRule("training_iteration", **rule)
    stage = Stage(scheduler, places, linger=chance.random() < 0.5, metric="m", mode="max")
    values = [0.0, 1.0, 2.0, math.nan, None, "text"]
    stage.play(lambda trial: {"m": chance.choice(values)} if trial.iteration < 12 else None, chance, new=20, fault=0.02)
    assert not stage.started_by_core


def started(places=100, more=False, **kwargs):
    given = {"metric": "m", "mode": "max", "time_attr": "training_iteration", "grace_period": 1, **kwargs}
    stage = Stage(MedianStoppingRule(**given), places)
    stage.more = more
    return stage


def test_the_best_is_compared_and_equals_go_on():
    stage = started(min_samples_required=3)
    trials = [stage.add() for _ in range(5)]
    for trial in trials[:3]:
        assert {stage.report(trial, m=0.1) for _ in range(7)} == {"CONTINUE"}
    # Seven times 0.1, added up and divided, would be 0.09999999999999999.
    assert {stage.report(trials[3], m=0.1) for _ in range(7)} == {"CONTINUE"}
    assert stage.report(trials[4], m=0.5) == "CONTINUE"
    assert stage.report(trials[4], m=0.0) == "CONTINUE"  # its best was 0.5
    assert stage.report(stage.add(), m=0.0999) == "STOP"


def test_ended_trials_count_and_those_begun_anew_do_not():
    stage = started(min_samples_required=2)
    one, two, three = (stage.add() for _ in range(3))
    for trial, end in ((one, stage.complete), (two, stage.fail)):
        stage.report(trial, m=5.0)
        end(trial)
    assert stage.report(three, m=1.0) == "STOP"
    assert stage.report(stage.add(), m=4.0) == "STOP"  # below the median of 5, 5 and 1
    stage.scheduler.on_trial_add(stage.view, one)
    assert stage.report(stage.add(), m=4.0) == "CONTINUE"  # of 5, 1 and 4


def test_the_last_row_of_a_stop_rule_counts_once():
    stage = started(min_samples_required=1)
    one, two = stage.add(), stage.add()
    stage.scheduler.on_trial_complete(stage.view, one, {"training_iteration": 1, "m": 5.0})
    assert stage.report(two, m=1.0) == "STOP"
    three = stage.add()
    stage.report(three, m=9.0)
    stage.complete(three)
    stage.scheduler.on_trial_complete(stage.view, stage.add(), {})
    stage.scheduler.on_trial_complete(stage.view, stage.add(), None)
    stage.scheduler.on_trial_complete(stage.view, stage.add(), {"training_iteration": 1})
    assert stage.report(stage.add(), m=5.1) == "CONTINUE"  # above the median of 5, 1 and 9, which is not there twice


def test_where_samples_are_few_a_trial_yields_to_those_that_wait():
    stage = started(places=1, min_samples_required=3, grace_period=2)
    trials = [stage.add() for _ in range(3)]
    assert [stage.report(trials[0], m=1) for _ in range(2)] == ["CONTINUE", "PAUSE"]
    assert stage.running == [trials[1]]
    assert [stage.report(trials[1], m=1) for _ in range(2)] == ["CONTINUE", "PAUSE"]
    assert [stage.report(trials[2], m=1) for _ in range(2)] == ["CONTINUE", "PAUSE"]
    assert stage.running == [trials[0]]  # all have come equally far
    assert stage.report(trials[0], m=1) == "PAUSE"
    assert stage.running == [trials[1]]
    stage.complete(trials[1])
    stage.complete(trials[2])
    assert stage.report(trials[0], m=1) == "CONTINUE"  # nobody waits


def test_a_slice_is_run_before_a_trial_yields():
    stage = started(places=1, min_time_slice=3)
    one, _ = stage.add(), stage.add()
    assert [stage.report(one, m=1) for _ in range(4)] == ["CONTINUE"] * 3 + ["PAUSE"]


def test_a_trial_yields_to_one_that_is_being_suggested():
    stage = started(places=1, more=True)
    one = stage.add()
    assert stage.report(one, m=1) == "PAUSE"
    assert one.status == "PAUSED"  # until the searcher has answered
    two = stage.add()
    assert stage.running == [two]
    stage.no_more()
    stage.complete(two)
    assert stage.running == [one]


def test_a_soft_stop_lets_others_go_first_and_judges_no_more():
    stage = started(places=1, hard_stop=False, min_samples_required=1, min_time_slice=100)
    good, bad, late = (stage.add() for _ in range(3))
    stage.report(good, m=5)
    stage.report(good, m=5)
    stage.complete(good)
    assert stage.report(bad, m=1) == "PAUSE"
    assert stage.running == [late]
    assert stage.report(late, m=6) == "CONTINUE"
    stage.complete(late)
    assert stage.running == [bad]
    assert [stage.report(bad, m=0) for _ in range(5)] == ["CONTINUE"] * 5
    assert "num_stopped=1" in stage.scheduler.debug_string()


def test_a_trial_that_lost_its_worker_goes_on_first():
    stage = started(places=1)
    _, two = stage.add(), stage.add()
    stage.complete(stage.trials[0])
    three = stage.add()
    stage.lose(two)
    assert stage.running == [two]
    stage.complete(two)
    assert stage.running == [three]


def test_a_row_costs_no_more_with_ten_times_the_trials():
    """Counts steps instead of seconds: the averages that are looked up anew."""

    def lookups(count):
        stage = SimpleNamespace(get_trials=list, awaits_suggestion=False)
        scheduler = MedianStoppingRule("training_iteration", "m", "max", grace_period=1)
        courses = vars(scheduler)["_courses"]
        mean, calls = courses._mean, []
        courses._mean = lambda *a: (calls.append(a), mean(*a))[1]
        trials = [SimpleNamespace(trial_id=f"abcde_{n:05d}") for n in range(count)]
        for trial in trials:
            scheduler.on_trial_add(stage, trial)
        for t in range(1, 6):
            for trial in trials:
                scheduler.on_trial_result(stage, trial, {"training_iteration": t, "m": 1.0})
        return len(calls) / count

    assert lookups(1000) < lookups(100) * 1.1 < 10


def test_a_wrong_time_attr_is_named_with_the_first_row():
    stage = started(time_attr="epochs")
    with pytest.raises(ConfigError, match=r"'epochs'.*training_iteration"):
        stage.report(stage.add(), m=1)


def test_time_that_goes_back_is_not_judged():
    stage = started(min_samples_required=1, time_attr="t")
    one, two = stage.add(), stage.add()
    stage.report(one, t=5, m=5)
    assert stage.report(two, t=6, m=1) == "CONTINUE"
    assert stage.report(two, t=4, m=1) == "CONTINUE"


@pytest.mark.parametrize("kwargs", [{"min_samples_required": 0}, {"min_time_slice": -1}, {"mode": "up"}])
def test_bad_arguments(kwargs):
    with pytest.raises(ConfigError):
        MedianStoppingRule(**kwargs)


def test_by_name_and_saved(tmp_path):
    assert isinstance(create_scheduler("medianstopping"), MedianStoppingRule)
    stage = started(min_samples_required=1)
    assert create_scheduler("median_stopping_rule").own_chance
    stage.report(stage.add(), m=5)
    stage.scheduler.save(str(tmp_path / "s"))
    stage.scheduler = MedianStoppingRule()
    stage.scheduler.restore(str(tmp_path / "s"))
    assert stage.report(stage.add(), m=1) == "STOP"
