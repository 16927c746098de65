"""The experiments that are measured, each in a process of its own: `python -m bench.workloads NAME ARGUMENTS`.

A workload prints its result as JSON. Trials keep their own time, with the machine's monotonic clock, in files beside
the experiment: the library is not asked how fast it is.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
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
    """Reports a large checkpoint, and beside each copies the same files by hand; writes both times down.

    By hand they are made durable as well, where the report waits for that. Nothing is under way when a time is taken.
    """
    source, durable = Path(config["side"], "source"), config["upload"] == "sync"
    source.mkdir()
    with source.joinpath("weights").open("wb") as file:
        for _ in range(config["bytes"] >> 20):
            file.write(os.urandom(1 << 20))
    os.sync()
    times = []
    for number in range(config["reports"]):
        began = time.perf_counter()
        tune.report({"score": number}, checkpoint=tune.Checkpoint.from_directory(str(source)))
        blocked = time.perf_counter() - began
        tune.get_checkpoint()  # waits for what goes on behind the trial
        times.append((blocked, copied(source, Path(config["side"], "copy"), durable=durable)))
        os.sync()
    Path(config["side"], "times").write_text(json.dumps(times))


def dying(config):
    """Notes when it begins, reports, and kills itself; the last attempt ends."""
    note(config["side"])
    if len(Path(config["side"]).read_text().splitlines()) <= config["times"]:
        tune.report({"score": 1})
        note(f"{config['side']}-deaths")
        os.kill(os.getpid(), signal.SIGKILL)


def copied(source: Path, target: Path, *, durable: bool) -> float:
    """Seconds that `cp` of a directory's files takes, and fsync where they are to be durable."""
    began = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    for path in [*target.iterdir(), target] if durable else ():
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    took = time.perf_counter() - began
    for path in target.iterdir():
        path.unlink()
    target.rmdir()
    return took


def looking(config, array=None):
    """Reads a shared array, where there is one: a number of each page, or the first and the last."""
    if array is None:
        tune.report({"score": config["x"]})
    else:
        tune.report({"score": float(array[:: 512 if config["whole"] else len(array) - 1].sum())})


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


def reports_at(place: str, folder: str, count: str, durability: str) -> None:
    """Reports per second of an experiment at a URI; each report must stand in the trial's history."""
    side = tempfile.mkdtemp(dir=folder)
    config = {"reports": int(count), "side": side}
    for result in finish(tuner(reporting, place, 2, config, durability=durability), 2):
        if len(result.metrics_dataframe) != int(count):
            raise RuntimeError(f"{len(result.metrics_dataframe)} of {count} reports are in the history of {result.path}")
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


def to_be_killed_at(place: str, folder: str, count: str) -> None:
    """As `to_be_killed`, at a URI and with trials that wait."""
    from holdfast.storage.opening import inside

    path = inside(place, "bench")
    if tune.Tuner.can_restore(path):
        note(f"{folder}/restores")
        experiment = tune.Tuner.restore(path, trainable=trivial_then_waiting, takeover=True)
    else:
        config = {"x": tune.uniform(0, 1), "trivial": int(count), "side": f"{folder}/notes"}
        experiment = tuner(trivial_then_waiting, place, int(count) + 2, config, reuse=True)
    experiment.fit()


def retries(folder: str, count: str) -> None:
    """Milliseconds from a worker's death by SIGKILL to the first line of the trial's next attempt; the median."""
    side = f"{folder}/notes"
    config = {"side": side, "times": int(count)}
    finish(tuner(dying, folder, 1, config, failure_config=tune.FailureConfig(max_failures=-1)), 1)
    begun, died = ([float(line.split()[0]) for line in Path(file).read_text().splitlines()] for file in (side, f"{side}-deaths"))
    print(1000 * statistics.median(after - before for before, after in zip(died, begun[1:], strict=True)))


def checkpoints(folder: str, count: str, size: str, upload: str) -> None:
    side = tempfile.mkdtemp(dir=folder)
    config = {"reports": int(count), "bytes": int(size), "side": side, "upload": upload}
    keep = tune.CheckpointConfig(num_to_keep=2, upload=upload)
    finish(tuner(checkpointing, folder, 1, config, checkpoint_config=keep), 1)
    print(Path(side, "times").read_text())


def uploads(folder: str, uri: str, files: str, size: str, rounds: str) -> None:
    """Seconds per round that a worker's upload of a checkpoint takes, and that the client alone takes for the same files."""
    from concurrent.futures import ThreadPoolExecutor

    import obstore
    from obstore.store import S3Store

    from holdfast._worker.keeping import LocalKeeper
    from holdfast._worker.shipping import StoreKeeper
    from holdfast.storage.uri import open_place, parse

    source, trial = Path(folder, "source"), Path(folder, "trial")
    for path in (source, trial):
        path.mkdir()
    for number in range(int(files)):
        Path(source, str(number)).write_bytes(os.urandom(int(size)))
    paths, keeper, place = sorted(source.iterdir()), StoreKeeper(LocalKeeper(str(trial)), uri), open_place(parse(uri))
    options = parse(uri).options
    endpoint = f"{options['scheme']}://{options['endpoint_override']}"
    client = S3Store(parse(uri).bucket, config={"aws_endpoint_url_s3": endpoint}, client_options={"allow_http": True})

    def bare(path: Path) -> None:
        with path.open("rb") as file:
            obstore.put(client, f"bare/{path.name}", file)

    def all_bare() -> None:
        if len(paths) == 1:
            bare(paths[0])
            return
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(bare, paths))

    times = []
    for number in range(int(rounds) + 1):
        taken = []
        for upload in (lambda index=number: keeper.save(str(source), index, {}), all_bare):
            began = time.perf_counter()
            upload()
            taken.append(time.perf_counter() - began)
        times.append(taken)
        place.delete(f"trial/checkpoint_{number:06d}")
    print(json.dumps(times[1:]))  # the first round opened the connections


def objects(folder: str, size: str, count: str, shared: str, read: str) -> None:
    """Seconds that `fit()` takes, and the most memory that driver and trials hold meanwhile, in bytes."""
    import threading

    import numpy as np

    array = np.ones(int(size) // 8)
    trainable = tune.with_parameters(looking, array=array) if shared == "with" else looking
    experiment = tuner(trainable, folder, int(count), {"x": tune.uniform(0, 1), "whole": read == "whole"})
    most, over = 0, threading.Event()

    def weigh() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, memory_held())

    watch = threading.Thread(target=weigh)
    if read == "whole":  # looking costs time as well
        watch.start()
    began = time.perf_counter()
    finish(experiment, int(count))
    took = time.perf_counter() - began
    over.set()
    if read == "whole":
        watch.join()
    print(json.dumps({"seconds": took, "memory": most}))


def memory_held() -> int:
    """Bytes that this process and all below it hold: their own pages, and in-memory files that this process has open."""
    total, waiting, own = 0, [os.getpid()], Path("/proc/self/cmdline").read_bytes()
    while waiting:
        pid = waiting.pop()
        try:
            if pid != os.getpid() and Path(f"/proc/{pid}/cmdline").read_bytes() == own:
                continue  # the guardian in its first moment: it still has this process's memory, and not another
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss_Anon:"):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
    for name in os.listdir("/proc/self/fd"):
        try:
            if "/memfd:holdfast" in os.readlink(f"/proc/self/fd/{name}"):
                total += os.stat(f"/proc/self/fd/{name}").st_blocks * 512
        except FileNotFoundError:
            pass  # the descriptor that listed them
    return total


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
