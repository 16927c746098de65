"""HyperBand as BOHB runs it; all that it shares with HyperBand is tested there."""

from __future__ import annotations

import math
import random

import pytest

from holdfast.schedulers import HyperBandForBOHB, create_scheduler
from unit.schedulers.stage import Stage


def started(places=100, **kwargs):
    return Stage(HyperBandForBOHB(**{"metric": "m", "mode": "max", "max_t": 9, **kwargs}), places)


def test_it_begins_with_the_bracket_that_halves_most_often():
    stage = started(max_t=81, places=0)
    for _ in range(81 + 34 + 15 + 8 + 5 + 1):
        stage.add()
    shown = [line.partition(", rung")[0] for line in stage.scheduler.debug_string().splitlines()[1:]]
    assert shown == [f"Bracket(s={s}, n={n}" for s, n in ((4, 81), (3, 34), (2, 15), (1, 8), (0, 5), (4, 81))]


def test_the_searcher_is_told_who_rests_and_who_goes_on():
    stage = started(places=1)
    trials = [stage.add() for _ in range(9)]
    for trial in trials:
        stage.report(trial, m=-trial.index)
    # The three best go on; the last to arrive is stopped, and so never rests.
    assert stage.pauses == [trial.trial_id for trial in trials[:8]]
    assert stage.unpauses == [trial.trial_id for trial in trials[:3]]
    assert [trial.index for trial in stage.live] == [0, 1, 2]


def test_the_last_to_arrive_does_not_rest():
    stage = started()
    trials = [stage.add() for _ in range(9)]
    for trial in trials:
        stage.report(trial, m=trial.index)
    assert stage.pauses == [trial.trial_id for trial in trials[:8]]
    assert stage.unpauses == [trial.trial_id for trial in trials[6:8]]


def test_the_next_bracket_runs_beside_one_that_leaves_places_free():
    stage = started(places=4)
    trials = [stage.add() for _ in range(11)]
    for trial in trials[:8]:
        stage.report(trial, m=trial.index)
    assert stage.running == trials[8:11]
    stage.report(trials[8], m=8)
    assert stage.running == trials[7:11]
    stage.complete(trials[10])
    assert stage.running == trials[6:10]


@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.parametrize("seed", range(20))
def test_no_trial_is_left_paused_whatever_happens(seed, places):
    chance = random.Random(seed)
    print("seed", seed)
    stage = Stage(HyperBandForBOHB(max_t=9), places, linger=chance.random() < 0.5, metric="m", mode="min")
    values = [0.0, 1.0, math.nan, None]
    stage.play(lambda trial: {"m": chance.choice(values)} if trial.iteration < 12 else None, chance, new=25, fault=0.02)
    assert not stage.started_by_core


def test_by_name():
    assert isinstance(create_scheduler("hb_bohb", max_t=9), HyperBandForBOHB)
