"""What a searcher is measured at, each in a process of its own: `python -m bench.searching NAME ARGUMENTS`; prints JSON."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import optuna

import holdfast as tune
from holdfast.engines.simulated import SimulatedEngine
from holdfast.search.optuna import OptunaSearch
from holdfast.space import Categorical, Integer

SPACE = {
    "x": tune.uniform(-5, 10),
    "lr": tune.loguniform(1e-4, 1),
    "n": tune.randint(1, 9),
    "s": tune.quniform(0, 1, 0.1),
    "c": tune.choice(["a", "b", "c"]),
}


def around(trials: str) -> dict[str, float]:
    """Seconds per trial in Optuna's own `ask` and `tell`, and in OptunaSearch around them."""
    searcher = OptunaSearch()
    searcher.set_search_properties("loss", "min", SPACE, seed=1)
    study, theirs = searcher.study, 0.0

    def timed(method):
        def call(*arguments, **named):
            nonlocal theirs
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                theirs += time.perf_counter() - began

        return call

    study.ask, study.tell = timed(study.ask), timed(study.tell)
    began = time.perf_counter()
    for number in range(int(trials)):
        trial_id = f"bench_{number:05d}"
        loss = _loss(searcher.suggest(trial_id))
        for row in range(3):
            searcher.on_trial_result(trial_id, {"training_iteration": row + 1, "loss": loss})
        searcher.on_trial_complete(trial_id, {"loss": loss})
    whole = time.perf_counter() - began
    return {"ours": (whole - theirs) / int(trials), "optunas": theirs / int(trials)}


def _loss(config) -> float:
    return (config["x"] - 1) ** 2 + math.log(config["lr"]) ** 2 + config["n"]


def _dies(config, _state, moment):
    """One row; the trial whose number is in the environment kills the driver, and in a restored one says when it began."""
    if int(moment.trial_id.split("_")[1]) >= int(os.environ["BENCH_TRIALS"]):
        if "BENCH_BEGAN" not in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        print(json.dumps(time.monotonic() - float(os.environ["BENCH_BEGAN"])), flush=True)
        os._exit(0)
    if "BENCH_BEGAN" not in os.environ:
        time.sleep(0.05)  # trials take their time, and the searcher thinks meanwhile
    yield {"loss": _loss(config)}


def killed(folder: str, trials: str) -> None:
    """Runs so many trials under OptunaSearch, and is killed in the next one."""
    os.environ["BENCH_TRIALS"] = trials
    config = tune.TuneConfig(metric="loss", mode="min", num_samples=int(trials) + 10, search_alg=OptunaSearch(), seed=1)
    run = tune.RunConfig(name="killed", storage_path=folder, verbose=0, engine=SimulatedEngine(workers=1))
    tune.Tuner(_dies, param_space=SPACE, tune_config=config, run_config=run).fit()


def restored(folder: str, trials: str, snapshots: str) -> None:
    """Prints the seconds from `Tuner.restore` to the first line of a trial that has not run before."""
    path = Path(folder, "killed")
    if snapshots == "without":
        shutil.rmtree(path / "journal" / "snapshots", ignore_errors=True)
    os.environ.update(BENCH_TRIALS=trials, BENCH_BEGAN=str(time.monotonic()))
    tune.Tuner.restore(str(path), _dies, engine=SimulatedEngine(workers=1), takeover=True).fit()


# What is minimised for quality: a space and a function of the configuration.


def _branin(config) -> float:
    x, y = config["x"], config["y"]
    bowl = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


_ALPHA = (1.0, 1.2, 3.0, 3.2)
_A = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def _hartmann(config) -> float:
    point = [config[f"x{k}"] for k in range(6)]
    far = [sum(a * (x - p) ** 2 for a, p, x in zip(_A[i], _P[i], point, strict=True)) for i in range(4)]
    return -sum(alpha * math.exp(-distance) for alpha, distance in zip(_ALPHA, far, strict=True))


def _tabulated():
    """Errors of a support vector machine on handwritten digits, from the table that examples/tabulate_training.py makes."""
    with open(Path(__file__).parents[1] / "examples" / "digits_svm.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("scaled", "components", "C", "gamma")
    table = {tuple(row[key] for key in keys): float(row["error"]) for row in rows}
    axes = {key: list(dict.fromkeys(row[key] for row in rows)) for key in keys}
    space = {
        "scaled": tune.choice(axes["scaled"]),
        "components": tune.randint(0, len(axes["components"])),
        "C": tune.randint(0, len(axes["C"])),
        "gamma": tune.randint(0, len(axes["gamma"])),
    }

    def error(config) -> float:
        return table[(config["scaled"], *(axes[key][config[key]] for key in keys[1:]))]

    return space, error


def _problem(name: str):
    if name == "branin":
        return {"x": tune.uniform(-5, 10), "y": tune.uniform(0, 15)}, _branin
    if name == "hartmann":
        return {f"x{k}": tune.uniform(0, 1) for k in range(6)}, _hartmann
    return _tabulated()


def quality(folder: str, name: str, seeds: str, trials: str) -> dict[str, list[float]]:
    """The best value of each seed, found by OptunaSearch in an experiment and by plain Optuna."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, function = _problem(name)

    def train(config):
        yield {"loss": function(config)}

    ours, theirs = [], []
    for seed in range(int(seeds)):
        search = OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed))
        config = tune.TuneConfig(metric="loss", mode="min", num_samples=int(trials), search_alg=search, seed=seed)
        run = tune.RunConfig(name=f"{name}{seed}", storage_path=folder, verbose=0, engine=SimulatedEngine(workers=1))
        grid = tune.Tuner(train, param_space=space, tune_config=config, run_config=run).fit()
        ours.append(grid.get_best_result("loss", "min").metrics["loss"])
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(lambda trial: function(_suggested(trial, space)), n_trials=int(trials))
        theirs.append(study.best_value)
    return {"ours": ours, "optunas": theirs}


def _suggested(trial, space):
    return {
        name: trial.suggest_categorical(name, domain.categories)
        if isinstance(domain, Categorical)
        else trial.suggest_int(name, domain.lower, domain.upper - 1)
        if isinstance(domain, Integer)
        else trial.suggest_float(name, domain.lower, domain.upper)
        for name, domain in space.items()
    }


if __name__ == "__main__":
    found = {"around": around, "killed": killed, "restored": restored, "quality": quality}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(found))
