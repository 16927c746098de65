"""Train the best trial longer: its checkpoint, in the search space of a new experiment, is where that one begins.

    python examples/train_longer.py

`Tuner.extend` has an experiment itself go on, all its trials in place. This is the other way: a new experiment that begins
where another one's best trial is, with a space of its own. Give it the checkpoint as a value, or in a `grid_search` beside
others. It is on record there like every other value: a restore of the new experiment needs nothing but the path and the
trainable.
"""

import json
import sys
import tempfile
from pathlib import Path

import holdfast as tune


def train(config):
    """Gradient descent on (x - 3)², `epochs` steps; from this trial's own newest checkpoint, else from the given one."""
    x, epoch = 0.0, 0
    checkpoint = tune.get_checkpoint() or config.get("start_from")
    if checkpoint:
        with checkpoint.as_directory() as folder:
            x, epoch = json.loads(Path(folder, "state.json").read_text())
    while epoch < config["epochs"]:
        x, epoch = x - config["lr"] * 2 * (x - 3), epoch + 1
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps([x, epoch]))
            tune.report({"loss": (x - 3) ** 2, "epoch": epoch}, checkpoint=tune.Checkpoint.from_directory(folder))


def run(name, param_space, results):
    """The experiment of that name, from wherever it is."""
    path = f"{results}/{name}"
    if tune.Tuner.can_restore(path):
        return tune.Tuner.restore(path, train).fit()
    return tune.Tuner(
        train,
        param_space=param_space,
        tune_config=tune.TuneConfig(metric="loss", mode="min", seed=1),
        run_config=tune.RunConfig(name=name, storage_path=results, verbose=0),
    ).fit()


def main(results):
    first = run("first", {"lr": tune.grid_search([0.01, 0.03, 0.1]), "epochs": 5}, results)
    best = first.get_best_result()
    print(f"after {best.metrics['epoch']} epochs the loss is {best.metrics['loss']:.2e} with lr {best.config['lr']}")

    space = {**best.config, "epochs": 10, "lr": tune.grid_search([0.1, 0.3]), "start_from": best.checkpoint}
    longer = run("longer", space, results).get_best_result()
    epochs = list(longer.metrics_dataframe["epoch"])
    print(f"after {longer.metrics['epoch']} epochs it is {longer.metrics['loss']:.2e} with lr {longer.config['lr']}", end=" ")
    print(f"(epochs {epochs[0]} to {epochs[-1]} were trained)")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="holdfast-train-longer-"))
