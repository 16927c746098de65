"""A trial whose node is killed, with holdfast and with Ray Tune: `python -m bench.ray_losses FOLDER LIBRARY...`.

One process, and for each library in turn a cluster of its own: real raylets, a head without CPUs and two nodes with one each. One
trial reports each tenth of a second, saves every fifth time, and after each report writes down when and where. When it has saved,
its node's raylet gets SIGKILL and so does what else Ray runs there; what the trial runs in ends by itself, as it does with both
libraries when its raylet is gone. Prints as JSON, for each library, the seconds from the last stamp on the lost node to the first
one elsewhere (`gap`), what of them passed until the trial's function ran again (`again`), and when the kill was (`kill`).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

REPORTS = 40
SAVES_EACH = 5
KILLED_AFTER = 12
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_AIR_NEW_OUTPUT": "0"}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def reporting(config):
    """Goes on from its newest checkpoint."""
    import ray

    tune = importlib.import_module(config["library"])
    here, newest = ray.get_runtime_context().get_node_id(), tune.get_checkpoint()

    def note(*words):
        with open(config["stamps"], "a") as file:
            file.write(json.dumps([time.monotonic(), here, *words]) + "\n")

    start = 0
    if newest is not None:
        with newest.as_directory() as folder:
            start = int(Path(folder, "next").read_text())
    note("began", start)
    for number in range(start, REPORTS):
        time.sleep(0.1)
        if number % SAVES_EACH == SAVES_EACH - 1:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "next").write_text(str(number + 1))
                tune.report({"number": number}, checkpoint=tune.Checkpoint.from_directory(folder))
        else:
            tune.report({"number": number})
        note("reported", number)


def stamps(path):
    """The complete lines: when, on which node, what, which."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def kill_its_node(cluster, path, killed):
    """Waits until the trial has saved, and kills its node."""
    while len(stamps(path)) <= KILLED_AFTER:
        time.sleep(0.01)
    where = stamps(path)[-1][1]
    node = next(node for node in cluster.worker_nodes if node.node_id == where)
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    killed.append(time.monotonic())
    cluster.remove_node(node, allow_graceful=False)


def lose_a_node(library, folder):
    """The trial's stamps, and when the kill was."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    )
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        tune, path, killed = importlib.import_module(library), folder / f"{library}.stamps", []
        tuner = tune.Tuner(
            tune.with_resources(reporting, {"cpu": 1}),
            param_space={"library": library, "stamps": str(path)},
            run_config=tune.RunConfig(
                name="exp",
                storage_path=str(folder / library),
                failure_config=tune.FailureConfig(max_failures=3),
                verbose=0,
                **({"engine": "ray"} if library == "holdfast" else {}),
            ),
        )
        killer = threading.Thread(target=kill_its_node, args=(cluster, path, killed), daemon=True)
        killer.start()
        results = tuner.fit()
        killer.join()
        if results.errors or results[0].metrics["number"] != REPORTS - 1:
            raise RuntimeError(f"{library}: {results.errors}, {results[0].metrics}")
        return stamps(path), killed[0]
    finally:
        ray.shutdown()
        cluster.shutdown()


def gap_of(lines, killed):
    """From the last report that returned on the lost node, and its trial may report for a while after the kill."""
    lost = lines[0][1]
    before = max(when for when, node, *_ in lines if node == lost)
    after = [(when, what) for when, node, what, _ in lines if node != lost]
    again, reported = (min(when for when, word in after if word == what) for what in ("began", "reported"))
    return {"gap": reported - before, "again": again - before, "kill": killed - before}


def main():
    folder = Path(sys.argv[1])
    os.environ.update(QUIET)
    print(json.dumps({library: gap_of(*lose_a_node(library, folder)) for library in sys.argv[2:]}))


if __name__ == "__main__":
    main()
