"""The experiments that are measured, each in a process of its own: `python -m bench.workloads NAME ARGUMENTS`.

A workload prints its result as JSON. Trials keep their own time, with the machine's monotonic clock, in files beside
the experiment: the library is not asked how fast it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import holdfast as tune

# ------------------------------------------------------------------------------------------------ trainables


def trivial(config):
    tune.report({"score": config["x"]})


def reporting(config):
    """Reports without pause, and writes down when each report returned."""
    stamps = []
    for number in range(config["reports"]):
        tune.report({"score": number, "loss": 1.0 / (number + 1)})
        stamps.append(time.monotonic())
    Path(config["side"], tune.get_context().get_trial_id()).write_text(json.dumps(stamps))


def trivial_then_reporting(config):
    """The first trials are trivial, the last two report; some note how much memory the driver holds by then."""
    index = int(tune.get_context().get_trial_id().split("_")[1])
    if index in config["weigh"]:
        status = Path(f"/proc/{config['driver']}/status").read_text()
        Path(config["side"], f"memory-{index}").write_text(status.split("RssAnon:")[1].split()[0])
    if index < config["trivial"]:
        tune.report({"score": config["x"]})
    else:
        reporting(config)


def trivial_then_waiting(config):
    """The first trials are trivial; later ones note that they run, and then wait for a kill."""
    if int(tune.get_context().get_trial_id().split("_")[1]) < config["trivial"]:
        tune.report({"score": config["x"]})
        return
    note(config["side"])
    while True:
        time.sleep(1)


def acknowledged(config):
    """Reports until killed, with a checkpoint every ten reports, and notes when each report returned."""
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            start = int(Path(folder, "number").read_text()) + 1
    number = start
    while True:
        if number % 10 == 9:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "number").write_text(str(number))
                tune.report({"score": number}, checkpoint=tune.Checkpoint.from_directory(folder))
        else:
            tune.report({"score": number})
        note(config["side"])
        number += 1
        time.sleep(0.001)


def checkpointing(config):
    """Reports a large checkpoint, and beside each copies and fsyncs the same files by hand; writes both times down."""
    source = Path(config["side"], "source")
    source.mkdir()
    source.joinpath("weights").write_bytes(os.urandom(config["bytes"]))
    os.sync()
    times = []
    for number in range(config["reports"]):
        began = time.perf_counter()
        tune.report({"score": number}, checkpoint=tune.Checkpoint.from_directory(str(source)))
        blocked = time.perf_counter() - began
        times.append((blocked, copied(source, Path(config["side"], "copy"))))
    Path(config["side"], "times").write_text(json.dumps(times))


def copied(source: Path, target: Path) -> float:
    """Seconds that `cp` and fsync of a directory's files take."""
    began = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    for path in [*target.iterdir(), target]:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    took = time.perf_counter() - began
    for path in target.iterdir():
        path.unlink()
    target.rmdir()
    return took


def note(side: str) -> None:
    with open(side, "a") as file:
        file.write(f"{time.monotonic()} {os.getpid()}\n")


# ------------------------------------------------------------------------------------------------ experiments


def tuner(trainable, folder: str, samples: int, config: dict[str, object], *, reuse: bool = False, **run: object):
    return tune.Tuner(
        trainable,
        param_space=config,
        tune_config=tune.TuneConfig(num_samples=samples, max_concurrent_trials=2, reuse_actors=reuse),
        run_config=tune.RunConfig(name="bench", storage_path=folder, verbose=0, **run),
    )


def finish(experiment, trials: int):
    """Runs to the end; raises unless all trials came through."""
    results = experiment.fit()
    if len(results) != trials or results.errors:
        raise RuntimeError(f"{len(results)} of {trials} trials, errors: {results.errors[:1]}")
    return results


def one(folder: str) -> None:
    finish(tuner(trivial, folder, 1, {"x": 1}), 1)


def trials(folder: str, count: str, reuse: str) -> None:
    """Trials per second, from `fit()` to its return."""
    experiment = tuner(trivial, folder, int(count), {"x": tune.uniform(0, 1)}, reuse=reuse == "reuse")
    began = time.perf_counter()
    results = finish(experiment, int(count))
    took = time.perf_counter() - began
    if not all(os.path.exists(f"{result.path}/result.json") for result in results):
        raise RuntimeError("a trial has no result.json: the default loggers were not at work")
    print(int(count) / took)


def reports(folder: str, count: str, durability: str) -> None:
    """Reports per second while both trials report; each report must stand in the trial's history."""
    side = tempfile.mkdtemp(dir=folder)
    config = {"reports": int(count), "side": side}
    results = finish(tuner(reporting, folder, 2, config, durability=durability), 2)
    for result in results:
        with open(Path(result.path, "result.json")) as file:
            rows = sum(1 for _ in file)
        if rows != int(count):
            raise RuntimeError(f"{rows} of {count} reports are in {result.path}/result.json")
    print(1.0 / statistics_of(side)["median"])


def growth(folder: str, count: str, per_trial: str) -> None:
    """Seconds per report with so many trials on record, and the driver's growth per trial in bytes."""
    side = tempfile.mkdtemp(dir=folder)
    total = int(count)
    weigh = [total // 10, total - 1]
    config = {
        "x": tune.uniform(0, 1),
        "trivial": total,
        "reports": int(per_trial),
        "side": side,
        "weigh": weigh,
        "driver": os.getpid(),
    }
    finish(tuner(trivial_then_reporting, folder, total + 2, config, reuse=True), total + 2)
    first, last = (int(Path(side, f"memory-{index}").read_text()) * 1024 for index in weigh)
    journal = sum(file.stat().st_size for file in Path(folder, "bench", "journal").rglob("*.log"))
    print(json.dumps({
        "seconds": statistics_of(side)["median"],
        "memory": (last - first) / (weigh[1] - weigh[0]),
        "journal": journal / total,
    }))  # fmt: skip


def statistics_of(side: str) -> dict[str, float]:
    """Seconds per report while both trials reported: the median of ten slices of that time."""
    one_trial, other = (json.loads(file.read_text()) for file in Path(side).iterdir() if "_" in file.name)
    begin, end = max(one_trial[0], other[0]), min(one_trial[-1], other[-1])
    if end <= begin:
        raise RuntimeError("the two trials did not report at the same time")
    width = (end - begin) / 10
    counts = [0] * 10
    for stamp in one_trial + other:
        if begin < stamp < end:
            counts[int((stamp - begin) / width)] += 1
    counts.sort()  # a stall of the disk may leave a slice empty
    return {"median": 2 * width / (counts[4] + counts[5])}


def to_be_killed(folder: str, trainable: str, count: str) -> None:
    """Begins the experiment, or restores it and notes when; the caller kills this process."""
    side, known = f"{folder}/notes", {"waiting": trivial_then_waiting, "acknowledged": acknowledged}[trainable]
    path = f"{folder}/bench"
    if tune.Tuner.can_restore(path):
        note(f"{folder}/restores")
        experiment = tune.Tuner.restore(path, trainable=known)
    else:
        config = {"x": tune.uniform(0, 1), "trivial": int(count), "side": side}
        experiment = tuner(known, folder, int(count) + 2, config, reuse=True)
    experiment.fit()


def checkpoints(folder: str, count: str, size: str) -> None:
    side = tempfile.mkdtemp(dir=folder)
    config = {"reports": int(count), "bytes": int(size), "side": side}
    keep = tune.CheckpointConfig(num_to_keep=2)
    finish(tuner(checkpointing, folder, 1, config, checkpoint_config=keep), 1)
    print(Path(side, "times").read_text())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
