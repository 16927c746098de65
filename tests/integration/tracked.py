"""A driver with one tracker, made to be killed: `python tracked.py FILE`. Its trials write a side log, as those of `drivers`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import holdfast as tune
from holdfast.logger.tracker import TrackerCallback
from integration.drivers import note


class FileTracker(TrackerCallback):
    """A tracker in a file: one line for each call. It is down while a file `down` stands beside it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def say(self, *words: object) -> None:
        if os.path.exists(f"{self.path}.down"):
            raise ConnectionError("the tracker is down")
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(words) + "\n")

    def lines(self) -> list[list[Any]]:
        text = Path(self.path).read_text("utf-8") if os.path.exists(self.path) else ""
        return [json.loads(line) for line in text.splitlines()]

    def log_trial_start(self, trial: Any) -> None:
        self.say("start", str(trial), trial.config["x"])

    def rows_sent(self, trial: Any) -> int:
        return sum(line[:2] == ["row", str(trial)] for line in self.lines())

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self.say("row", str(trial), iteration, result["word"])

    def log_trial_save(self, trial: Any) -> None:
        self.say("save", str(trial), os.path.basename(trial.checkpoint.path))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self.say("end", str(trial), failed)


def tracker(asked: dict[str, Any]) -> TrackerCallback:
    kind, options = asked["tracker"], asked["options"]
    if kind == "mlflow":
        from holdfast.integration.mlflow import MLflowLoggerCallback

        return MLflowLoggerCallback(**options)
    if kind == "wandb":
        from holdfast.integration.wandb import WandbLoggerCallback

        return WandbLoggerCallback(**options)
    if kind == "comet":
        from holdfast.integration.comet import CometLoggerCallback

        return CometLoggerCallback(**options)
    if kind == "aim":
        from holdfast.integration.aim import AimLoggerCallback

        return AimLoggerCallback(**options)
    return FileTracker(**options)


def train(config: dict[str, Any]) -> None:
    side, trial, start = os.environ["SIDE_LOG"], tune.get_context().get_trial_id(), 0
    newest = tune.get_checkpoint()
    if newest is not None:
        start = int(Path(newest.path, "next").read_text())
    for n in range(start, config["rows"]):
        time.sleep(float(os.environ["PACE_S"]))
        row = {"loss": config["x"] / (n + 1), "n": n, "word": os.urandom(4).hex()}
        if n % 3 == 2:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "next").write_text(str(n + 1))
                tune.report(row, checkpoint=tune.Checkpoint.from_directory(folder))
        else:
            tune.report(row)
        note(side, what="row", trial=trial, row=row)
    if config["x"] == 2:
        raise ValueError("this one fails")


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    path = os.path.join(asked["storage_path"], "exp")
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(path, train)
    else:
        tuner = tune.Tuner(
            train,
            param_space={"x": tune.grid_search([1, 2, 3]), "rows": asked["rows"]},
            tune_config=tune.TuneConfig(max_concurrent_trials=2),
            run_config=tune.RunConfig(name="exp", storage_path=asked["storage_path"], verbose=0, callbacks=[tracker(asked)]),
        )
    results = tuner.fit()
    print(json.dumps({"rows": [len(result.metrics_dataframe) for result in results]}), flush=True)


if __name__ == "__main__":
    main()
