"""Reporters at work: a user's own, and what a notebook shows when it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import holdfast as tune


def made() -> Callable[[dict[str, Any]], None]:
    def train(config: dict[str, Any]) -> None:
        for i in range(3):
            tune.report({"loss": config["x"] / (i + 1)})

    return train


class Noting(tune.CLIReporter):
    """As one written for Ray Tune: it reports when a trial has ended, and at the end."""

    def __init__(self) -> None:
        super().__init__(metric_columns=["loss"])
        self.terminated = 0
        self.asked: list[bool] = []
        self.told: list[tuple[int, bool, tuple[str, ...]]] = []

    def should_report(self, trials: Any, done: bool = False) -> bool:
        self.asked.append(done)
        before, self.terminated = self.terminated, sum(trial.status == trial.TERMINATED for trial in trials)
        return self.terminated > before or done

    def report(self, trials: Any, done: bool, *sys_info: str) -> None:
        self.told.append((len(trials), done, sys_info))
        super().report(trials, done, *sys_info)


def config(storage: Path, reporter: tune.ProgressReporter | None, **more: Any) -> dict[str, Any]:
    return {
        "param_space": {"x": tune.grid_search([1.0, 2.0])},
        "tune_config": tune.TuneConfig(metric="loss", mode="min"),
        "run_config": tune.RunConfig(name="exp", storage_path=storage, engine="inline", progress_reporter=reporter, **more),
    }


def test_the_users_own_reporter_is_told_and_takes_the_screens_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Noting()
    tune.Tuner(made(), **config(tmp_path, reporter)).fit()
    assert [done for _, done, _ in reporter.told] == [False] * (len(reporter.told) - 1) + [True]
    assert reporter.asked.index(True) == len(reporter.asked) - 1 > 0
    assert reporter.told[-1][0] == 2
    assert reporter.told[-1][2][0] == "Using FIFOScheduler"
    assert reporter.told[-1][2][1].startswith("resources in use: 0/")
    printed = capsys.readouterr().out
    assert printed.count("== ") == len(reporter.told)
    assert "with loss=0.333333 and {'x': 1.0}" in printed
    assert "driver 1 in charge" not in printed


def test_verbose_0_asks_no_reporter(tmp_path: Path) -> None:
    reporter = Noting()
    tune.Tuner(made(), **config(tmp_path, reporter, verbose=0)).fit()
    assert reporter.told == []


class Broken(tune.ProgressReporter):
    def should_report(self, trials: Any, done: bool = False) -> bool:
        return len(trials) == 2

    def report(self, trials: Any, done: bool, *sys_info: str) -> None:
        raise LookupError("the reporter's own")


def test_what_a_reporter_raises_leaves_fit_and_a_restore_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = made()
    with pytest.raises(LookupError, match="the reporter's own"):
        tune.Tuner(train, **config(tmp_path, Broken())).fit()
    assert f"Tuner.restore('{tmp_path}/exp', trainable=train).fit()" in capsys.readouterr().err
    again = tune.Tuner(train, **config(tmp_path, Noting(), if_exists="resume")).fit()
    assert [len(result.metrics_dataframe) for result in again] == [3, 3]


class Leaving(tune.Callback):
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, LookupError])
def test_every_abnormal_end_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    train = made()
    with pytest.raises(error):
        tune.Tuner(train, **config(tmp_path, None, callbacks=[Leaving(error)])).fit()
    told = capsys.readouterr().err
    assert f"{error.__name__} ended the experiment" in told
    assert f"Tuner.restore('{tmp_path}/exp', trainable=train).fit()" in told


CELL = """
import holdfast as tune

def train(config):
    for i in range(3):
        tune.report({{"loss": config["x"] / (i + 1)}})

results = tune.Tuner(
    train,
    param_space={{"x": tune.grid_search([1.0, 2.0, 3.0])}},
    tune_config=tune.TuneConfig(metric="loss", mode="min"),
    run_config=tune.RunConfig(name={name!r}, storage_path={path!r}, progress_reporter={reporter}),
).fit()
"""


def test_a_notebook_is_repainted_in_place(tmp_path: Path) -> None:
    """The usual screen, and the reporter: one output each, however often it was painted, and what it shows last is the end."""
    reporter = "tune.JupyterNotebookReporter(max_report_frequency=0)"
    reporters = {"usual": "None", "asked": reporter, "below": reporter.replace("(", "(overwrite=False, ")}
    cells = [CELL.format(name=name, path=str(tmp_path), reporter=it) for name, it in reporters.items()]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [[one.data for one in cell.outputs if one.output_type == "display_data"] for cell in notebook.cells]
    usual, asked, below = outputs
    assert len(usual) == 1
    assert "3 of 3 trials done" in usual[0]["text/plain"]
    assert "<pre>" in usual[0]["text/html"]
    assert len(asked) == 1
    assert "3 trials (3 TERMINATED)" in asked[0]["text/plain"]
    assert len(below) > 1
