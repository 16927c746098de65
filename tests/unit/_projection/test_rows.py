from __future__ import annotations

import time

from holdfast._core.events import ResultReported, Saved
from holdfast._projection.rows import AUTO_KEYS, Place, full_row, own_metrics

PLACE = Place("abcde_00001", "1_lr=1", "node", "10.0.0.9", 77)


def reported(timestamp=1_700_000_000.9, saved=None) -> ResultReported:
    return ResultReported("abcde_00001", 2, 3, b"", 7, 0.25, 4.5, 1.5, 3, timestamp, done=False, saved=saved)


def test_the_users_row_is_completed_behind_its_own_keys():
    metrics = {"loss": 0.5}
    full = full_row(reported(), metrics, PLACE, "e", {"lr": 1})
    assert next(iter(full)) == "loss"
    assert full == {
        "loss": 0.5,
        "timestamp": 1_700_000_000,
        "checkpoint_dir_name": None,
        "done": False,
        "training_iteration": 7,
        "trial_id": "abcde_00001",
        "date": time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(1_700_000_000)),
        "time_this_iter_s": 0.25,
        "time_total_s": 4.5,
        "pid": 77,
        "hostname": "node",
        "node_ip": "10.0.0.9",
        "time_since_restore": 1.5,
        "iterations_since_restore": 3,
        "experiment_tag": "1_lr=1",
        "experiment_id": "e",
        "config": {"lr": 1},
    }
    counted = {"episodes_total", "timesteps_since_restore", "timesteps_total"}  # filled in by the worker, where any are reported
    assert set(full) == AUTO_KEYS - counted | {"loss"}
    assert own_metrics({**full, "timesteps_total": 7}) == {"loss": 0.5}
    assert metrics == {"loss": 0.5}
    assert own_metrics(full) == {"loss": 0.5}


def test_a_key_that_the_user_reported_keeps_the_users_value():
    full = full_row(reported(), {"training_iteration": 100, "done": "later", "config": 1}, PLACE, "e", {"lr": 1})
    assert (full["training_iteration"], full["done"], full["config"]) == (100, "later", 1)


def test_a_row_names_the_checkpoint_that_came_with_it():
    full = full_row(reported(saved=Saved(12, 1, 1, "")), {}, PLACE, "e")
    assert full["checkpoint_dir_name"] == "checkpoint_000012"
    assert "config" not in full


def test_the_date_follows_the_rows_second():
    dates = [full_row(reported(timestamp), {}, PLACE, "e")["date"] for timestamp in (10.0, 10.9, 11.0, 10.5)]
    assert dates[0] == dates[1] == dates[3] != dates[2]
