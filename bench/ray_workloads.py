"""What is run on a Ray cluster, with holdfast and with Ray Tune: `python -m bench.ray_workloads FOLDER TRIALS REPORTS`.

One process, one cluster of one node with two CPUs. Prints rates as JSON. The time of two reporting
trials counts from `fit()` to its end, their start included.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

LIBRARIES = ("holdfast", "ray.tune")


def trivial(config):
    return {"score": config["x"]}


def reporting(config):
    tune = importlib.import_module(config["library"])
    for number in range(config["reports"]):
        tune.report({"score": number, "loss": 1.0 / (number + 1)})


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
    folder, trials, reports = sys.argv[1], *map(int, sys.argv[2:])
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_AIR_NEW_OUTPUT="0")
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    found = {}
    for library in LIBRARIES:
        took = seconds(library, trivial, folder, "trials", trials, {})
        found[library] = {"trials": trials / took}
        took = seconds(library, reporting, folder, "reports", 2, {"reports": reports})
        found[library]["reports"] = 2 * reports / took
    ray.shutdown()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
