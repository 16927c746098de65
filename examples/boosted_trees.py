"""Boosted trees by XGBoost or LightGBM: a row per round, a checkpoint every fifth, and ASHA stops the weak ones.

    pip install 'holdfast[xgboost,lightgbm]'
    python examples/boosted_trees.py
    python examples/boosted_trees.py xgboost

The library's callback reports for you. A trial that was interrupted goes on from its newest model, with the rounds that are left.
"""

import sys
import tempfile

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import holdfast as tune
from holdfast.schedulers import ASHAScheduler

ROUNDS = 20
SPACE = {"learning_rate": tune.loguniform(0.01, 0.5), "max_depth": tune.randint(1, 6)}


def tumours():
    table, malign = load_breast_cancer(return_X_y=True)
    return train_test_split(table, malign, random_state=0)


def by_xgboost(config):
    import xgboost

    from holdfast.integration.xgboost import TuneReportCheckpointCallback

    x, test_x, y, test_y = tumours()
    train, test = xgboost.DMatrix(x, label=y), xgboost.DMatrix(test_x, label=test_y)
    checkpoint = tune.get_checkpoint()
    model = TuneReportCheckpointCallback.get_model(checkpoint) if checkpoint else None
    xgboost.train(
        {"objective": "binary:logistic", "nthread": 1, **config},
        train,
        num_boost_round=ROUNDS - (model.num_boosted_rounds() if model else 0),
        evals=[(test, "test")],
        xgb_model=model,
        verbose_eval=False,
        callbacks=[TuneReportCheckpointCallback({"loss": "test-logloss"}, frequency=5)],
    )


def by_lightgbm(config):
    import lightgbm

    from holdfast.integration.lightgbm import TuneReportCheckpointCallback

    x, test_x, y, test_y = tumours()
    train = lightgbm.Dataset(x, label=y)
    checkpoint = tune.get_checkpoint()
    model = TuneReportCheckpointCallback.get_model(checkpoint) if checkpoint else None
    lightgbm.train(
        {"objective": "binary", "num_threads": 1, "verbose": -1, **config},
        train,
        num_boost_round=ROUNDS - (model.current_iteration() if model else 0),
        valid_sets=[train.create_valid(test_x, label=test_y)],
        valid_names=["test"],
        init_model=model,
        callbacks=[TuneReportCheckpointCallback({"loss": "test-binary_logloss"}, frequency=5)],
    )


LIBRARIES = {"xgboost": by_xgboost, "lightgbm": by_lightgbm}


def boosted(name, results, samples=6):
    return tune.Tuner(
        LIBRARIES[name],
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=samples, seed=1, scheduler=ASHAScheduler(max_t=ROUNDS, grace_period=5)
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=results,
            verbose=0,
            if_exists="resume",
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
        ),
    ).fit()


def main(names, results):
    for name in names or LIBRARIES:
        grid = boosted(name, results)
        best = grid.get_best_result()
        rounds = sum(result.metrics["training_iteration"] for result in grid)
        print(f"{name}: {len(grid)} models, {rounds} rounds; the best has loss {best.metrics['loss']:.3f} with {best.config}")


if __name__ == "__main__":
    main(sys.argv[1:], tempfile.mkdtemp(prefix="holdfast-boosted-trees-"))
