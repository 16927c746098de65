"""`RAY_TUNE_CALLBACKS`: callbacks that the environment names, for every experiment of a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import holdfast as tune
from holdfast.errors import ConfigError

MODULE = """
import holdfast as tune
made = []
class Counts(tune.Callback):
    def __init__(self):
        made.append(self)
        self.rows, self.told = 0, None
    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.rows += 1
    def get_state(self):
        return {"rows": self.rows}
    def set_state(self, state):
        self.told = state
class Other(Counts):
    pass
class Json(tune.logger.JsonLoggerCallback):
    def __init__(self):
        super().__init__()
        made.append(self)
def no_callback():
    return 1
class Needs(tune.Callback):
    def __init__(self, argument):
        pass
"""


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module beside the script."""
    (tmp_path / "named_callbacks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("named_callbacks")
    del sys.modules["named_callbacks"]


def train(config: dict[str, Any]) -> None:
    for i in range(3):
        if i == 2 and config["fails"].exists():
            raise RuntimeError
        tune.report({"i": i})


def tuner(path: Path, fails: Path, run: tune.RunConfig | None = None) -> tune.Tuner:
    run = run or tune.RunConfig(name="exp", storage_path=str(path), verbose=0, engine="inline")
    return tune.Tuner(train, param_space={"fails": fails}, run_config=run)


def test_they_hear_each_experiment_and_are_made_anew_by_each_run(
    named: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tune.Callback()
    run = tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0, engine="inline", callbacks=[given])
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", "named_callbacks.Counts, named_callbacks.Json,")
    (tmp_path / "fails").touch()
    assert tuner(tmp_path, tmp_path / "fails", run).fit().num_errors == 1
    assert [type(one).__name__ for one in named.made] == ["Counts", "Json"]
    assert (named.made[0].rows, run.callbacks) == (2, [given]), "the user's own object stays as it is"
    (tmp_path / "fails").unlink()

    again = tune.Tuner.restore(str(tmp_path / "exp"), train, resume_errored=True, engine="inline").fit()
    assert [type(one).__name__ for one in named.made] == ["Counts", "Json", "Counts", "Json"], "they are not stored as well"
    assert (again.num_errors, named.made[2].told, named.made[2].rows > 0) == (0, {"rows": 2}, True)


def test_one_of_another_class_gets_no_memory(named: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", "named_callbacks.Counts")
    (tmp_path / "fails").touch()
    tuner(tmp_path, tmp_path / "fails").fit()
    (tmp_path / "fails").unlink()
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", "named_callbacks.Other")
    tune.Tuner.restore(str(tmp_path / "exp"), train, resume_errored=True, engine="inline").fit()
    assert [(type(one).__name__, one.told) for one in named.made] == [("Counts", None), ("Other", None)]


@pytest.mark.parametrize(
    "name", ["named_callbacks.Absent", "no_such_module.Class", "Class", "named_callbacks.no_callback", "named_callbacks.Needs"]
)
def test_what_is_no_callback_is_refused_by_name(named: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", name)
    with pytest.raises(ConfigError, match=f"RAY_TUNE_CALLBACKS names '{name}'"):
        tuner(tmp_path, tmp_path / "fails").fit()
    monkeypatch.delenv("RAY_TUNE_CALLBACKS")
    assert tuner_goes_on(tmp_path), "nothing was started"


def tuner_goes_on(path: Path) -> bool:
    return tune.Tuner.restore(str(path / "exp"), train, engine="inline").fit().num_terminated == 1
