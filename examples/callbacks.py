"""Two callbacks: one writes a log of its own, the other says when a trial is worth a checkpoint.

    python examples/callbacks.py

A callback hears what happens, after it is on record, and decides nothing; but what it puts into a row counts: the key
`should_checkpoint` has a class trainable save with that row.
"""

import sys
import tempfile

import holdfast as tune
from holdfast.logger import LoggerCallback


class Descent(tune.Trainable):
    """Goes down a parabola."""

    def setup(self, config):
        self.x = 10.0

    def step(self):
        self.x -= self.config["rate"] * 2 * (self.x - 3.0)
        return {"loss": (self.x - 3.0) ** 2}

    def save_checkpoint(self, checkpoint_dir):
        return {"x": self.x}

    def load_checkpoint(self, checkpoint):
        self.x = checkpoint["x"]


class Log(LoggerCallback):
    """A line for each row, in the experiment's terminal."""

    def log_trial_start(self, trial):
        print(f"{trial.trial_id} begins with {trial.config}")

    def log_trial_result(self, iteration, trial, result):
        print(f"{trial.trial_id} row {result['training_iteration']}: loss {result['loss']:.4f}")

    def log_trial_end(self, trial, failed=False):
        print(f"{trial.trial_id} {'failed' if failed else 'ended'}")


class SaveAtHalf(tune.Callback):
    """Has a trial save whenever its loss has halved since it last saved."""

    def __init__(self):
        self.saved = {}

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["loss"] <= self.saved.get(trial.trial_id, float("inf")) / 2:
            self.saved[trial.trial_id] = result["loss"]
            result["should_checkpoint"] = True

    def get_state(self):  # so that a restored driver knows what was saved
        return self.saved

    def set_state(self, state):
        self.saved = state


def main(results):
    grid = tune.Tuner(
        Descent,
        param_space={"rate": tune.grid_search([0.02, 0.3])},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", trial_dirname_creator=lambda trial: f"rate-{trial.config['rate']}"
        ),
        run_config=tune.RunConfig(
            name="callbacks",
            storage_path=results,
            verbose=0,
            stop={"training_iteration": 12},
            callbacks=[Log(), SaveAtHalf()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    for result in grid:
        saved = [row["training_iteration"] for _, row in result.best_checkpoints]
        print(f"with rate {result.config['rate']} it saved at rows {sorted(saved)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="holdfast-callbacks-"))
