"""What the driver costs on the simulated engine: `python -m bench.simulated TRIALS SCHEDULER [files]`.

Runs trials of 10 rows on 1,000 virtual workers, journal on disk, and prints seconds of the driver's CPU (the engine's playing
of the trials included), records, rows and the growth of the process's own memory in bytes. The trials' files are left out unless
asked for: making a directory with four files takes a file system longer than all else that happens to a short trial.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

WORKERS = 1_000
ROWS = 10


def train(config):
    for number in range(1, ROWS + 1):
        yield {"loss": config["x"] / number}


def run(folder: str, trials: int, scheduler: str, name: str):
    import holdfast as tune
    from holdfast.engines.simulated import SimulatedEngine
    from holdfast.schedulers import ASHAScheduler

    schedulers = {
        "asha": lambda: ASHAScheduler(max_t=ROWS, grace_period=1, reduction_factor=3),
        "stops-none": lambda: ASHAScheduler(max_t=100 * ROWS, grace_period=10 * ROWS),
    }
    tuner = tune.Tuner(
        train,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=trials, scheduler=schedulers[scheduler](), seed=1),
        run_config=tune.RunConfig(storage_path=folder, name=name, engine=SimulatedEngine(WORKERS), verbose=0),
    )
    return tuner.fit()


def memory() -> int:
    """Bytes of this process that are its own."""
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


def main() -> None:
    trials, scheduler, files = int(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["files"]
    if not files:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        run(folder, 10, scheduler, "warm")  # loads all modules
        held, began = memory(), time.process_time()
        results = run(folder, trials, scheduler, "measured")
        cpu, grown = time.process_time() - began, memory() - held
        assert len(results) == trials

        from holdfast._journal import read
        from holdfast.storage.local import LocalStorage

        kinds = Counter(type(record.event).__name__ for record in read(LocalStorage(f"{folder}/measured")))
    print(json.dumps({"cpu": cpu, "records": kinds.total(), "rows": kinds["ResultReported"], "memory": grown}))


if __name__ == "__main__":
    main()
