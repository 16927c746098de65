"""Try schedulers before paying for machines: FIFO, ASHA and HyperBand on 1,000 simulated workers.

    python examples/try_schedulers.py [--trials 3000] [--workers 1000] [--plot schedulers.png]

Nothing is trained. A trial follows a learning curve that its configuration gives: how low it can come, and how fast. An epoch
takes 33 to 122 virtual seconds. The same driver, journal and schedulers run as on real machines, on a clock that jumps. For
each scheduler the script prints what it found and what that took; `--plot` draws the best loss over time (needs matplotlib).
"""

import argparse
import math
import os
import random
import tempfile

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no files per trial: nobody will look at them

import holdfast as tune
from holdfast.engines.simulated import SimulatedEngine
from holdfast.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler
from holdfast.testing import SimulatedStorage

EPOCHS = 27
SPACE = {"lr": tune.loguniform(1e-4, 1.0), "width": tune.choice([64, 128, 256, 512]), "dropout": tune.uniform(0.0, 0.6)}


def train(config, state=None):
    """A curve like those of real networks: too small a learning rate is slow, too large a one does not come far."""
    away = math.log10(config["lr"]) + 2.0
    floor = 0.10 + 0.05 * max(away, 0.0) ** 2 + 0.2 * (config["dropout"] - 0.25) ** 2 + 4.0 / config["width"]
    speed = 0.25 * 10.0 ** (0.5 * min(away, 0.0))
    noise = random.Random(str(config))
    for epoch in range(1, EPOCHS + 1):
        loss = floor + (2.3 - floor) * math.exp(-speed * epoch) + noise.gauss(0.0, 0.01)
        if state is None or epoch > state:
            yield {"loss": loss}, epoch  # a row, and what a checkpoint of it holds


def seconds(config, _):
    """What an epoch takes: wide networks are slower."""
    return 20.0 + 0.2 * config["width"]


class Watch(tune.Callback):
    """Writes down the best loss so far, and counts epochs and virtual time."""

    def __init__(self):
        self.began = None
        self.epochs = 0
        self.worker_hours = 0.0
        self.curve = []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.epochs += 1
        self.worker_hours += result["time_this_iter_s"] / 3600
        self.began = self.began or result["timestamp"]
        self.ended = (result["timestamp"] - self.began) / 60
        if not self.curve or result["loss"] < self.curve[-1][2]:
            self.curve.append((self.ended, self.worker_hours, result["loss"]))


def tried(name, scheduler, trials, workers, folder):
    """Runs one experiment and returns what was seen."""
    watch = Watch()
    engine = SimulatedEngine(workers, seconds=seconds, storage=SimulatedStorage())  # checkpoints in memory
    results = tune.Tuner(
        train,
        param_space=SPACE,
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=trials, scheduler=scheduler, seed=1),
        run_config=tune.RunConfig(name=name, storage_path=folder, engine=engine, verbose=0, callbacks=[watch]),
    ).fit()
    best = results.get_best_result(scope="last")
    print(
        f"{name:10} best loss {best.metrics['loss']:.4f} after {watch.ended:6.0f} min, "
        f"{watch.epochs:6,} epochs, {watch.worker_hours:7,.0f} worker hours"
    )
    return watch


def plot(watches, workers, file):
    """The best loss so far over virtual time and over what the workers cost, a line for each scheduler."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for name, watch in watches.items():
        minutes, hours, losses = zip(*watch.curve, (watch.ended, watch.worker_hours, watch.curve[-1][2]), strict=True)
        for axes, along in ((left, minutes), (right, hours)):
            axes.step(along, losses, where="post", label=name)
            axes.plot(along[-1], losses[-1], "o", color=axes.lines[-1].get_color())
    left.set(xlabel=f"virtual minutes, {workers:,} workers", ylabel="best loss so far", yscale="log", ylim=(None, 0.5))
    right.set(xlabel="worker hours")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--plot", metavar="FILE")
    chosen = parser.parse_args()
    schedulers = {
        "FIFO": FIFOScheduler(),
        "ASHA": ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
        "HyperBand": HyperBandScheduler(max_t=EPOCHS, reduction_factor=3),
    }
    with tempfile.TemporaryDirectory() as folder:
        watches = {name: tried(name, it, chosen.trials, chosen.workers, folder) for name, it in schedulers.items()}
    if chosen.plot:
        plot(watches, chosen.workers, chosen.plot)


if __name__ == "__main__":
    main()
