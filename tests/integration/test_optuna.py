"""OptunaSearch in real processes: killed with SIGKILL and restored, it ends as if nothing had happened."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

import holdfast as tune
from holdfast._assembly.explaining import explain
from holdfast.schedulers import ASHAScheduler
from holdfast.search.optuna import OptunaSearch
from holdfast.storage.local import LocalStorage
from holdfast.testing import fit_until_killed

SEED, TRIALS = 5, 8

SPACE = {
    "net": {"w": tune.uniform(0, 1), "sizes": [tune.qlograndint(8, 64, 8), 4]},
    "model": tune.choice([{"k": tune.uniform(0, 1)}, {"j": len}]),
    "twice": tune.sample_from(lambda spec: spec.config.net["w"] * 2 + random.random()),
    "fixed": (1, "a"),
}


def train(config: dict[str, Any]) -> None:
    for row in range(4):
        tune.report({"loss": (config["net"]["w"] - 0.3) ** 2 + config["model"].get("k", 0) + 1 / (row + 1)})


def by_run(trial: Any) -> dict[str, Any]:
    w = trial.suggest_float("net/w", 0, 1)
    if w < 0.5:
        trial.suggest_float("model/k", 0, 1)
    return {"model": {}} if w >= 0.5 else {}


def _storage(place: str) -> Any:
    path = os.path.join(place, "study.log")
    lock = JournalFileSymlinkLock(path, grace_period=4)  # seconds after which the lock of a killed process is void
    return optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=lock))


def tuner(place: str, search: Callable[[str], OptunaSearch], space: dict[str, Any]) -> tune.Tuner:
    path = os.path.join(place, "exp")
    if tune.Tuner.can_restore(path):
        return tune.Tuner.restore(path, train)
    config = tune.TuneConfig(
        metric="loss",
        mode="min",
        num_samples=TRIALS,
        scheduler=ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2),
        search_alg=search(place),
        max_concurrent_trials=1,
        seed=SEED,
    )
    run = tune.RunConfig(name="exp", storage_path=place, verbose=0)
    return tune.Tuner(train, param_space=space, tune_config=config, run_config=run)


def by_domains(place: str) -> OptunaSearch:
    # The sampler has no seed: what it drew when it was made is part of the experiment.
    return OptunaSearch(sampler=optuna.samplers.TPESampler(n_startup_trials=3), storage=_storage(place))


def by_function(place: str) -> OptunaSearch:
    return OptunaSearch(by_run, storage=_storage(place), points_to_evaluate=[{"net": {"w": 0.75}}])


@pytest.mark.slow
@pytest.mark.parametrize(("search", "space"), [(by_domains, SPACE), (by_function, {"fixed": (1, "a")})])
def test_killed_and_restored_it_goes_on_exactly(search, space, tmp_path: Path) -> None:
    place = str(tmp_path)

    def make() -> tune.Tuner:
        return tuner(place, search, space)

    lots = random.Random(SEED)
    moments = [lots.randint(10, 25), lots.randint(10, 25)]
    print("seed", SEED, "killed after", moments, "events")
    for events in moments:
        assert fit_until_killed(make, events=events)
    assert not fit_until_killed(make, events=10_000)
    results = make().get_results()
    assert len(results) == TRIALS
    # Fresh plug-ins, as the experiment began with them, give all recorded answers again: no driver's end left a trace.
    assert explain(LocalStorage(os.path.join(place, "exp"))) == []

    study = optuna.load_study(study_name="optuna", storage=_storage(place))
    assert [trial.user_attrs["holdfast_trial"][-5:] for trial in study.trials] == [f"{k:05d}" for k in range(TRIALS)]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * TRIALS
    assert study.best_value == results.get_best_result().metrics["loss"]
    assert [result.config["net"]["w"] for result in results] == [trial.params["net/w"] for trial in study.trials]
    assert all(result.config["fixed"] == (1, "a") for result in results)
