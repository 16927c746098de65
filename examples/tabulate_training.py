"""Tabulate a training task: every combination of a grid is trained once, and its error kept in a small CSV file.

    python examples/tabulate_training.py

With such a table a search can be tried a thousand times without training anything: `bench/` compares searchers on the one
that lies beside this script. It is CSV and not Parquet: 800 rows are lighter so, and need no library to be read.

It is an experiment like any other: kill it whenever you like and run it again.
"""

import csv
import sys
import tempfile
from pathlib import Path

import holdfast as tune

TABLE = Path(__file__).parent / "digits_svm.csv"
COLUMNS = ("scaled", "components", "C", "gamma", "error")


def train(config, digits):
    """The error of a support vector machine on handwritten digits that it has not seen."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    images, labels = digits
    steps = [StandardScaler()] if config["scaled"] == "yes" else []
    steps += [PCA(config["components"], random_state=0), SVC(C=config["C"], gamma=config["gamma"])]
    fitted = make_pipeline(*steps).fit(images[::3], labels[::3])
    tune.report({"error": 1 - fitted.score(images[1::3], labels[1::3])})


def main():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    trainable = tune.with_parameters(train, digits=(images / 16.0, labels))
    path = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.gettempdir()) / "holdfast-digits")
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, trainable)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={
                "scaled": tune.grid_search(["no", "yes"]),
                "components": tune.grid_search([4, 8, 16, 32]),
                "C": tune.grid_search([round(10 ** (k / 3 - 1), 4) for k in range(10)]),
                "gamma": tune.grid_search([round(10 ** (k / 3 - 3), 6) for k in range(10)]),
            },
            tune_config=tune.TuneConfig(metric="error", mode="min", reuse_actors=True),
            run_config=tune.RunConfig(name=path.name, storage_path=path.parent, verbose=0),
        )
    results = tuner.fit()
    rows = [{**result.config, "error": round(result.metrics["error"], 6)} for result in results]
    with open(TABLE, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    errors = [row["error"] for row in rows]
    print(f"{len(rows)} rows, {TABLE.stat().st_size / 1000:.0f} kB; errors from {min(errors)} to {max(errors)}")


if __name__ == "__main__":
    main()
