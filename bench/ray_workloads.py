"""What is run on a Ray cluster, with holdfast and with Ray Tune: `python -m bench.ray_workloads FOLDER TRIALS SHORT REPORTS`.

One process, one cluster of one node with two CPUs. Prints rates as JSON: of trials that return at once, of two trials of SHORT
reports each from `fit()` to its end, and of two of REPORTS each while both report, by stamps of their own; and of empty actors.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

LIBRARIES = ("holdfast", "ray.tune")


def trivial(config):
    return {"score": config["x"]}


def reporting(config):
    tune = importlib.import_module(config["library"])
    for number in range(config["reports"]):
        tune.report({"score": number, "loss": 1.0 / (number + 1)})


def stamping(config):
    """Begins to report when the other trial is there too; keeps its own time."""
    tune, side = importlib.import_module(config["library"]), Path(config["side"])
    side.joinpath(f"here-{os.getpid()}").touch()
    while len(list(side.glob("here-*"))) < 2:
        time.sleep(0.01)
    stamps = []
    for number in range(config["reports"]):
        tune.report({"score": number, "loss": 1.0 / (number + 1)})
        stamps.append(time.monotonic())
    side.joinpath(f"stamps_{os.getpid()}").write_text(json.dumps(stamps))


class Empty:
    """An actor with nothing to do."""

    def be(self):
        return True


def actors(count):
    """How long `count` actors take, one after another on each CPU, each in a process of its own as Ray makes it."""
    import ray

    began = time.perf_counter()
    running, started = {}, 0
    while started < count or running:
        while started < count and len(running) < 2:
            actor = ray.remote(Empty).options(num_cpus=1).remote()
            running[actor.be.remote()] = actor
            started += 1
        (ready, *_), _ = ray.wait(list(running))
        ray.kill(running.pop(ready))
    return time.perf_counter() - began


def seconds(library, trainable, folder, name, samples, space):
    """How long `fit()` takes."""
    tune = importlib.import_module(library)
    more = {"verbose": 0, **({"engine": "ray"} if library == "holdfast" else {})}
    tuner = tune.Tuner(
        trainable,
        param_space={"x": tune.uniform(0, 1), "library": library, **space},
        tune_config=tune.TuneConfig(num_samples=samples),
        run_config=tune.RunConfig(name=name, storage_path=os.path.join(folder, library), **more),
    )
    began = time.perf_counter()
    results = tuner.fit()
    took = time.perf_counter() - began
    if results.errors or len(results) != samples:
        raise RuntimeError(f"{library}: {len(results)} of {samples} trials, {results.errors}")
    return took


def main():
    folder, trials, short, reports = sys.argv[1], *map(int, sys.argv[2:])
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_AIR_NEW_OUTPUT="0")
    import ray

    from bench.workloads import statistics_of

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    found = {"ray": {"trials": trials / actors(trials)}}
    for library in LIBRARIES:
        took = seconds(library, trivial, folder, "trials", trials, {})
        found[library] = {"trials": trials / took}
        took = seconds(library, reporting, folder, "short", 2, {"reports": short})
        found[library]["short"] = 2 * short / took
        side = Path(folder, f"{library}-side")
        side.mkdir()
        seconds(library, stamping, folder, "reports", 2, {"reports": reports, "side": str(side)})
        found[library]["reports"] = 1 / statistics_of(str(side))["median"]
    ray.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
