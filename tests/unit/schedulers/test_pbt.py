"""Population based training, against Algorithm 1 of its paper and on a stage."""

from __future__ import annotations

import json
import math
import pickle
import random
from types import SimpleNamespace

import pytest

from holdfast.errors import ConfigError, WrongType
from holdfast.schedulers import PopulationBasedTraining, PopulationBasedTrainingReplay
from holdfast.schedulers.mutations import Explorer
from holdfast.space import choice, loguniform, sample_from, uniform
from unit.schedulers.stage import Stage

LR = uniform(0.1, 1.0)


def pbt(**kwargs):
    given = {
        "time_attr": "training_iteration",
        "metric": "m",
        "mode": "max",
        "perturbation_interval": 2,
        "hyperparam_mutations": {"lr": LR},
    }
    return PopulationBasedTraining(**{**given, **kwargs})


class Reference:
    """Jaderberg et al. 2017, Algorithm 1 with truncation selection (section 4.1.1), from the paper's pseudo-code.

    A member that is ready and in the bottom of the ranking takes weights and hyperparameters of one drawn from the top
    (exploit), and then perturbs or resamples each hyperparameter (explore).
    """

    def __init__(self, interval, fraction, resample, factors, space, mode, chance):
        self.interval, self.fraction, self.resample, self.factors = interval, fraction, resample, factors
        self.space, self.mode, self.chance = space, mode, chance
        self.performance, self.last, self.hyperparameters = {}, {}, {}

    def add(self, member, h):
        self.hyperparameters[member], self.last[member] = dict(h), 0

    def remove(self, member):
        self.performance.pop(member, None)

    def step(self, member, t, p):
        """Returns (donor, explored hyperparameters) where the member exploits."""
        if t - self.last[member] < self.interval:  # not ready
            return None
        self.performance[member] = -p if self.mode == "min" else p
        self.last[member] = t
        ranking = sorted(self.performance, key=lambda one: (self.performance[one], one))
        size = math.ceil(self.fraction * len(ranking))
        size = 0 if len(ranking) < 2 else min(size, len(ranking) // 2)
        if member not in ranking[:size]:
            return None
        donor = self.chance.choice(ranking[len(ranking) - size :])
        self.hyperparameters[member] = {key: self.explore(key, value) for key, value in self.hyperparameters[donor].items()}
        self.last[member] = self.last[donor]
        return donor, self.hyperparameters[member]

    def explore(self, key, value):
        space, chance = self.space[key], self.chance
        resample = chance.random() < self.resample
        if isinstance(space, list):
            if resample:
                return chance.choice(space)
            return space[min(max(space.index(value) + chance.choice((-1, 1)), 0), len(space) - 1)]
        if resample:
            low, high = space
            return low + chance.random() * (high - low)
        moved = value * chance.choice(self.factors)
        return int(moved) if isinstance(value, int) else moved


@pytest.mark.parametrize("seed", range(200))
def test_it_decides_as_the_paper_says(seed):
    lots = random.Random(seed)
    print("seed", seed)
    interval, fraction, resample = lots.choice([1, 2, 5]), lots.choice([0.2, 0.25, 0.5, 0.1]), lots.choice([0.0, 0.25, 1.0])
    factors, mode, size = lots.choice([(1.2, 0.8), (2.0, 0.5)]), lots.choice(["min", "max"]), lots.randint(1, 12)
    scores = lots.choice([lambda: lots.gauss(0, 1), lambda: lots.randrange(4)])
    space = {"lr": (0.1, 1.0), "n": (1.0, 9.0), "c": [1, 2, 4, 8]}
    scheduler = pbt(
        mode=mode,
        perturbation_interval=interval,
        quantile_fraction=fraction,
        resample_probability=resample,
        perturbation_factors=factors,
        hyperparam_mutations={"lr": LR, "n": uniform(1, 9), "c": [1, 2, 4, 8]},
    )
    stage = Stage(scheduler, places=size, seed=seed)
    reference = Reference(interval, fraction, resample, factors, space, mode, random.Random(f"population {seed}"))
    for _ in range(size):
        config = {"lr": lots.uniform(0.1, 1), "n": lots.randint(2, 9), "c": lots.choice([1, 2, 4, 8])}
        reference.add(stage.add(config).trial_id, config)
    stage.no_more()
    wanted = []
    for _ in range(150):
        trial = lots.choice(stage.running)
        if lots.random() < 0.01 and len(stage.running) > 2:
            stage.complete(trial)
            reference.remove(trial.trial_id)
            continue
        if lots.random() < 0.02:
            stage.scheduler = pickle.loads(pickle.dumps(stage.scheduler))
        score = scores()
        exploit = reference.step(trial.trial_id, trial.iteration + 1, score)
        answer = stage.report(trial, m=score)
        assert answer == ("CONTINUE" if exploit is None else "PAUSE")
        if exploit is not None:
            wanted.append((trial.trial_id, *exploit))
    changes = [(order.trial_id, order.donor, order.config) for order in stage.orders if order.verb == "change"]
    assert changes == wanted
    assert not stage.started_by_core
    assert wanted or size < 2


def started(scheduler, size, places=None, **options):
    stage = Stage(scheduler, places=places or size, **options)
    for number in range(size):
        stage.add({"lr": 0.5 + number / 100})
    stage.no_more()
    return stage


def changes(stage):
    return [order for order in stage.orders if order.verb == "change"]


def test_a_bad_trial_goes_on_from_a_good_ones_checkpoint():
    stage = started(pbt(resample_probability=0.0), 4)
    for trial, m in zip(stage.trials, [4.0, 3.0, 2.0], strict=False):
        assert stage.report(trial, m=0.0) == "CONTINUE"
        assert stage.report(trial, m=m) == ("CONTINUE" if m == 4.0 else "PAUSE")
    bad, good = stage.trials[3], stage.trials[0]
    stage.report(bad, m=0.0)
    assert stage.report(bad, m=1.0) == "PAUSE"
    last = changes(stage)[-1]
    assert last.trial_id == bad.trial_id
    assert last.donor == good.trial_id
    assert last.config["lr"] in (good.config["lr"] * 1.2, good.config["lr"] * 0.8)
    assert bad.experiment_tag == f"3@perturbed[lr={last.config['lr']:.4f}]"
    assert bad.status == "RUNNING"
    assert bad.starts == [0, good.iteration]
    assert {order.trial_id for order in stage.orders if order.verb == "save"} >= {good.trial_id}


def test_trials_take_turns_where_there_are_fewer_places():
    stage = started(pbt(quantile_fraction=0.0), 3, places=1)
    order = []
    for _ in range(9):
        [trial] = stage.running
        order.append(trial.index)
        assert stage.report(trial, m=1.0) == "CONTINUE"
        assert stage.report(trial, m=1.0) == "PAUSE"
    assert order == [0, 1, 2] * 3


def test_who_takes_turns_is_judged_at_its_step_and_moved_at_its_next_turn():
    stage = started(pbt(resample_probability=0.0), 3, places=1)
    for m in (3.0, 2.0, 1.0):
        [trial] = stage.running
        assert not changes(stage)
        assert [stage.report(trial, m=m), stage.report(trial, m=m)] == ["CONTINUE", "PAUSE"]
    assert stage.running == [stage.trials[0]]  # it was the best, and goes on as it is
    stage.report(stage.trials[0], m=3.0)
    assert not changes(stage)
    stage.report(stage.trials[0], m=4.0)
    assert [(one.trial_id[-1], one.donor[-1]) for one in changes(stage)] == [("1", "0")]
    assert stage.running == [stage.trials[1]]
    assert stage.trials[1].starts == [0, 4]


def test_who_is_among_the_best_when_its_turn_comes_is_not_moved():
    stage = started(pbt(), 3, places=1)
    for m in (3.0, 2.0, 1.0, 0.0):  # the first falls back at its second turn, so the second is the best now
        [trial] = stage.running
        stage.report(trial, m=m)
        stage.report(trial, m=m)
    assert not changes(stage)
    assert stage.running == [stage.trials[1]]


@pytest.mark.parametrize("seed", range(20))
def test_nobody_who_takes_turns_is_sent_back(seed):
    print("seed", seed)
    lots = random.Random(seed)
    stage = Stage(pbt(quantile_fraction=0.5), places=1, seed=seed)
    stage.play(lambda trial: {"m": lots.random()} if trial.iteration < 20 else None, lots, new=7)
    for trial in stage.trials:
        iterations = [row["training_iteration"] for row in trial.rows]
        assert iterations == sorted(set(iterations))
    assert len(changes(stage)) > 7


def test_a_turn_waits_for_a_trial_that_is_on_its_way():
    stage = Stage(pbt(), places=1)
    one = stage.add({"lr": 0.5})
    two = stage.add({"lr": 0.5})
    for trial in (one, two):
        assert [stage.report(trial, m=1.0), stage.report(trial, m=1.0)] == ["CONTINUE", "PAUSE"]
    assert not stage.running
    three = stage.add({"lr": 0.5})
    assert stage.running == [three]


def test_a_trial_that_lost_its_worker_has_the_next_place():
    stage = started(pbt(quantile_fraction=0.0), 3, places=1)
    stage.report(stage.running[0], m=1.0)
    stage.report(stage.running[0], m=1.0)
    [middle] = stage.running
    stage.report(middle, m=1.0)
    stage.crash()
    assert stage.running == [middle]
    stage.lose(middle)
    assert stage.running == [middle]
    assert stage.report(middle, m=1.0) == "PAUSE"


@pytest.mark.parametrize("linger", [False, True])
def test_in_step_all_wait_until_all_are_there(linger):
    stage = started(pbt(synch=True), 4, places=2, linger=linger)

    def step(values):
        for trial in stage.trials:
            if linger:
                for gone in [one for one in stage.trials if one.worker == "leaving"]:
                    stage.gone(gone)
            assert not changes(stage)[made:]
            assert trial in stage.running
            assert stage.report(trial, m=0.0) == "CONTINUE"
            assert stage.report(trial, m=values[trial.index]) == "PAUSE"

    made = 0
    step([4.0, 3.0, 2.0, 1.0])
    if linger:
        assert not changes(stage)  # the last one has not left: its checkpoint may be on its way
        for trial in stage.trials:
            if trial.worker == "leaving":
                stage.gone(trial)
    assert [(one.trial_id[-1], one.donor[-1]) for one in changes(stage)] == [("3", "0")]
    made = len(changes(stage))
    step([1.0, 2.0, 3.0, 4.0])


def test_in_step_the_end_of_the_last_one_awaited_lets_the_others_go_on():
    for end in ("complete", "fail"):
        stage = started(pbt(synch=True), 3)
        for trial in stage.trials[:2]:
            stage.report(trial, m=0.0)
            stage.report(trial, m=float(trial.index))
        assert stage.running == [stage.trials[2]]
        getattr(stage, end)(stage.trials[2])
        assert stage.running == stage.trials[:2]
        assert len(changes(stage)) == 1


@pytest.mark.parametrize("synch", [False, True])
@pytest.mark.parametrize("places", [1, 3, 10])
@pytest.mark.parametrize("seed", range(6))
def test_every_trial_ends_whatever_happens(seed, places, synch):
    print("seed", seed)
    lots = random.Random(seed)
    odd = [math.nan, math.inf, -math.inf, None, "text", ...]

    def train(trial):
        if len(trial.rows) >= 12:
            return None
        return {"m": lots.choice(odd) if lots.random() < 0.3 else lots.random(), "saved": lots.random() < 0.6}

    scheduler = pbt(synch=synch, hyperparam_mutations={"lr": LR, "x": [1, 2]}, require_attrs=False, quantile_fraction=0.5)
    stage = Stage(scheduler, places, linger=bool(seed % 2), seed=seed)
    with pytest.warns(UserWarning, match="checkpoint") if seed < 0 else _quiet():
        stage.play(train, lots, new=8, fault=0.03)
    assert len(stage.trials) == 8


class _quiet:  # noqa: N801
    def __enter__(self):
        import warnings

        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.filterwarnings("ignore", message=".*has a checkpoint.*")

    def __exit__(self, *error):
        self.caught.__exit__(*error)


def test_nobody_learns_from_a_trial_without_checkpoint_or_score_or_that_ended():
    stage = started(pbt(require_attrs=False), 4)
    for trial in stage.trials[:3]:
        stage.report(trial, m=0.0, saved=False)
        stage.report(trial, m=5.0 - trial.index, saved=False) if trial.index == 0 else stage.complete(trial)
    bad = stage.trials[3]
    stage.report(bad, m=0.0)
    with pytest.warns(UserWarning, match="none of the best trials has a checkpoint"):
        assert stage.report(bad, m=1.0) == "CONTINUE"
    for _ in range(4):
        assert stage.report(bad, m=1.0) == "CONTINUE"  # said once
    stage.report(stage.trials[0], m=math.nan)
    assert stage.report(stage.trials[0], m=math.nan) == "PAUSE"  # worse than any number, and the other one has a checkpoint
    assert changes(stage)[-1].donor == bad.trial_id
    stage.report(bad, m=math.nan)
    assert stage.report(bad, m=math.nan) == "CONTINUE"


def test_burn_in():
    stage = started(pbt(burn_in_period=6, perturbation_interval=1), 2)
    good, bad = stage.trials
    for t in range(1, 8):
        stage.report(good, m=1.0)
        assert stage.report(bad, m=0.0) == ("CONTINUE" if t < 6 else "PAUSE")


def test_what_a_configuration_lacks_is_drawn():
    mutations = {"lr": LR, "deep": {"n": [1, 2], "f": lambda: 7}, "c": choice(["a", "b"])}
    stage = Stage(pbt(hyperparam_mutations=mutations), seed=3)
    one = stage.add({"lr": 0.3})
    two = stage.add({"lr": 0.3, "deep": {"n": 5}})
    assert one.config["lr"] == 0.3
    assert one.config["deep"]["n"] in (1, 2)
    assert one.config["deep"]["f"] == two.config["deep"]["f"] == 7
    assert two.config["deep"]["n"] == 5
    assert one.config["c"] in ("a", "b")
    assert changes(stage)[0].trial_id == one.trial_id
    assert len(changes(stage)) == 2
    assert not changes(Stage(pbt(), seed=3)) and stage.add({**one.config}).config == one.config
    assert len(changes(stage)) == 2


def test_the_users_own_explore_function_has_the_last_word():
    seen = []

    def within(config):
        seen.append(dict(config))
        config["lr"] = min(config["lr"], 0.51)
        return config

    stage = started(pbt(custom_explore_fn=within, resample_probability=0.0, perturbation_factors=(2.0, 2.0)), 2)
    assert not stage.scheduler.own_chance
    for trial in stage.trials:
        stage.report(trial, m=0.0)
        stage.report(trial, m=-float(trial.index))
    assert seen[0]["lr"] == 1.0
    assert changes(stage)[0].config["lr"] == 0.51
    assert stage.trials[0].config["lr"] == 0.5
    stage = started(PopulationBasedTraining("training_iteration", "m", "max", 1, custom_explore_fn=lambda _: None), 2)
    stage.report(stage.trials[0], m=1.0)
    with pytest.raises(ConfigError, match="must return the configuration"):
        stage.report(stage.trials[1], m=0.0)


def test_chance_is_the_schedulers_own_unless_user_code_draws():
    assert pbt().own_chance
    assert pbt(hyperparam_mutations={"a": [1], "b": loguniform(1, 2), "c": {"d": choice([1])}}).own_chance
    assert not pbt(hyperparam_mutations={"a": random.random}).own_chance
    assert not pbt(hyperparam_mutations={"c": {"d": random.random}}).own_chance


def test_numbers_lists_and_what_is_neither():
    chance = random.Random(1)
    explorer = Explorer({"n": uniform(1, 9), "l": [1, 2, 3], "b": uniform(5, 6), "s": lambda: "new", "w": [1]}, 0.0, (1.5,))
    config = {"n": 3, "l": 1, "b": True, "s": "text", "w": 7, "kept": [1]}
    new = explorer.explored(config, chance)
    assert new["n"] == 4 and type(new["n"]) is int
    assert new["l"] in (1, 2)
    assert 5 <= new["b"] < 6
    assert new["s"] == "new"
    assert new["w"] == 1
    assert new["kept"] == [1] and new["kept"] is not config["kept"]
    assert config["n"] == 3
    assert Explorer({"x": LR}, 0.0, (10.0,)).explored({"x": 0.5}, chance)["x"] == 5.0  # as in Ray Tune: bounds are for drawing


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"perturbation_interval": 0}, ConfigError),
        ({"burn_in_period": -1}, ConfigError),
        ({"quantile_fraction": 0.6}, ConfigError),
        ({"quantile_fraction": -0.1}, ConfigError),
        ({"resample_probability": 2}, ConfigError),
        ({"perturbation_factors": ()}, ConfigError),
        ({"mode": "up"}, ConfigError),
        ({"hyperparam_mutations": None}, ConfigError),
        ({"hyperparam_mutations": {"a": []}}, ConfigError),
        ({"hyperparam_mutations": {"a": sample_from(lambda _: 1)}}, ConfigError),
        ({"hyperparam_mutations": {"a": 3}}, WrongType),
        ({"hyperparam_mutations": {"a": {"b": "text"}}}, WrongType),
        ({"hyperparam_mutations": [1]}, WrongType),
        ({"custom_explore_fn": 3}, WrongType),
    ],
)
def test_bad_arguments(kwargs, error):
    with pytest.raises(error):
        pbt(**kwargs)


