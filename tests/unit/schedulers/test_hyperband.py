"""HyperBand: against its pseudo-code, and where that is silent: ends, failures, what is not full, what is no number."""

from __future__ import annotations

import math
import pickle
import random

import pytest

from holdfast.errors import ConfigError
from holdfast.schedulers import HyperBandScheduler, create_scheduler
from unit.schedulers.stage import Stage

NOTHING = object()
WORSE_THAN_ANY = (math.nan, math.inf, -math.inf, None, "text", NOTHING)


def reference(max_t, eta, courses, deaths, arrivals):
    """How far HyperBand runs each configuration: Li et al. 2018 (JMLR 18), Algorithm 1, with the brackets in ascending order.

    Args:
        max_t, eta: R and η.
        courses: For each configuration, in order of sampling, its rows: (resource, the score last reported by then).
        deaths: Configuration → the number of its row after which it fails.
        arrivals: (configuration, row) → when that row came: equal scores go to the one that came first.

    Returns:
        For each configuration how many rows it reports.
    """
    s_max = math.floor(math.log(max_t, eta) + 1e-9)
    total = (s_max + 1) * max_t
    rows = [0] * len(courses)
    first, s = 0, 0
    while first < len(courses):
        n = math.ceil(total / max_t * eta**s / (s + 1) - 1e-9)
        alive = list(range(first, min(first + n, len(courses))))
        n = len(alive)
        first, r = first + n, max_t * eta**-s
        for i in range(s + 1):
            n_i, r_i = n // eta**i, r * eta**i
            scores = {}
            for one in alive:
                course = courses[one]
                reached = next((k for k, (t, _) in enumerate(course, start=1) if t >= r_i * (1 - 1e-9)), len(course) + 1)
                at = max(reached, rows[one])
                rows[one] = min(at, len(course), deaths.get(one, at))
                if rows[one] == at and course[at - 1][0] < max_t:  # else it has failed, or has come to its end
                    scores[one] = (-course[at - 1][1], arrivals.get((one, at)))
            if i < s:
                alive = sorted(scores, key=scores.__getitem__)[: max(n_i // eta, 1)]
        s = (s + 1) % (s_max + 1)
    return rows


@pytest.mark.parametrize("seed", range(200))
def test_it_decides_as_the_paper_says(seed):
    chance = random.Random(seed)
    print("seed", seed)
    eta, mode = chance.choice([2, 3, 4]), chance.choice(["min", "max"])
    max_t = chance.choice([1, eta, eta**2, eta**3, 20, 31.5, 8.25])
    step = chance.choice([lambda: 1.0, lambda: chance.choice([0.25, 1.0, 3.0])])
    score = chance.choice([lambda: chance.gauss(0, 1), lambda: float(chance.randrange(3))])
    bad = chance.choice([0.0, 0.1, 0.5])
    sign = -1 if mode == "min" else 1
    count = chance.choice([1, 7, 40])
    reports, courses, deaths = [], [], {}
    for number in range(count):
        time, last, reported, course = 0.0, -math.inf, [], []
        while time < max_t:
            time += step()
            value = chance.choice(WORSE_THAN_ANY) if chance.random() < bad else score()
            if isinstance(value, float):
                last = sign * value if math.isfinite(value) else -math.inf
            row = {"t": time} if value is NOTHING else {"t": time, "loss": value}
            reported.append(row)
            course.append((time, last))
        reports.append(reported)
        courses.append(course)
        if chance.random() < 0.1:
            deaths[number] = chance.randint(1, len(course))
    scheduler = HyperBandScheduler(time_attr="t", metric="loss", mode=mode, max_t=max_t, reduction_factor=eta)
    stage = Stage(scheduler, places=chance.choice([1, 3, 50]), linger=chance.random() < 0.5)
    arrivals, step_number = {}, 0
    while len(stage.trials) < count or stage.live:
        step_number += 1
        assert step_number < 20_000
        leaving = [trial for trial in stage.trials if trial.worker == "leaving"]
        if leaving and (chance.random() < 0.5 or not stage.running):
            stage.gone(leaving[0])
        elif len(stage.trials) < count and (chance.random() < 0.3 or not stage.running):
            stage.add()
            if len(stage.trials) == count:
                stage.no_more()
        else:
            trial = chance.choice(stage.running)
            row = len(trial.rows)
            if deaths.get(trial.index) == row:
                stage.fail(trial)
                continue
            stage.report(trial, **reports[trial.index][row])
            arrivals[trial.index, row + 1] = step_number
        if chance.random() < 0.02:
            stage.scheduler = pickle.loads(pickle.dumps(stage.scheduler))
    assert not stage.started_by_core
    # A trial that was stopped, or has come to its end, at the row that it was to fail after does not fail any more.
    failed = {number: row for number, row in deaths.items() if stage.trials[number].status == "ERROR"}
    assert [len(trial.rows) for trial in stage.trials] == reference(max_t, eta, courses, failed, arrivals)


@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.parametrize("seed", range(40))
def test_no_trial_is_left_paused_whatever_happens(seed, places):
    chance = random.Random(seed)
    print("seed", seed)
    scheduler = HyperBandScheduler(max_t=chance.choice([9, 27]), stop_last_trials=chance.random() < 0.5)
    stage = Stage(scheduler, places, linger=chance.random() < 0.5, metric="m", mode="max")
    values = [0.0, 1.0, math.nan, None, "text"]
    stage.play(lambda trial: {"m": chance.choice(values)} if trial.iteration < 30 else None, chance, new=30, fault=0.02)
    assert not stage.started_by_core
    assert "Bracket" not in stage.scheduler.debug_string()


def started(places=100, **kwargs):
    return Stage(HyperBandScheduler(**{"metric": "m", "mode": "max", "max_t": 9, **kwargs}), places)


def fill(stage, *sizes):
    """Adds trials for brackets of these sizes."""
    return [[stage.add() for _ in range(size)] for size in sizes]


def test_brackets_and_milestones_of_the_paper():
    stage = started(max_t=81)
    scheduler = stage.scheduler
    fill(stage, 5, 8, 15, 34, 81, 5)
    shown = scheduler.debug_string().splitlines()[1:]
    assert [line[8:].partition(", rung")[0] for line in shown] == [
        "s=0, n=5",
        "s=1, n=8",
        "s=2, n=15",
        "s=3, n=34",
        "s=4, n=81",
        "s=0, n=5",
    ]
    assert [line.partition("milestone ")[2].partition(":")[0] for line in shown] == ["81", "27", "9", "3", "1", "81"]


@pytest.mark.parametrize(("max_t", "eta", "brackets"), [(1000, 10, 4), (243, 3, 6), (242, 3, 5), (0.5, 3, 1), (100.5, 4, 4)])
def test_no_bracket_is_lost_to_rounding(max_t, eta, brackets):
    stage = started(places=0, max_t=max_t, reduction_factor=eta)
    while f"brackets={brackets + 1}," not in stage.scheduler.debug_string():
        stage.add()
    shown = [line.partition(",")[0] for line in stage.scheduler.debug_string().splitlines()[1:]]
    assert shown == [f"Bracket(s={s}" for s in (*range(brackets), 0)]


def test_a_rung_waits_for_all_its_trials_and_the_better_third_goes_on():
    stage = started()
    _, trials = fill(stage, 3, 5)  # milestones 3 and 9
    for trial in trials:
        stage.report(trial, m=0)
        stage.report(trial, m=0)
    assert [stage.report(trial, m=trial.index) for trial in trials[:-1]] == ["PAUSE"] * 4
    assert stage.report(trials[-1], m=-1) == "STOP"
    assert [trial.status for trial in trials] == ["TERMINATED", "TERMINATED", "TERMINATED", "RUNNING", "TERMINATED"]


def test_the_last_to_arrive_goes_on_without_a_pause():
    stage = started()
    _, trials = fill(stage, 3, 5)
    answers = [[stage.report(trial, m=trial.index) for _ in range(3)] for trial in trials]
    assert answers == [["CONTINUE", "CONTINUE", "PAUSE"]] * 4 + [["CONTINUE"] * 3]
    assert [stage.report(trials[-1], m=0) for _ in range(6)] == ["CONTINUE"] * 5 + ["STOP"]


def test_who_ends_fails_or_is_stopped_leaves_the_rung():
    stage = started()
    _, trials = fill(stage, 3, 5)
    for trial in trials[:3]:
        for _ in range(3):
            stage.report(trial, m=trial.index)
    assert [trial.status for trial in trials[:3]] == ["PAUSED"] * 3
    stage.stop(trials[2])
    stage.fail(trials[3])
    assert trials[0].status == "PAUSED"
    stage.complete(trials[4])
    # Five entered, so one goes on, the better of the two that are left.
    assert [trial.status for trial in trials[:2]] == ["TERMINATED", "RUNNING"]


def test_a_score_that_is_no_number_is_worse_than_any_and_a_missing_one_is_the_last():
    stage = started(mode="min")
    _, trials = fill(stage, 3, 5)
    values = [(1.0, 1.0, math.nan), (5.0, 5.0, -math.inf), (7.0, None, "text"), (9.0, 9.0, 9.0), (math.nan, 8.0, Ellipsis)]
    for trial, (one, two, three) in zip(trials, values, strict=True):
        stage.report(trial, m=one)
        stage.report(trial, m=two)
        stage.report(trial, m=three)
    assert [trial.status for trial in trials] == ["TERMINATED", "TERMINATED", "RUNNING", "TERMINATED", "TERMINATED"]


def test_free_places_go_to_the_oldest_bracket_and_there_to_the_best():
    stage = started(places=1)
    fill(stage, 3, 5, 2)
    stage.no_more()
    ran = []
    while stage.live:
        trial = stage.running[0]
        ran += [trial.index] if not ran or ran[-1] != trial.index else []
        stage.report(trial, m=trial.index)
    # three to the end; five to 3, of which the last goes on; two of a bracket of nine that is never full
    assert ran == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [len(trial.rows) for trial in stage.trials] == [9, 9, 9, 3, 3, 3, 3, 9, 1, 9]


def test_a_trial_that_lost_its_worker_goes_on_first():
    stage = started(places=1)
    _, trials = fill(stage, 3, 5)
    for trial in stage.trials[:3]:
        stage.complete(trial)
    for trial in trials:
        for _ in range(3):
            stage.report(trial, m=trial.index)
    assert stage.running == [trials[4]]
    stage.lose(trials[4])
    assert stage.running == [trials[4]]
    assert trials[4].starts == [0, 3]


def test_a_bracket_waits_while_the_searcher_thinks():
    stage = started(places=2)
    fill(stage, 3)
    for trial in stage.trials:
        stage.complete(trial)
    two = [stage.add(), stage.add()]
    for trial in two:
        for _ in range(3):
            stage.report(trial, m=trial.index)
    assert [trial.status for trial in two] == ["PAUSED", "PAUSED"]
    stage.no_more()
    assert [trial.status for trial in two] == ["TERMINATED", "RUNNING"]


def test_a_trial_that_is_begun_anew_enters_another_bracket():
    stage = started()
    fill(stage, 3)
    stage.complete(stage.trials[0])
    stage.scheduler.on_trial_add(stage.view, stage.trials[0])
    stage.scheduler.on_trial_add(stage.view, stage.trials[1])  # while it is in one
    shown = stage.scheduler.debug_string()
    assert "s=0, n=3, rung 1 of 1, milestone 9: 1 on their way" in shown
    assert "s=1, n=5, rung 1 of 2, milestone 3: 2 on their way" in shown


def test_a_trial_that_was_given_up_at_a_restore_is_not_waited_for():
    stage = started(places=2)
    fill(stage, 3, 2)
    for trial in stage.trials[:3]:
        stage.complete(trial)
    rests, gone = stage.trials[3:]
    for _ in range(3):
        stage.report(rests, m=1)
    gone.status, gone.worker = "TERMINATED", ""  # nobody is told
    stage.no_more()
    assert rests.status == "RUNNING"


def test_a_row_that_jumps_over_milestones():
    stage = started(max_t=27, time_attr="t")
    trials = fill(stage, 4, 6, 12)[2]  # milestones 3, 9, 27
    assert [stage.report(trial, t=3, m=0) for trial in trials[:10]] == ["PAUSE"] * 10
    assert stage.report(trials[10], t=10, m=5) == "PAUSE"
    assert stage.report(trials[11], t=27, m=9) == "STOP"  # it has had all there is
    # Four go on; the one at 10 is at the next milestone already.
    assert [trial.status for trial in trials].count("RUNNING") == 3
    assert trials[10].status == "PAUSED"


def test_max_t_may_let_run():
    stage = started(stop_last_trials=False)
    (trial, *_), trials = fill(stage, 3, 5)
    assert {stage.report(trial, m=0) for _ in range(20)} == {"CONTINUE"}
    assert [stage.report(one, training_iteration=50, m=0) for one in trials] == ["PAUSE"] * 4 + ["STOP"]
    assert trials[0].status == "RUNNING"
    assert stage.report(trials[0], training_iteration=51, m=0) == "CONTINUE"


def test_a_wrong_time_attr_is_named_with_the_first_row():
    stage = started(time_attr="epochs")
    trial = stage.add()
    with pytest.raises(ConfigError, match=r"'epochs'.*training_iteration"):
        stage.report(trial, m=1)
    stage = started(time_attr="epoch")
    trial = stage.add()
    assert stage.report(trial, m=1, epoch=1) == "CONTINUE"
    assert stage.report(trial, m=1) == "CONTINUE"  # rows that lack it now and then are not judged
    assert stage.report(trial, m=1, epoch=math.nan) == "CONTINUE"
    assert stage.report(trial, m=1, epoch=9) == "STOP"


def test_rows_of_trials_that_are_over_change_nothing():
    stage = started()
    trial = stage.add()
    stage.complete(trial)
    for end in ("on_trial_error", "on_trial_remove"):
        getattr(stage.scheduler, end)(stage.view, trial)
    assert stage.scheduler.on_trial_result(stage.view, trial, {"training_iteration": 9, "m": 1}) == "CONTINUE"


@pytest.mark.parametrize(
    "kwargs",
    [{"max_t": 0}, {"max_t": math.inf}, {"max_t": math.nan}, {"reduction_factor": 1}, {"reduction_factor": 0}, {"mode": "up"}],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ConfigError):
        HyperBandScheduler(**kwargs)


def test_metric_and_mode_come_from_one_side():
    assert HyperBandScheduler(metric="a", mode="min").set_search_properties("a", None) is False
    assert HyperBandScheduler(metric="a", mode="min").set_search_properties(None, "min") is False
    scheduler = HyperBandScheduler(mode="max")
    assert scheduler.set_search_properties(None, None) is True
    assert scheduler.metric == "_metric"
    with pytest.raises(ConfigError, match="TuneConfig"):
        HyperBandScheduler().on_trial_add(None, Stage(HyperBandScheduler()).trials)
    with pytest.raises(ConfigError, match="mode"):
        HyperBandScheduler().set_search_properties("a", "up")


def test_by_name_and_saved(tmp_path):
    scheduler = create_scheduler("hyperband", metric="m", mode="max", max_t=9)
    assert isinstance(scheduler, HyperBandScheduler)
    assert scheduler.own_chance
    stage = Stage(scheduler, 100)
    _, trials = fill(stage, 3, 5)
    for trial in trials[:4]:
        stage.report(trial, training_iteration=3, m=trial.index)
    scheduler.save(str(tmp_path / "s"))
    stage.scheduler = HyperBandScheduler()
    stage.scheduler.restore(str(tmp_path / "s"))
    assert stage.report(trials[4], training_iteration=3, m=99) == "CONTINUE"
    assert "num_stopped=4" in stage.scheduler.debug_string()
