"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from crc32c import crc32c
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from holdfast.errors import StorageError
from holdfast.logger.tensorboard import NAME, EventRows, slow_crc32c

PARAMS = {"lr": 0.1, "layers": {"kind": "dense", "bias": True}, "huge": 10**400, "none": None}


def row(number: int, **more: object) -> dict[str, object]:
    return {"loss": 1 / number, "training_iteration": number, "timestamp": 1000 + number, "config": {"lr": 1}, **more}


@pytest.fixture
def file(tmp_path):
    file = EventRows(str(tmp_path / NAME), PARAMS)
    yield file
    file.close()


def read(file: EventRows) -> EventAccumulator:
    accumulator = EventAccumulator(file.path, size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def points(file: EventRows, tag: str = "loss") -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(file).Scalars(tag)]


def test_tensorboard_reads_every_number_and_nothing_else(file):
    file.append([row(1, text="x", yes=True, nested={"a": 2}, huge=1e300, gone=None)])
    file.append([row(2, nan=math.nan, large=10**400)])
    told = read(file)
    assert told.file_version == 2.0
    assert sorted(told.Tags()["scalars"]) == ["huge", "large", "loss", "nan", "nested/a"]
    assert [(event.wall_time, event.step, event.value) for event in told.Scalars("loss")] == [(1001, 1, 1), (1002, 2, 0.5)]
    assert told.Scalars("huge")[0].value == told.Scalars("large")[0].value == math.inf


def test_the_step_is_the_timesteps_where_a_row_has_them(file):
    file.append([row(1, timesteps_total=500)])
    assert points(file) == [(500, 1.0)]


def test_the_hyperparameter_page_finds_parameters_and_metrics(file):
    file.append([row(1, acc=3)])
    told = {tag: content.plugin_data.content for tag, content in read(file).summary_metadata.items() if "_hparams_" in tag}
    session = metadata.parse_session_start_info_plugin_data(told["_hparams_/session_start_info"])
    held = {key: getattr(value, value.WhichOneof("kind")) for key, value in session.hparams.items()}
    assert held == {"lr": 0.1, "layers/kind": "dense", "layers/bias": True, "huge": math.inf, "none": "None"}
    experiment = metadata.parse_experiment_plugin_data(told["_hparams_/experiment"])
    assert {info.name for info in experiment.hparam_infos} == set(held)
    assert [info.name.tag for info in experiment.metric_infos] == ["loss", "acc"]


def test_rows_are_replaced_and_cut(file):
    file.append([row(n) for n in range(1, 5)])
    file.rewrite(3, {1: row(1, loss=7.0, late=1), 3: row(3, loss=8.0)}, [row(4, loss=9.0)])
    assert points(file) == [(1, 7.0), (2, 0.5), (3, 8.0), (4, 9.0)]
    whole = Path(file.path).read_bytes()
    file.rebuild([row(1, loss=7.0, late=1), row(2), row(3, loss=8.0), row(4, loss=9.0)])
    assert Path(file.path).read_bytes() == whole


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_a_torn_end_is_left_behind(file, lost):
    file.append([row(1), row(2)])
    file.close()
    with open(file.path, "r+b") as torn:
        torn.truncate(torn.seek(0, 2) - lost)
    again = EventRows(file.path, PARAMS)
    again.adopt()
    assert again.count == 1
    again.append([row(2, loss=5.0)])
    again.close()
    assert points(file) == [(1, 1.0), (2, 5.0)]


def test_a_flipped_bit_ends_what_is_read_and_a_short_file_is_refused(file):
    file.append([row(1), row(2), row(3)])
    data = bytearray(Path(file.path).read_bytes())
    data[-200] ^= 1
    Path(file.path).write_bytes(data)
    with pytest.raises(StorageError, match="where 3 were written"):
        file.rewrite(3, {}, [])


def test_the_checksum_is_the_same_without_the_library():
    assert slow_crc32c(b"123456789") == 0xE3069283  # the value that every description of CRC-32C gives
    for size in (0, 1, 7, 300):
        assert slow_crc32c(bytes(range(256)) * 2 + b"x" * size) == crc32c(bytes(range(256)) * 2 + b"x" * size)
