"""Share large objects with all trials: each is put into memory once, and no trial copies its arrays.

    python examples/large_model.py

Two ways, side by side. `with_parameters` gives every trial the same data. A reference from `put` in the search space makes the
object itself one of the things to choose: here one of two embeddings, each a large matrix.

Kill it whenever you like and run it again. What was put was in the killed driver's memory, so the second run puts it again, and
gives `restore` the space with the new references; all that was acknowledged is kept.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import holdfast as tune

WORDS, WIDTH = 20_000, 128
EPOCHS = 20


class LargeModel:
    """A pretrained embedding: one row per word."""

    def __init__(self, seed):
        self.seed = seed
        self.vectors = np.random.default_rng(seed).standard_normal((WORDS, WIDTH), dtype=np.float32)


def train(config, texts, labels):
    """Logistic regression on the mean of each text's vectors, from the last checkpoint on if there is one."""
    model = tune.get(config["model"])  # its vectors are a view of shared memory: read-only, and copied by nobody
    inputs = model.vectors[texts].mean(axis=1)
    weights, first = np.zeros(WIDTH, dtype=np.float32), 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            weights, first = np.load(Path(folder, "weights.npy")), int(Path(folder, "epoch").read_text()) + 1
    for epoch in range(first, EPOCHS):
        guess = 1 / (1 + np.exp(-inputs @ weights))
        weights -= config["lr"] * inputs.T @ (guess - labels) / len(labels)
        time.sleep(0.02)  # a real epoch takes longer
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder, "weights.npy"), weights)
            Path(folder, "epoch").write_text(str(epoch))
            accuracy = float(((inputs @ weights > 0) == labels).mean())
            tune.report({"accuracy": accuracy, "epoch": epoch}, checkpoint=tune.Checkpoint.from_directory(folder))


def main(results):
    chance = np.random.default_rng(0)
    texts = chance.integers(WORDS, size=(2_000, 30))
    labels = (LargeModel(1).vectors[texts].mean(axis=1)[:, 0] > 0).astype(np.float32)

    trainable = tune.with_parameters(train, texts=texts, labels=labels)
    param_space = {
        "model": tune.grid_search([tune.put(LargeModel(1)), tune.put(LargeModel(2))]),
        "lr": tune.loguniform(1, 100),
    }
    path = f"{results}/large_model"
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, trainable, param_space=param_space)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=3, seed=1),
            run_config=tune.RunConfig(name="large_model", storage_path=results, verbose=0),
        )
    grid = tuner.fit()
    if grid.errors:
        sys.exit(f"a trial failed: {grid.errors[0]}")
    best = grid.get_best_result()
    print(f"{len(grid)} trials; the best has accuracy {best.metrics['accuracy']:.3f}", end=" ")
    print(f"with embedding {tune.get(best.config['model']).seed} and lr {best.config['lr']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="holdfast-large-model-"))
