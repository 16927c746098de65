from __future__ import annotations

import math
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.schedulers import ASHAScheduler, AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler


def trial(number):
    return SimpleNamespace(trial_id=f"abcde_{number:05d}", status="PENDING", last_result={})


def reference(stream, max_t, grace, eta, mode):
    """Decides a stream of (trial, t, score) by the book.

    Rungs at r·η^k as in Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", Algorithm 2; at a rung a trial
    goes on if it is in the best 1/η of those that came before it (NumPy's linear quantile), else it is stopped.
    """
    rungs, answers = {}, []
    for name, t, value in stream:
        score = -value if mode == "min" else value
        answer = "CONTINUE"
        k = 0
        while grace * eta ** (k + 1) <= min(t, max_t):
            k += 1
        if t >= grace and grace * eta**k <= max_t:
            rung = rungs.setdefault(k, {})
            if name not in rung:
                before = list(rung.values())
                if before and score < np.quantile(before, 1 - 1 / eta):
                    answer = "STOP"
                rung[name] = score
        answers.append("STOP" if t >= max_t else answer)
    return answers


@pytest.mark.parametrize("seed", range(200))
def test_it_decides_as_the_paper_says(seed):
    chance = random.Random(seed)
    print("seed", seed)
    max_t, grace = chance.choice([9, 27, 100]), chance.choice([1, 2, 5])
    eta, mode = chance.choice([2, 3, 4, 2.5]), chance.choice(["min", "max"])
    scheduler = ASHAScheduler(metric="loss", mode=mode, max_t=max_t, grace_period=grace, reduction_factor=eta)
    ages, alive = dict.fromkeys(range(30), 0), set(range(30))
    scores = chance.choice([lambda: chance.gauss(0, 1), lambda: chance.randrange(4)])
    stream, answers = [], []
    for number in alive:
        scheduler.on_trial_add(None, trial(number))
    while alive and len(stream) < 600:
        number = chance.choice(sorted(alive))
        ages[number] += 1
        row = {"training_iteration": ages[number], "loss": scores()}
        stream.append((number, ages[number], row["loss"]))
        answers.append(scheduler.on_trial_result(None, trial(number), row))
        if answers[-1] == "STOP":
            scheduler.on_trial_complete(None, trial(number), row)
            alive.remove(number)
        if chance.random() < 0.02:
            scheduler = pickle.loads(pickle.dumps(scheduler))
    assert answers == reference(stream, max_t, grace, eta, mode)
    assert "STOP" in answers


def reference_in_brackets(stream, bracket_of, max_t, grace, eta, mode):
    """As `reference`, where bracket s has its rungs at r·η^(k+s) (section 3.3 there, line 2 of Algorithm 1), times may jump, and
    values may be anything: what is no number is not judged, what is not finite is judged worse than any and enters no rung.
    """
    rungs, passed, answers = {}, {}, []
    for name, t, value in stream:
        s = bracket_of[name]
        goes_on = True
        reached = [k for k in range(20) if grace * eta ** (k + s) <= min(t, max_t)]
        if reached and isinstance(value, float) and reached[-1] > passed.get(name, -1):
            passed[name] = reached[-1]
            score = -value if mode == "min" else value
            before = rungs.setdefault((s, reached[-1]), [])
            if before:
                goes_on = math.isfinite(value) and score >= np.quantile(before, 1 - 1 / eta)
            before += [score] if math.isfinite(value) else []
        answers.append("CONTINUE" if goes_on and t < max_t else "STOP")
    return answers