def test_metric_and_mode_come_from_one_side():
    assert pbt().set_search_properties("m", None) is False
    scheduler = PopulationBasedTraining(hyperparam_mutations={"lr": LR})
    assert scheduler.required == ("time_total_s", "_metric")
    assert scheduler.set_search_properties("loss", "min", seed=1)
    assert scheduler.required == ("time_total_s", "loss")
    assert pbt(require_attrs=False).required == ()
    with pytest.raises(ConfigError, match="TuneConfig"):
        PopulationBasedTraining(hyperparam_mutations={"lr": LR}).on_trial_add(None, SimpleNamespace(trial_id="a"))


def test_a_restarted_trial_begins_anew_and_a_revived_one_goes_on():
    stage = started(pbt(), 2)
    good, bad = stage.trials
    for _ in range(2):
        stage.report(good, m=1.0)
    stage.complete(good)
    good.status = "PENDING"
    stage._call("on_trial_add", good)
    stage.fill()
    stage.report(bad, m=0.0)
    assert stage.report(bad, m=0.0) == "CONTINUE"  # the revived one has no score before its next step
    stage.report(good, m=1.0)
    stage.report(good, m=1.0)
    stage.report(bad, m=0.0)
    assert stage.report(bad, m=0.0) == "PAUSE"


