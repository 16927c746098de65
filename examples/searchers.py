"""Six searchers on one task: a support vector machine that tells malign tumours from benign ones.

    python examples/searchers.py                    # all that are installed
    python examples/searchers.py optuna hyperopt    # some

The kernel decides which other parameters there are, so the space has a condition in it. Most searchers take it from
`param_space`; Optuna and Hyperopt also take one in their own words. What each needs: `pip install 'holdfast[optuna]'`,
`[hyperopt]`, `[bayesopt]`, `[nevergrad]`. BOHB needs nothing more; it learns from trials that are stopped early, so it has
epochs to stop.
"""

import math
import pickle
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale
from sklearn.svm import SVC

import holdfast as tune
from holdfast.errors import ConfigError
from holdfast.schedulers import HyperBandForBOHB

SPACE = {
    "C": tune.loguniform(1e-2, 1e3),
    "shape": tune.choice(
        [
            {"kernel": "rbf", "gamma": tune.loguniform(1e-4, 1.0)},
            {"kernel": "poly", "degree": tune.randint(2, 5)},
        ]
    ),
}


def tumours():
    table, malign = load_breast_cancer(return_X_y=True)
    return train_test_split(scale(table), malign, random_state=0)


def classify(config):
    x, test_x, y, test_y = tumours()
    model = SVC(C=config["C"], **config["shape"]).fit(x, y)
    return {"accuracy": model.score(test_x, test_y), "vectors": int(model.n_support_.sum())}


def epoch_by_epoch(config):
    """For BOHB: HyperBand pauses trials, which then go on from their checkpoints."""
    x, test_x, y, test_y = tumours()
    model, epoch = SGDClassifier(learning_rate="constant", random_state=0, **config), 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            model, epoch = pickle.loads(Path(folder, "state.pkl").read_bytes())
    while epoch < 9:
        epoch += 1
        model.partial_fit(x, y, classes=[0, 1])
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.pkl").write_bytes(pickle.dumps((model, epoch)))
            tune.report({"accuracy": model.score(test_x, test_y)}, checkpoint=tune.Checkpoint.from_directory(folder))


# ------------------------------------------------------------------------------------------------ the searchers
# Each says what it searches and by what: arguments of `Tuner` and of `TuneConfig`.


def optuna():
    from holdfast.search.optuna import OptunaSearch

    return classify, SPACE, {"search_alg": OptunaSearch()}


def optuna_by_run():
    """The space as code: what is asked for next may depend on what was answered."""
    from holdfast.search.optuna import OptunaSearch

    def by_run(trial):
        trial.suggest_float("C", 1e-2, 1e3, log=True)
        if trial.suggest_categorical("shape/kernel", ["rbf", "poly"]) == "rbf":
            trial.suggest_float("shape/gamma", 1e-4, 1.0, log=True)
        else:
            trial.suggest_int("shape/degree", 2, 4)

    return classify, {}, {"search_alg": OptunaSearch(by_run)}


def optuna_two_metrics():
    """Accurate, and with few support vectors: there is no one best trial; `get_best_result` says by which metric."""
    from holdfast.search.optuna import OptunaSearch

    search = OptunaSearch(metric=["accuracy", "vectors"], mode=["max", "min"])
    return classify, SPACE, {"search_alg": search, "metric": None, "mode": None}


def hyperopt():
    """A space in Hyperopt's words."""
    from hyperopt import hp

    from holdfast.search.hyperopt import HyperOptSearch

    space = {
        "C": hp.loguniform("C", math.log(1e-2), math.log(1e3)),
        "shape": hp.choice(
            "shape",
            [
                {"kernel": "rbf", "gamma": hp.loguniform("gamma", math.log(1e-4), 0.0)},
                {"kernel": "poly", "degree": hp.randint("degree", 2, 5)},
            ],
        ),
    }
    return classify, {}, {"search_alg": HyperOptSearch(space)}


def bayesopt():
    from holdfast.search.bayesopt import BayesOptSearch

    return classify, SPACE, {"search_alg": BayesOptSearch(random_search_steps=4)}


def nevergrad():
    from holdfast.search.nevergrad import NevergradSearch

    return classify, SPACE, {"search_alg": NevergradSearch()}


def bohb():
    """With the scheduler that was made for it."""
    from holdfast.search.bohb import TuneBOHB

    space = {"eta0": tune.loguniform(1e-5, 1.0), "alpha": tune.loguniform(1e-6, 1e-1)}
    return epoch_by_epoch, space, {"search_alg": TuneBOHB(), "scheduler": HyperBandForBOHB(max_t=9, reduction_factor=3)}


WAYS = {way.__name__: way for way in (optuna, optuna_by_run, optuna_two_metrics, hyperopt, bayesopt, nevergrad, bohb)}


def searched(name, results, samples=12):
    trainable, space, how = WAYS[name]()
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            **{"metric": "accuracy", "mode": "max", "num_samples": samples, "seed": 1, "reuse_actors": True, **how}
        ),
        run_config=tune.RunConfig(name=name, storage_path=results, verbose=0, if_exists="resume"),
    ).fit()


def main(names, results):
    for name in names or WAYS:
        try:
            best = searched(name, results).get_best_result("accuracy", "max")
        except (ConfigError, ImportError) as error:  # its library is not installed
            print(f"{name:20} left out: {error}")
        else:
            print(f"{name:20} {best.metrics['accuracy']:.3f} with {best.config}")


if __name__ == "__main__":
    main(sys.argv[1:], tempfile.mkdtemp(prefix="holdfast-searchers-"))
