"""Population based training: six classifiers whose learning rates change while they train.

    python examples/pbt.py

Each trial trains a linear classifier of handwritten digits, one epoch a row. Every third epoch it is compared with the others:
if it is among the worst two, it goes on from the weights of one of the best two, with hyperparameters near to that one's. The
example then trains one classifier along the schedule that the best of them found. Kill it whenever you like and run it again
with the directory that it printed: it goes on as if nothing had happened.
"""

import json
import pickle
import sys
import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import holdfast as tune
from holdfast.schedulers import PopulationBasedTraining, PopulationBasedTrainingReplay

EPOCHS, STEP = 12, 3


def train(config):
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images / 16, labels, random_state=0)
    model, first = SGDClassifier(learning_rate="constant", random_state=0), 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            model, first = pickle.loads(Path(folder, "state.pkl").read_bytes())
    model.set_params(**config)
    for epoch in range(first, EPOCHS):
        model.partial_fit(train_x, train_y, classes=range(10))
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.pkl").write_bytes(pickle.dumps((model, epoch + 1)))
            tune.report({"accuracy": model.score(test_x, test_y)}, checkpoint=tune.Checkpoint.from_directory(folder))


def held_within(config):
    return {**config, "eta0": min(config["eta0"], 1.0)}


def main(results):
    path = f"{results}/population"
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, train)
    else:
        tuner = tune.Tuner(
            train,
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=6,
                seed=1,
                reuse_actors=True,  # a trial that goes on from another finds scikit-learn loaded
                scheduler=PopulationBasedTraining(
                    time_attr="training_iteration",
                    perturbation_interval=STEP,
                    hyperparam_mutations={"eta0": tune.loguniform(1e-4, 1.0), "alpha": tune.loguniform(1e-6, 1e-1)},
                    custom_explore_fn=held_within,
                ),
            ),
            run_config=tune.RunConfig(
                name="population", storage_path=results, verbose=0, checkpoint_config=tune.CheckpointConfig(num_to_keep=2)
            ),
        )
    best = tuner.fit().get_best_result()
    print(f"the best of the population: {best.metrics['accuracy']:.3f} with {best.config}")
    policy = Path(path, f"pbt_policy_{best.metrics['trial_id']}.txt")
    if not policy.exists():
        print("it trained with one configuration from beginning to end")
        return
    for line in policy.read_text().splitlines():
        _, donor, _, epoch, _, config = json.loads(line)
        print(f"  at epoch {epoch} from trial {donor}, then with {config}")
    again = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", scheduler=PopulationBasedTrainingReplay(str(policy))),
        run_config=tune.RunConfig(name="again", storage_path=results, verbose=0, if_exists="resume"),
    )
    print(f"one classifier along that schedule: {again.fit()[0].metrics['accuracy']:.3f}")


if __name__ == "__main__":
    directory = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="holdfast-pbt-")
    print(f"results in {directory}")
    main(directory)