@pytest.mark.parametrize("seed", range(200))
def test_several_brackets_jumps_and_what_is_no_number(seed):
    chance = random.Random(seed)
    print("seed", seed)
    max_t, grace, eta = chance.choice([9, 27, 100]), chance.choice([1, 2]), chance.choice([2, 3, 4])
    mode, brackets = chance.choice(["min", "max"]), chance.choice([1, 2, 3])
    scheduler = ASHAScheduler("t", "loss", mode, max_t, grace, eta, brackets)
    scheduler.set_search_properties(None, None, seed=seed)
    score = chance.choice([lambda: chance.gauss(0, 1), lambda: float(chance.randrange(3))])
    step, bad = chance.choice([lambda: 1, lambda: chance.choice([0.5, 1, 7])]), chance.choice([0.05, 0.4])
    for number in range(30):
        scheduler.on_trial_add(None, trial(number))
    bracket_of = {int(name[-5:]): place[0] for name, place in vars(scheduler)["_places"].items()}
    times, alive, stream, answers = dict.fromkeys(range(30), 0), list(range(30)), [], []
    while alive and len(stream) < 600:
        number = chance.choice(alive)
        times[number] += step()
        value = chance.choice([math.nan, math.inf, -math.inf, None, "text", ...]) if chance.random() < bad else score()
        stream.append((number, times[number], value))
        row = {"t": times[number]} if value is ... else {"t": times[number], "loss": value}
        answers.append(scheduler.on_trial_result(None, trial(number), row))
        if answers[-1] == "STOP" or chance.random() < 0.02:
            alive.remove(number)
            if answers[-1] != "STOP":
                scheduler.on_trial_error(None, trial(number))
        if chance.random() < 0.02:
            scheduler = pickle.loads(pickle.dumps(scheduler))
    assert answers == reference_in_brackets(stream, bracket_of, max_t, grace, eta, mode)
    assert "STOP" in answers


def started(**kwargs):
    return ASHAScheduler(**{"metric": "m", "mode": "max", "max_t": 16, "reduction_factor": 2, **kwargs})


def hear(scheduler, number, t, m):
    return scheduler.on_trial_result(None, trial(number), {"training_iteration": t, "m": m})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_never_wins(bad, mode):
    scheduler = started(mode=mode)
    assert hear(scheduler, 0, 1, bad) == "CONTINUE"  # nobody to compare with yet
    for number, m in enumerate([5.0, 5.0, 5.0], start=1):
        assert hear(scheduler, number, 1, m) == "CONTINUE"
    assert hear(scheduler, 4, 1, bad) == "STOP"
    assert hear(scheduler, 5, 1, 5.0) == "CONTINUE"  # the cut did not move


@pytest.mark.parametrize("missing", [None, "text", [], {}, object()])
def test_what_is_no_number_is_not_judged(missing):
    scheduler = started()
    assert hear(scheduler, 0, 1, 1.0) == "CONTINUE"
    assert hear(scheduler, 1, 1, missing) == "CONTINUE"
    assert scheduler.on_trial_result(None, trial(1), {"training_iteration": 1}) == "CONTINUE"
    assert scheduler.on_trial_result(None, trial(1), {"m": 0.0}) == "CONTINUE"
    assert hear(scheduler, 1, 1, 0.0) == "STOP"  # the first number is judged
    assert hear(scheduler, 2, 16, missing) == "STOP"  # max_t holds for all


def test_max_t_may_let_run():
    scheduler = started(stop_last_trials=False)
    assert hear(scheduler, 0, 16, 1.0) == "CONTINUE"
    assert hear(scheduler, 0, 99, 0.0) == "CONTINUE"
    assert hear(scheduler, 1, 99, 0.5) == "STOP"  # the rung at max_t still judges


def test_a_jump_counts_for_the_highest_rung_only():
    scheduler = started()
    hear(scheduler, 0, 1, 9.0)
    assert hear(scheduler, 1, 5, 0.0) == "CONTINUE"
    assert hear(scheduler, 1, 6, 0.0) == "CONTINUE"


def test_the_last_row_counts_where_the_trial_ends_by_itself():
    scheduler = started()
    scheduler.on_trial_complete(None, trial(0), {"training_iteration": 1, "m": 5.0})
    assert hear(scheduler, 1, 1, 4.0) == "STOP"
    scheduler.on_trial_complete(None, trial(2), {})
    scheduler.on_trial_complete(None, trial(2), None)
    scheduler.on_trial_error(None, trial(2))
    scheduler.on_trial_remove(None, trial(2))


def test_brackets_depend_on_seed_and_number_only():
    def brackets(seed, order, prefix="abcde"):
        scheduler = started(brackets=3, max_t=64)
        scheduler.set_search_properties(None, None, seed=seed)
        for number in order:
            scheduler.on_trial_add(None, SimpleNamespace(trial_id=f"{prefix}_{number:05d}", last_result={}))
        return {k[-5:]: v[0] for k, v in vars(scheduler)["_places"].items()}

    one = brackets(1, range(300))
    assert one == brackets(1, reversed(range(300))) == brackets(1, range(300), "fffff")
    assert one != brackets(2, range(300))
    shares = [list(one.values()).count(s) / 300 for s in range(3)]
    weights = np.exp([7, 6, 5]) / np.exp([7, 6, 5]).sum()  # softmax of the numbers of rungs
    assert np.abs(np.array(shares) - weights).max() < 0.08


