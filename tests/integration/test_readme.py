"""What the README says, tried: its code runs as it stands there, and experiments end and refuse as it promises."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import holdfast as tune
from holdfast.testing.census import fingerprint

README = Path(__file__).parents[2] / "README.md"
ROWS = 8


def blocks() -> list[str]:
    """The README's Python blocks, in order."""
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_script(folder: Path, *parts: str) -> str:
    """Runs the parts as one script in a process of its own; what it printed."""
    script = folder / "script.py"
    script.write_text("\n".join(parts), encoding="utf-8")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "HOLDFAST_RESULTS_DIR": str(folder / "holdfast_results"),
        "HOLDFAST_CPUS": "2",
    }
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_runs_in_order(tmp_path: Path) -> None:
    """The one script that starts or goes on is run twice: the second time it finds its experiment."""
    trainable, first, restore, either, *others = blocks()
    told = run_script(tmp_path, trainable, first, restore, either, *others).splitlines()
    assert told[0].startswith("4 trials, the best has {'lr': ")
    assert told[1:] == [
        "4 trials: it was finished, so nothing ran",
        "3 trials, begun or gone on with",
        "[6, 6, 6]",
        "0 errors, last loss 0.5",
        "the best trial ended at iteration 10",
        "the best score is 200000.0 with 0.5 CPUs",
    ]
    again = run_script(tmp_path, trainable, either, "print(tuner.get_results().experiment_path)").splitlines()
    assert again == ["3 trials, begun or gone on with", str(tmp_path / "holdfast_results" / "either_way")]


def made() -> Callable[[dict[str, Any]], None]:
    """A trainable that travels by value: a worker cannot import this file."""

    def train(config: dict[str, Any]) -> None:
        newest = tune.get_checkpoint()
        begin = 0 if newest is None else int(newest.path[-6:]) + 1  # a checkpoint with each row
        for i in range(begin, ROWS):
            Path("state").mkdir(exist_ok=True)
            tune.report({"i": i}, checkpoint=tune.Checkpoint.from_directory("state"))

    return train


train = made()


class Acts(tune.Callback):
    """Does something when the fourth row is about to be decided."""

    def __init__(self, what: Callable[[], None]) -> None:
        self.what = what

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        if result["training_iteration"] == 4:
            self.what()


def tuner(storage: Path, *callbacks: tune.Callback, trainable: Callable[..., Any] = train, **run: Any) -> tune.Tuner:
    """A new experiment of one trial."""
    config = tune.RunConfig(name="exp", storage_path=storage, verbose=0, callbacks=list(callbacks), **run)
    return tune.Tuner(trainable, param_space={"x": tune.uniform(0, 1)}, run_config=config)


def assert_it_goes_on(storage: Path) -> None:
    """A restore without the callbacks' mischief ends the job, each row once."""
    rows = list(tune.Tuner.restore(storage / "exp", train).fit()[0].metrics_dataframe["i"])
    assert rows == list(range(ROWS))


def interrupt_me(number: int) -> None:
    """Sends a signal to this process's main thread, which takes it at once."""
    assert threading.current_thread() is threading.main_thread()
    signal.raise_signal(number)


class Once:
    """Calls a function the first time in this process, whoever holds the copy."""

    done: ClassVar[set[str]] = set()

    def __init__(self, key: str, what: Callable[[], None]) -> None:
        self.key, self.what = key, what

    def __call__(self) -> None:
        if self.key not in Once.done:
            Once.done.add(self.key)
            self.what()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_and_a_restore_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    running = tuner(tmp_path, Acts(Once(str(tmp_path), lambda: interrupt_me(number))))
    with pytest.raises(tune.ExperimentInterrupted) as caught:
        running.fit()
    assert caught.value.signal == number
    assert caught.value.path == str(tmp_path / "exp")
    assert caught.value.results[0].metrics["i"] >= 3
    assert signal.getsignal(number) is before
    assert_it_goes_on(tmp_path)


def test_an_exception_in_a_callback_leaves_fit_and_a_restore_goes_on(tmp_path: Path) -> None:
    def spoil() -> None:
        raise LookupError("the callback's own")

    with pytest.raises(LookupError, match="the callback's own"):
        tuner(tmp_path, Acts(Once(str(tmp_path), spoil))).fit()
    assert_it_goes_on(tmp_path)


@pytest.mark.parametrize("how", [True, "raise"])
def test_fail_fast_ends_the_experiment_and_a_restore_goes_on(tmp_path: Path, how: Any) -> None:
    marker = tmp_path / "failed"

    def train(config: dict[str, Any]) -> None:
        if not marker.exists():
            marker.touch()
            raise LookupError("the trial's own")
        for i in range(ROWS):
            tune.report({"i": i})

    failing = tuner(tmp_path, trainable=train, failure_config=tune.FailureConfig(fail_fast=how))
    if how == "raise":
        with pytest.raises(LookupError, match="the trial's own"):
            failing.fit()
    else:
        assert failing.fit().num_errors == 1
    results = tune.Tuner.restore(tmp_path / "exp", train, resume_errored=True).fit()
    assert (results.num_errors, results[0].metrics["i"]) == (0, ROWS - 1)


def test_a_restore_with_another_job_is_refused(tmp_path: Path) -> None:
    tuner(tmp_path)

    def other(config: dict[str, Any]) -> None: ...

    for trainable, space, told in (
        (other, None, "'train'.*'other'"),
        (train, {"x": tune.uniform(0, 2)}, "x: Float"),
        (train, {"x": tune.uniform(0, 1), "y": 1}, r"added \['y'\]"),
    ):
        with pytest.raises(ValueError, match=told):
            tune.Tuner.restore(tmp_path / "exp", trainable, param_space=space)


def test_a_name_already_taken_is_refused_at_fit(tmp_path: Path) -> None:
    tuner(tmp_path).fit()
    before = fingerprint(str(tmp_path))
    with pytest.raises(ValueError, match=r"There is an experiment at .* Tuner\.restore"):
        tuner(tmp_path).fit()
    assert fingerprint(str(tmp_path)) == before
