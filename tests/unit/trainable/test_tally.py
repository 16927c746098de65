"""Timesteps and episodes, and where counters lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from holdfast.checkpoint import MANIFEST
from holdfast.trainable.tally import Tally, counters_in, write_counters


def test_what_is_not_reported_is_not_counted_and_not_filled_in() -> None:
    tally = Tally()
    assert tally.plus({"loss": 1.0}) is tally
    assert tally.plus({"episodes_this_iter": 2}).filled({"episodes_this_iter": 2}) == {
        "episodes_this_iter": 2,
        "episodes_total": 2,
    }
    assert tally.counters() == {}


def test_counts_go_on_from_a_checkpoints_counters() -> None:
    tally = Tally.of({"timesteps_total": 100, "training_iteration": 7}).plus({"timesteps_this_iter": 5})
    row = tally.filled({"timesteps_this_iter": 5})
    assert row == {"timesteps_total": 105, "timesteps_since_restore": 5, "timesteps_this_iter": 5}
    assert tally.counters() == {"timesteps_total": 105}


@pytest.mark.parametrize("steps", [np.int64(3), np.float32(3), np.array(3), 3])
def test_arrays_own_numbers_count_and_can_be_kept(steps: object) -> None:
    tally = Tally().plus({"timesteps_this_iter": steps})
    assert json.loads(json.dumps(tally.counters())) == {"timesteps_total": 3}


@pytest.mark.parametrize("steps", [None, "many"])
def test_what_is_no_number_counts_nothing(steps: object) -> None:
    assert Tally(10).plus({"timesteps_this_iter": steps}).timesteps_total == 10


def test_a_trials_manifest_goes_before_what_an_instance_wrote_by_itself(tmp_path: Path) -> None:
    assert counters_in(str(tmp_path)) == {}
    write_counters(str(tmp_path), {"training_iteration": 1})
    assert counters_in(str(tmp_path)) == {"training_iteration": 1}
    (tmp_path / MANIFEST).write_text(json.dumps({"version": 1, "counters": {"training_iteration": 2}}))
    assert counters_in(str(tmp_path)) == {"training_iteration": 2}


def test_a_manifest_of_a_version_without_counters_has_none(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"version": 1, "files": []}))
    assert counters_in(str(tmp_path)) == {}