def policy(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


LINES = (
    ["1_lr=9", "2_lr=1", 3, 2, {"lr": 9.0}, {"lr": 8.0}],  # a life that was given up
    ["0_lr=1", "2_lr=1", 4, 4, {"lr": 1.0}, {"lr": 2.0}],
    ["1_lr=9", "0_lr=1", 9, 6, {"lr": 2.0}, {"lr": 3.0}],
)


def test_a_replay_changes_the_configuration_at_the_recorded_steps(tmp_path):
    stage = Stage(PopulationBasedTrainingReplay(policy(tmp_path / "p", *LINES)))
    trial = stage.add({"lr": 7.0, "other": "kept"})
    stage.no_more()
    (tmp_path / "p").unlink()  # it is not needed any more
    seen = []
    for _ in range(8):
        seen.append(trial.config["lr"])
        if len(seen) == 3:
            stage.crash()
        stage.report(trial, m=0.0)
    assert seen == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert trial.config["other"] == "kept"
    assert [answer for _, answer in stage.answers] == ["CONTINUE"] * 3 + ["PAUSE", "CONTINUE", "PAUSE", "CONTINUE", "CONTINUE"]
    assert trial.starts == [0, 2, 4, 6]


def test_a_replay_takes_steps_that_a_row_jumps_over_at_once(tmp_path):
    stage = Stage(PopulationBasedTrainingReplay(policy(tmp_path / "p", *LINES)))
    trial = stage.add()
    assert stage.report(trial, training_iteration=100, m=0.0) == "PAUSE"
    assert trial.config["lr"] == 3.0
    assert stage.report(trial, training_iteration=101, m=0.0) == "CONTINUE"
    assert stage.report(trial, training_iteration="text") == "CONTINUE"


def test_a_replay_stops_further_trials(tmp_path):
    stage = Stage(PopulationBasedTrainingReplay(policy(tmp_path / "p", *LINES)), places=2)
    stage.add()
    with pytest.warns(UserWarning, match="num_samples=1"):
        second = stage.add()
    assert second.is_finished()


@pytest.mark.parametrize(
    "text",
    ["", "not json\n", "[1, 2]\n", '{"a": 1}\n', '["a", "b", 1, 2, {}, 3]\n', '["a", "b", "x", 2, {}, {}]\n', b"\xff\xfe\x00"],
)
def test_what_is_no_policy_log_is_refused(tmp_path, text):
    path = tmp_path / "p"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"policy (log|file)"):
        PopulationBasedTrainingReplay(str(path))


def test_a_missing_policy_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.txt.*pbt_policy_"):
        PopulationBasedTrainingReplay(str(tmp_path / "nowhere.txt"))
