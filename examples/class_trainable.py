"""A trial as a class: set up once, asked for one epoch after another, saved and gone on with by its own two methods.

    python examples/class_trainable.py

Each trial trains a linear classifier of handwritten digits. ASHA stops the weak ones, every fifth epoch is saved, and the last
one of each trial is saved in any case. Kill it whenever you like and run it again with the directory that it printed: it goes on.
"""

import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import holdfast as tune
from holdfast.schedulers import ASHAScheduler
from holdfast.utils import validate_save_restore

EPOCHS = 20


class Digits(tune.Trainable):
    """A linear classifier; `setup` builds it, `step` is one epoch."""

    def setup(self, config):
        images, labels = load_digits(return_X_y=True)
        self.train_x, self.test_x, self.train_y, self.test_y = train_test_split(images / 16, labels, random_state=0)
        self.order = np.random.default_rng(0)
        self.model = SGDClassifier(alpha=config["alpha"], eta0=config["eta0"], learning_rate="constant", random_state=0)

    def step(self):
        shuffled = self.order.permutation(len(self.train_x))
        self.model.partial_fit(self.train_x[shuffled], self.train_y[shuffled], classes=range(10))
        return {"accuracy": self.model.score(self.test_x, self.test_y), "timesteps_this_iter": len(shuffled)}

    def save_checkpoint(self, checkpoint_dir):
        # All that step() goes on from: without the generator a restored trial would see the data in another order.
        Path(checkpoint_dir, "state.pkl").write_bytes(pickle.dumps((self.model, self.order)))

    def load_checkpoint(self, checkpoint_dir):
        self.model, self.order = pickle.loads(Path(checkpoint_dir, "state.pkl").read_bytes())


def main(results):
    path = f"{results}/digits"
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, Digits)
    else:
        validate_save_restore(Digits, {"alpha": 1e-4, "eta0": 0.1})
        print("a restored instance goes on as one that was not")
        tuner = tune.Tuner(
            Digits,
            param_space={"alpha": tune.loguniform(1e-5, 1e-1), "eta0": tune.loguniform(1e-3, 1.0)},
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=4,
                seed=1,
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=2),
            ),
            run_config=tune.RunConfig(
                name="digits",
                storage_path=results,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=5, num_to_keep=2),
            ),
        )
    grid = tuner.fit()
    best = grid.get_best_result()
    print(f"{len(grid)} trials, {sum(result.metrics['training_iteration'] for result in grid)} epochs, in {path}")
    print(f"best: accuracy {best.metrics['accuracy']:.3f} after {best.metrics['training_iteration']} epochs")

    model = Digits(best.config)
    model.restore(best.checkpoint)
    print(f"its checkpoint, on its own: {model.model.score(model.test_x, model.test_y):.3f}, at epoch {model.iteration}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="holdfast-class-trainable-"))
