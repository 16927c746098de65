from __future__ import annotations

import csv
import json
import math
import os
import pickle
from types import SimpleNamespace

import pytest

from holdfast.logger import CSVLoggerCallback, JsonLoggerCallback, LoggerCallback, TBXLoggerCallback


class HandMade(SimpleNamespace):
    """A trial as somebody makes one by hand."""

    def __hash__(self) -> int:
        return hash(self.trial_id)


@pytest.fixture
def trial(tmp_path):
    return HandMade(trial_id="t", local_path=str(tmp_path / "t"), config={"lr": 0.1}, evaluated_params={"lr": 0.1})


def rows(trial) -> list[dict]:
    with open(os.path.join(trial.local_path, "result.json"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def table(trial) -> list[dict]:
    with open(os.path.join(trial.local_path, "progress.csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def events(trial) -> list[dict]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(trial.local_path)
    accumulator.Reload()
    return [{"loss": event.value, "step": event.step} for event in accumulator.Scalars("loss")]


def test_json_by_hand(trial):
    logger = JsonLoggerCallback()
    logger.setup()
    logger.log_trial_start(trial)
    logger.log_trial_result(1, trial, {"loss": math.nan, "a": {"b": 1}})
    logger.log_trial_result(2, trial, {"loss": 0.5, "config": {"lr": 7}})
    logger.log_trial_end(trial)
    first, second = rows(trial)
    assert math.isnan(first["loss"])
    assert (first["a"], first["config"], second["config"]) == ({"b": 1}, {"lr": 0.1}, {"lr": 7})
    with open(os.path.join(trial.local_path, "params.pkl"), "rb") as file:
        assert pickle.load(file) == {"lr": 0.1}
    with open(os.path.join(trial.local_path, "params.json"), encoding="utf-8") as file:
        assert json.load(file) == {"lr": 0.1}


def test_csv_by_hand_takes_late_keys_without_a_start(trial):
    logger = CSVLoggerCallback()
    logger.log_trial_result(1, trial, {"loss": 1, "a": {"b": 1}})
    logger.log_trial_result(2, trial, {"loss": 2, "late": "x,y"})
    logger.log_trial_end(trial, failed=True)
    assert table(trial) == [{"loss": "1", "a/b": "1", "late": ""}, {"loss": "2", "a/b": "", "late": "x,y"}]


@pytest.mark.parametrize(("kind", "read"), [(JsonLoggerCallback, rows), (CSVLoggerCallback, table), (TBXLoggerCallback, events)])
def test_rows_go_on_behind_those_of_an_earlier_driver_and_none_is_written_twice(trial, kind, read):
    first = kind()
    for number in (1, 2):
        first.on_trial_result(number, [], trial, {"loss": number, "training_iteration": number})
    first.log_trial_end(trial)
    second = kind()
    second.on_trial_start(1, [], trial)
    second.on_trial_result(1, [], trial, {"loss": 2, "training_iteration": 2}, repeated=True)
    second.on_trial_result(2, [], trial, {"loss": 3, "training_iteration": 3})
    second.on_trial_complete(3, [], trial)
    assert [float(row["loss"]) for row in read(trial)] == [1, 2, 3]


def test_a_repeated_call_whose_row_was_not_written_writes_it(trial):
    logger = JsonLoggerCallback()
    logger.on_trial_result(1, [], trial, {"training_iteration": 1})
    logger.on_trial_result(2, [], trial, {"training_iteration": 2}, repeated=True)
    logger.log_trial_end(trial)
    assert len(rows(trial)) == 2


@pytest.mark.parametrize("kind", [JsonLoggerCallback, CSVLoggerCallback])
def test_a_logger_can_be_pickled_while_files_are_open(trial, kind):
    logger = kind()
    logger.log_trial_result(1, trial, {"loss": 1})
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_trial_result(2, trial, {"loss": 2})
    copy.log_trial_end(trial)
    logger.log_trial_end(trial)
    assert len(table(trial) if kind is CSVLoggerCallback else rows(trial)) == 2


def test_callbacks_become_log_calls():
    class Heard(LoggerCallback):
        def __init__(self) -> None:
            self.calls = []

        def log_trial_start(self, trial):
            self.calls.append("start")

        def log_trial_restore(self, trial):
            self.calls.append("restore")

        def log_trial_save(self, trial):
            self.calls.append("save")

        def log_trial_result(self, iteration, trial, result):
            self.calls.append((iteration, result))

        def log_trial_end(self, trial, failed=False):
            self.calls.append(("end", failed))

    heard = Heard()
    heard.on_trial_restore(0, [], None)
    heard.on_trial_start(0, [], None)
    heard.on_trial_result(3, [], None, {"x": 1})
    heard.on_trial_save(0, [], None)
    heard.on_trial_complete(0, [], None)
    heard.on_trial_error(0, [], None)
    assert heard.calls == ["restore", "start", (3, {"x": 1}), "save", ("end", False), ("end", True)]
