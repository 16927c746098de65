"""The testing tools for users, as a user has them: faults around an unchanged trainable, a driver killed after each event."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import holdfast as tune
from holdfast.errors import ConfigError, TuneError, WorkerLost
from holdfast.storage.local import LocalStorage
from holdfast.testing import (
    check_history,
    digest,
    fail_at,
    fit_until_killed,
    hang_at,
    kill_at,
)

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROWS = 4


def train(config: dict[str, Any]) -> None:
    """Four rows with a checkpoint each; says which it was at when it began."""
    begun = tune.get_checkpoint()
    start = 0 if begun is None else int(Path(begun.path, "n").read_text())
    for row in range(start, config.get("rows", ROWS)):
        Path("work").mkdir(exist_ok=True)
        Path("work", "n").write_text(str(row + 1))
        tune.report({"row": row + 1, "began": start}, checkpoint=tune.Checkpoint.from_directory("work"))


def generate(_: dict[str, Any]) -> Any:
    for row in range(ROWS):
        yield {"row": row + 1}


class Counting(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        self.n = self.began = 0

    def step(self) -> dict[str, Any]:
        self.n += 1
        return {"row": self.n, "began": self.began, "done": self.n == ROWS}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
        return {"n": self.n}

    def load_checkpoint(self, checkpoint: dict[str, int]) -> None:
        self.n = self.began = checkpoint["n"]


def tuner(trainable: Any, path: Path, **options: Any) -> tune.Tuner:
    checkpoints = tune.CheckpointConfig(checkpoint_frequency=1) if isinstance(trainable, type) else tune.CheckpointConfig()
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(num_samples=options.pop("samples", 1), seed=1),
        run_config=tune.RunConfig(
            name="exp",
            storage_path=str(path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=options.pop("max_failures", 0)),
            checkpoint_config=checkpoints,
            **options,
        ),
    )


@pytest.mark.parametrize("trainable", [train, Counting], ids=["function", "class"])
@pytest.mark.parametrize(("make", "kind"), [(fail_at, RuntimeError), (kill_at, WorkerLost)])
@pytest.mark.parametrize("after", [False, True])
def test_the_first_attempt_is_struck_and_the_next_goes_on(
    tmp_path: Path, trainable: Any, make: Callable[..., Any], kind: type[Exception], after: bool
) -> None:
    (spared,) = tuner(make(trainable, 3, after=after), tmp_path / "spared", max_failures=1).fit()
    assert spared.error is None
    assert [row["row"] for row in spared.metrics_dataframe.to_dict("records")] == [1, 2, 3, 4]
    assert spared.metrics["began"] == (3 if after else 2)
    (struck,) = tuner(make(trainable, 3, after=after), tmp_path / "struck").fit()
    assert isinstance(struck.error, kind)
    assert struck.metrics["row"] == (3 if after else 2)
    assert check_history(LocalStorage(str(tmp_path / "struck" / "exp")), []) == []


def test_a_generators_rows_are_counted_too(tmp_path: Path) -> None:
    (struck,) = tuner(fail_at(generate, 2), tmp_path).fit()
    assert struck.metrics["row"] == 1
    assert "iteration 2 of attempt 1" in str(struck.error)


def test_a_returned_row_counts_as_well(tmp_path: Path) -> None:
    (struck,) = tuner(fail_at(lambda _: {"x": 1}, 1), tmp_path).fit()
    assert "iteration 1 of attempt 1" in str(struck.error)


def test_only_the_trials_that_were_named_are_struck_in_each_attempt_with_ones_own_error(tmp_path: Path) -> None:
    faulty = fail_at(train, 1, attempt=None, trials=[1], error=KeyError("mine"))
    grid = tuner(faulty, tmp_path, samples=3, max_failures=2).fit()
    assert [type(result.error) for result in grid] == [type(None), KeyError, type(None)]


def test_a_trial_that_hangs_is_stopped_by_the_interrupted_driver_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_GRACE_S", "0.5")

    class Interrupt(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            os.kill(os.getpid(), 2)

    with pytest.raises(tune.ExperimentInterrupted) as interrupted:
        tuner(hang_at(train, 1, after=True), tmp_path, callbacks=[Interrupt()]).fit()
    assert interrupted.value.results[0].metrics["row"] == 1


def test_the_trainable_is_not_changed_and_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it is called outside a trial
    faulty = kill_at(train, 1)
    assert faulty.__name__ == "train"
    assert fail_at(Counting, 1).__name__ == "Counting"
    with pytest.warns(UserWarning, match="outside a trial"):
        faulty({"rows": 1})


@pytest.mark.parametrize("wrong", [{"iteration": 0}, {"iteration": 1, "attempt": 0}])
def test_numbers_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="count from 1"):
        fail_at(train, **wrong)


def test_what_is_no_trainable_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither"):
        fail_at(dict, 1)


def test_a_driver_killed_after_each_event_ends_as_one_that_was_not(tmp_path: Path) -> None:
    def whole() -> tune.Tuner:
        return tuner(small, tmp_path / "whole", samples=2)

    def killed() -> tune.Tuner:
        path = str(tmp_path / "killed" / "exp")
        return tune.Tuner.restore(path, small) if tune.Tuner.can_restore(path) else tuner(small, tmp_path / "killed", samples=2)

    def small(config: dict[str, Any]) -> None:
        train({"rows": 2})

    assert not fit_until_killed(whole, events=10_000)
    events = 0
    while fit_until_killed(killed, events=(events := events + 1)):
        pass
    assert events > 5
    storages = [LocalStorage(str(tmp_path / name / "exp")) for name in ("whole", "killed")]
    ends = [[(trial[0], trial[2], [row[0] for row in trial[-1]]) for trial in digest(storage)] for storage in storages]
    assert ends[0] == ends[1]
    assert check_history(storages[1], []) == []


def test_a_driver_can_be_killed_at_a_named_point(tmp_path: Path) -> None:
    assert fit_until_killed(lambda: tuner(train, tmp_path), point="after_reply", times=2)
    rows = tune.Tuner.restore(str(tmp_path / "exp"), train).get_results()[0].metrics_dataframe
    assert len(rows) == 2


def test_a_driver_that_ends_otherwise_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> tune.Tuner:
        raise KeyError("no tuner")

    with pytest.raises(TuneError, match="exit code 1"):
        fit_until_killed(broken, events=1)
    assert "no tuner" in capfd.readouterr().err


@pytest.mark.parametrize("given", [{}, {"events": 1, "point": "after_reply"}])
def test_one_of_events_and_point_is_needed(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs one"):
        fit_until_killed(lambda: None, **given)
