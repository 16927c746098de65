"""Six schedulers on one task: a linear classifier of handwritten digits, as a class.

    python examples/early_stopping.py             # all
    python examples/early_stopping.py asha pb2    # some

ASHA, HyperBand and the median rule stop what does badly and so spend fewer epochs. Population based training and PB2 (which
needs NumPy, `pip install 'holdfast[pb2]'`) spend all epochs, and have trials that do badly go on from better ones.
"""

import pickle
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import holdfast as tune
from holdfast.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
)
from holdfast.schedulers.pb2 import PB2

EPOCHS = 9
LOWEST, HIGHEST = 1e-5, 1.0


class Digits(tune.Trainable):
    """A linear classifier; `step` is one epoch."""

    def setup(self, config):
        images, labels = load_digits(return_X_y=True)
        self.train_x, self.test_x, self.train_y, self.test_y = train_test_split(images / 16, labels, random_state=0)
        self.model = SGDClassifier(learning_rate="constant", random_state=0, **config)

    def step(self):
        self.model.partial_fit(self.train_x, self.train_y, classes=range(10))
        return {"accuracy": self.model.score(self.test_x, self.test_y)}

    def save_checkpoint(self, checkpoint_dir):
        Path(checkpoint_dir, "model.pkl").write_bytes(pickle.dumps(self.model))

    def load_checkpoint(self, checkpoint_dir):
        # A trial that goes on from another's weights keeps the configuration that it was given in `setup`.
        weights = pickle.loads(Path(checkpoint_dir, "model.pkl").read_bytes())
        self.model = weights.set_params(**self.config)


SCHEDULERS = {
    "fifo": FIFOScheduler,
    "asha": lambda: ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
    "hyperband": lambda: HyperBandScheduler(max_t=EPOCHS, reduction_factor=3),
    "median": lambda: MedianStoppingRule(time_attr="training_iteration", grace_period=2, min_samples_required=2),
    "pbt": lambda: PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=3,
        hyperparam_mutations={"eta0": tune.loguniform(LOWEST, HIGHEST)},
        custom_explore_fn=lambda config: {**config, "eta0": min(max(config["eta0"], LOWEST), HIGHEST)},
    ),
    "pb2": lambda: PB2(time_attr="training_iteration", perturbation_interval=3, hyperparam_bounds={"eta0": [LOWEST, HIGHEST]}),
}


def trained(name, results, samples=9):
    return tune.Tuner(
        Digits,
        param_space={"eta0": tune.loguniform(LOWEST, HIGHEST)},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=samples, seed=1, scheduler=SCHEDULERS[name]()),
        run_config=tune.RunConfig(
            name=name, storage_path=results, verbose=0, if_exists="resume", stop={"training_iteration": EPOCHS}
        ),
    ).fit()


def main(names, results):
    for name in names or SCHEDULERS:
        grid = trained(name, results)
        epochs = sum(len(result.metrics_dataframe) for result in grid)
        best = grid.get_best_result()
        print(f"{name:10} {epochs:3} epochs, {best.metrics['accuracy']:.3f} with eta0={best.config['eta0']:.2g}")


if __name__ == "__main__":
    main(sys.argv[1:], tempfile.mkdtemp(prefix="holdfast-early-stopping-"))
