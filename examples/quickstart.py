"""Tune a classifier, kill the driver half-way, restore it, and count what the kill cost.

    python examples/quickstart.py

`train` and `drive` are all that a program of yours needs. The rest is the demonstration: it runs `drive` in a process
of its own, kills that with SIGKILL, runs it again, and then compares the history that holdfast kept with a log that
the trials wrote themselves.
"""

import collections
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import holdfast as tune
from holdfast.schedulers import ASHAScheduler

TRIALS = 16
EPOCHS = 27
KILL_AFTER = 60  # acknowledged reports, about half of what such an experiment makes


# ------------------------------------------------------------------------------------------------ tuning


def train(config):
    """One trial: a network on the digits, epoch by epoch, from its last checkpoint on if it has one."""
    images, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images / 16, digits, random_state=0)
    model = MLPClassifier(config["width"], learning_rate_init=config["lr"], alpha=config["alpha"], random_state=0)
    first = 1

    checkpoint = tune.get_checkpoint()  # None, unless this trial was interrupted
    if checkpoint:
        with checkpoint.as_directory() as folder:
            last, model = pickle.loads(Path(folder, "model.pkl").read_bytes())
            first = last + 1

    for epoch in range(first, EPOCHS + 1):
        note("began", epoch)
        model.partial_fit(train_x, train_y, classes=range(10))
        accuracy = model.score(test_x, test_y)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "model.pkl").write_bytes(pickle.dumps((epoch, model)))
            tune.report({"epoch": epoch, "accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(folder))
        note("acknowledged", epoch)  # from here on, no kill of any process may lose this report


def drive(folder):
    """The driver: begins the experiment, or goes on with the one that it finds."""
    path = str(folder / "digits")
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, trainable=train)
    else:
        tuner = tune.Tuner(
            train,
            param_space={
                "width": tune.choice([16, 32, 64]),
                "lr": tune.loguniform(1e-4, 1e-1),
                "alpha": tune.loguniform(1e-6, 1e-2),
            },
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=TRIALS,
                max_concurrent_trials=2,
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=3, reduction_factor=3),
            ),
            run_config=tune.RunConfig(
                name="digits",
                storage_path=str(folder),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                verbose=0,
            ),
        )
    return tuner.fit()


# ------------------------------------------------------------------------------------------------ the demonstration


def note(what, epoch):
    """Appends a line to the trial's own log; a trial's working directory is its own, the same after a restore."""
    with open("own.log", "a") as log:
        log.write(f"{what} {epoch}\n")


def noted(folder, what):
    """How often each (trial, epoch) stands in the trials' own logs."""
    lines = ((log.parent.name, line.split()) for log in folder.glob("digits/*/own.log") for line in log.open())
    return collections.Counter((trial, int(words[1])) for trial, words in lines if words[0] == what)


def history(folder):
    """How often each (trial, epoch) stands in the history that holdfast kept."""
    rows = ((file.parent.name, json.loads(row)) for file in folder.glob("digits/*/result.json") for row in file.open())
    return collections.Counter((trial, row["epoch"]) for trial, row in rows)


def start_driver(folder):
    return subprocess.Popen([sys.executable, __file__, "--drive", str(folder)])


def kill_half_way(folder):
    """Starts a driver and kills it, which leaves it no chance to save anything."""
    driver = start_driver(folder)
    while noted(folder, "acknowledged").total() < KILL_AFTER:
        if driver.poll() is not None:
            sys.exit(f"the driver ended before it could be killed, with exit status {driver.returncode}")
        time.sleep(0.01)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()


def show_best(results):
    print(f"The best of {len(results)} configurations\n")
    print("    accuracy   epochs    width         lr      alpha")
    for result in sorted(results, key=lambda result: -result.metrics["accuracy"])[:3]:
        config, row = result.config, result.metrics
        print(f"    {row['accuracy']:8.4f} {row['epoch']:8d} {config['width']:8d}   {config['lr']:8.2e}   {config['alpha']:8.2e}")


def main(folder):
    started = time.monotonic()
    print(f"Tuning {TRIALS} classifiers, two at a time. The driver is killed after {KILL_AFTER} reports ...")
    kill_half_way(folder)
    before = noted(folder, "acknowledged")
    print(f"Killed (SIGKILL) after {time.monotonic() - started:.1f} s. Restoring ...\n")

    if start_driver(folder).wait() != 0:
        sys.exit("the restored driver failed")

    after = history(folder)
    lost = [report for report in before | noted(folder, "acknowledged") if report not in after]
    repeated = [report for report, times in after.items() if times > 1]
    trained_twice = sum(times - 1 for times in noted(folder, "began").values())
    print("\nWhat the kill cost, counted from the trials' own logs\n")
    print(f"    reports acknowledged before it      {before.total():5d}")
    print(f"    found in the final history          {len([report for report in before if report in after]):5d}")
    print(f"    lost                                {len(lost):5d}")
    print(f"    twice in the final history          {len(repeated):5d}")
    print(f"    epochs trained twice                {trained_twice:5d}   (those in training when the kill came)")
    print(f"\n{time.monotonic() - started:.1f} s in all. The experiment is in {folder / 'digits'}")
    sys.exit(1 if lost or repeated else 0)


if __name__ == "__main__":
    if "--drive" in sys.argv:
        finished = drive(Path(sys.argv[2]))
        if finished.errors:
            sys.exit(f"a trial failed: {finished.errors[0]}")
        show_best(finished)
    else:
        main(Path(tempfile.mkdtemp(prefix="holdfast-quickstart-")))