def test_rungs_are_not_lost_to_rounding():
    scheduler = started(max_t=1000, grace_period=1, reduction_factor=10)
    assert scheduler.debug_string().count("Iter") == 4


@pytest.mark.parametrize(
    "kwargs",
    [{"max_t": 0}, {"grace_period": 0}, {"grace_period": 200}, {"reduction_factor": 1}, {"brackets": 0}, {"mode": "up"}],
)
def test_bad_arguments(kwargs):
    with pytest.raises(ConfigError):
        ASHAScheduler(**kwargs)


def test_metric_and_mode_come_from_one_side():
    assert ASHAScheduler(metric="a", mode="min").set_search_properties("a", None) is False
    assert ASHAScheduler(metric="a", mode="min").set_search_properties(None, "min") is False
    scheduler = ASHAScheduler()
    assert scheduler.set_search_properties("a", "min") is True
    assert scheduler.metric == "a"
    scheduler = ASHAScheduler(mode="max")
    assert scheduler.set_search_properties(None, None) is True
    assert scheduler.metric == "_metric"
    with pytest.raises(ConfigError, match="TuneConfig"):
        ASHAScheduler().on_trial_add(None, trial(0))
    with pytest.raises(ConfigError, match="mode"):
        ASHAScheduler().set_search_properties("a", "up")


def test_save_and_restore(tmp_path):
    scheduler = started()
    hear(scheduler, 0, 1, 9.0)
    scheduler.save(str(tmp_path / "s"))
    other = started()
    other.restore(str(tmp_path / "s"))
    assert hear(other, 1, 1, 1.0) == "STOP"
    assert "num_stopped=1" in other.debug_string()


def test_fifo_runs_pending_trials_before_paused_ones():
    fifo = FIFOScheduler()
    trials = [SimpleNamespace(status=status, PENDING="PENDING") for status in ("RUNNING", "PAUSED", "PENDING", "PENDING")]
    driver = SimpleNamespace(get_live_trials=lambda: trials, may_start=lambda trial: trial.status != "RUNNING")
    assert fifo.choose_trial_to_run(driver) is trials[2]
    trials[2:] = []
    assert fifo.choose_trial_to_run(driver) is trials[1]
    trials.pop()
    assert fifo.choose_trial_to_run(driver) is None
    assert fifo.on_trial_result(None, trial(0), {}) == TrialScheduler.CONTINUE
    assert fifo.set_search_properties("a", "min") is True
    assert fifo.set_search_properties("a", "min") is False
    assert fifo.supports_buffered_results


def test_names():
    assert AsyncHyperBandScheduler is ASHAScheduler
    assert ASHAScheduler.own_chance
    assert not TrialScheduler.own_chance
    with pytest.raises(NotImplementedError, match="on_trial_result"):
        TrialScheduler().on_trial_result(None, None, {})


def test_a_trial_that_goes_on_behind_its_end_is_not_judged_again_where_it_was() -> None:
    """`Tuner.extend` has trials go on that a stop rule had ended; each rung counts each of them once."""
    scheduler = ASHAScheduler("training_iteration", "score", "max", max_t=16, grace_period=2, reduction_factor=2)
    trials = [trial(number) for number in range(4)]
    for number, one in enumerate(trials):
        scheduler.on_trial_add(None, one)
        scheduler.on_trial_result(None, one, {"training_iteration": 2, "score": number})
        one.last_result = {"training_iteration": 3, "score": number}
        scheduler.on_trial_complete(None, one, one.last_result)
    before = scheduler.debug_string()
    for one in trials:
        scheduler.on_trial_add(None, one)
        goes_on = scheduler.on_trial_result(None, one, {"training_iteration": 3, "score": -1.0})
        assert goes_on == scheduler.CONTINUE
    assert scheduler.debug_string() == before
    trials[0].last_result = {}  # begun anew
    scheduler.on_trial_add(None, trials[0])
    assert scheduler.on_trial_result(None, trials[0], {"training_iteration": 2, "score": -1.0}) == scheduler.STOP
