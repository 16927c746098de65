"""Event files of real experiments: there by default, replaced by a callback, absent with a notice."""

from __future__ import annotations

import importlib.util
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import holdfast as tune
from holdfast._assembly import followers
from holdfast.logger import TBXLoggerCallback
from holdfast.logger.tensorboard import NAME


def train(config):
    for n in range(3):
        tune.report({"loss": config["x"] + n})


def fitted(tmp_path, **options):
    run_config = tune.RunConfig(name="exp", storage_path=str(tmp_path), **options)
    space = {"x": tune.grid_search([1.0, 2.0]), "kept": 7}
    return tune.Tuner(train, param_space=space, run_config=run_config).fit()


def steps(path: str) -> list[tuple[int, float]]:
    told = EventAccumulator(path)
    told.Reload()
    assert "_hparams_/session_start_info" in told.summary_metadata
    return [(event.step, event.value) for event in told.Scalars("loss")]


@pytest.mark.parametrize("callbacks", [[], [TBXLoggerCallback()]], ids=["default", "callback"])
def test_each_trial_has_an_event_per_row(tmp_path, callbacks):
    for result in fitted(tmp_path, verbose=0, callbacks=callbacks):
        assert steps(result.path) == [(n + 1, result.config["x"] + n) for n in range(3)]
        assert os.listdir(result.path).count(NAME) == 1


def test_without_tensorboardx_there_is_no_file_and_one_notice(tmp_path, monkeypatch, capfd):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "tensorboardX" else there(name, *more))
    followers._say_once.cache_clear()
    for n in range(2):
        for result in fitted(tmp_path / str(n), verbose=1):
            assert NAME not in os.listdir(result.path)
    assert capfd.readouterr().err.count("no files for TensorBoard") == 1


def test_the_switch_for_all_default_files_is_one_for_this_too(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    assert all(NAME not in os.listdir(result.path) for result in fitted(tmp_path, verbose=0))
