"""Workers whose checkpoints are kept on S3: uploaded by them, brought back to them, whatever dies in the middle."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import object_servers
from fault_proxy import FaultProxy
from holdfast._core.commands import CommitCheckpoint
from holdfast._core.events import AttemptEnded, CheckpointBroken, CheckpointCommitted, CheckpointLost, Saved
from holdfast._core.ids import MANIFEST, checkpoint_name, pending_name
from holdfast.checkpoint import Checkpoint
from holdfast.engines.base import Engine
from holdfast.engines.inline import InlineEngine
from holdfast.engines.local import LocalEngine
from holdfast.session import get_checkpoint, report
from holdfast.storage.uri import open_place, parse
from holdfast.testing.engine_stage import Stage, as_class, as_function, make_job, make_order
from holdfast.testing.engine_suite import save_each_step

pytestmark = pytest.mark.xdist_group("object servers")

Open = Callable[..., Stage]


@pytest.fixture
def open_stage(place: str, tmp_path: Path) -> Iterator[Open]:
    """Opens an engine whose checkpoints go to the store."""
    stages: list[Stage] = []

    def opened(trainable: Any, engine: Engine | None = None, **changes: Any) -> Stage:
        job = make_job(tmp_path / "experiment", trainable, **{"storage": place, **changes})
        stages.append(Stage(engine or LocalEngine(cpus=4), job))
        return stages[-1]

    yield opened
    for stage in stages:
        with closing(stage.engine):
            pass


def there(place: str, below: str = "trial_0") -> set[str]:
    return set(open_place(parse(place)).sizes_below(below))


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "checkpoints"
    return os.listdir(folder) if folder.exists() else []


def resumed(saved: Saved, attempt: int = 2, **changes: Any) -> Any:
    fields = {"attempt": attempt, "resume": saved, "number": 1, "grant": saved.index + 1, "config": {"steps": 3}}
    return make_order(**{**fields, **changes})


ENGINES = pytest.mark.parametrize("engine", [lambda: LocalEngine(cpus=2), InlineEngine], ids=["local", "inline"])


@ENGINES
@pytest.mark.parametrize("upload", ["sync", "async"])
def test_they_lie_on_the_store_and_are_gone_on_from(
    open_stage: Open, place: str, tmp_path: Path, engine: Callable[[], Engine], upload: str
) -> None:
    stage, order = open_stage(as_function(save_each_step), engine(), upload=upload), make_order(config={"steps": 3}, grant=4)
    (end,) = stage.run(order)
    assert end.outcome == "completed"
    rows = stage.rows_of(order)
    late = [seen.saved for seen in stage.seen if isinstance(seen, CheckpointCommitted)]
    saved = late if upload == "async" else [row.saved for row in rows]
    assert [one.index for one in saved if one is not None] == [4, 5, 6]
    assert there(place) == {f"{checkpoint_name(index)}/{name}" for index in (4, 5, 6) for name in ("state", MANIFEST)}
    assert not [name for name in os.listdir(stage.dir_of(order)) if name.startswith((".", "checkpoint"))]
    assert saved[0] is not None
    again = resumed(saved[0], grant=7)
    stage.run(again)
    assert stage.metrics_of(again) == [{"step": 1}, {"step": 2}]
    assert cached(tmp_path) == []


def test_a_class_trainable_saves_there_and_goes_on(open_stage: Open, place: str) -> None:
    stage = open_stage(as_class(save_each_step), class_trainable=True, checkpoint_frequency=1)
    order = make_order(config={"steps": 9})
    stage.answers[0, 2] = "STOP"
    stage.run(order)
    (_, last) = [row.saved for row in stage.rows_of(order)]
    assert last is not None
    again = resumed(last, number=2, iteration=2)
    stage.answers[0, 3] = "STOP"
    stage.run(again)
    assert stage.metrics_of(again) == [{"step": 2}]


def test_a_broken_one_is_found_before_the_trial_begins(open_stage: Open, place: str) -> None:
    stage, order = open_stage(as_function(save_each_step)), make_order(config={"steps": 1})
    stage.run(order)
    saved = stage.rows_of(order)[0].saved
    assert saved is not None
    open_place(parse(place)).put(f"trial_0/{checkpoint_name(0)}/state", b"?" * saved.size)
    (end,) = stage.run(resumed(saved))
    assert end.failure is not None
    assert end.failure.kind == "checkpoint"
    assert "state does not have the content" in end.failure.message
    assert [seen.index for seen in stage.seen if isinstance(seen, CheckpointBroken)] == [0]


def save_many(config: dict[str, Any]) -> None:
    """One row with a checkpoint of many files."""
    os.makedirs("work", exist_ok=True)
    for number in range(config["files"]):
        Path("work", str(number)).write_bytes(b"%d" % number * 1000)
    begun = get_checkpoint()
    if begun is not None:
        with begun.as_directory() as folder:
            assert sorted(os.listdir(folder)) == sorted([*os.listdir("work"), MANIFEST])
    report({"x": 1, "begun": begun is not None}, checkpoint=Checkpoint.from_directory("work"))


def test_a_worker_killed_while_it_uploads_leaves_nothing_that_a_row_names(
    open_stage: Open, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = open_stage(save_many, environment={**os.environ, "HOLDFAST_FAULTS": "mid_checkpoint_upload:9=kill"})
    order = make_order(config={"files": 60})
    (end,) = stage.run(order)
    assert end.failure is not None
    assert end.failure.signal == 9
    assert stage.rows_of(order) == []
    assert 9 <= len(there(place)) < 60
    assert f"{checkpoint_name(0)}/{MANIFEST}" not in there(place)
    stage.engine.close()
    # The next attempt begins behind what the first was granted.
    other = open_stage(save_many)
    again = make_order(config={"files": 60}, attempt=2, grant=1)
    other.run(again)
    saved = other.rows_of(again)[0].saved
    assert saved is not None
    assert saved.index == 1
    third = resumed(saved, attempt=3, config={"files": 60})
    other.run(third)
    assert other.metrics_of(third) == [{"x": 1, "begun": True}]


def left_pending(stage: Stage) -> Saved:
    """A checkpoint whose worker was killed while it was on its way."""
    order = make_order(config={"files": 60})
    (end,) = stage.run(order)
    assert end.outcome == "failed"
    (row,) = stage.rows_of(order)
    assert row.pending is not None
    return row.pending


def completed(stage: Stage, saved: Saved, name: str = "2.7.0") -> CheckpointCommitted | CheckpointLost:
    stage.engine.commit(CommitCheckpoint(name, "abcde_00000", 1, "trial_0", 1, saved))
    answers: list[Any] = []

    def answered() -> bool:
        kinds = (CheckpointCommitted, CheckpointLost)
        answers[:] = [seen for seen in stage.seen if isinstance(seen, kinds) and seen.order == name]
        return bool(answers)

    stage.until(answered)
    return answers[0]


@pytest.mark.parametrize("point", ["mid_checkpoint_upload:9", "before_checkpoint_rename", "before_checkpoint_told"])
def test_what_a_killed_worker_left_pending_is_completed_without_sending_it_again(
    open_stage: Open, server: object_servers.Server, place: str, point: str
) -> None:
    faults = {**os.environ, "HOLDFAST_FAULTS": f"{point}=kill"}
    stage = open_stage(save_many, upload="async", environment=faults)
    saved = left_pending(stage)
    before = there(place)
    stage.engine.close()
    with FaultProxy(server.port, lambda *_: "") as proxy:
        other = open_stage(save_many, upload="async", storage=place.replace(f"%3A{server.port}", f"%3A{proxy.port}"))
        assert completed(other, saved) == CheckpointCommitted("abcde_00000", 1, 1, saved, "2.7.0")
        assert completed(other, saved, "3.1.0") == CheckpointCommitted("abcde_00000", 1, 1, saved, "3.1.0")
        sent = [request for request, _ in proxy.log if request.startswith("PUT")]
        assert len(sent) == 61 - len(before)
        assert not Path(other.job.experiment_dir, "trial_0", pending_name(0)).exists()
        again = resumed(saved, config={"files": 60})
        other.run(again)
        assert other.metrics_of(again) == [{"x": 1, "begun": True}]
        other.engine.close()


def test_one_whose_machine_is_lost_is_lost(open_stage: Open, place: str) -> None:
    stage = open_stage(save_many, upload="async", environment={**os.environ, "HOLDFAST_FAULTS": "mid_checkpoint_upload:9=kill"})
    saved = left_pending(stage)
    Path(stage.job.experiment_dir, "trial_0", pending_name(0)).rename(Path(stage.job.experiment_dir, "elsewhere"))
    answer = completed(stage, saved)
    assert isinstance(answer, CheckpointLost)
    assert "gone from this machine" in answer.problem
    assert there(place) == set()  # what had been sent of it is nobody's


def wait_for_all(config: dict[str, Any]) -> None:
    """Goes on from a checkpoint and keeps it in use until as many trials have."""
    begun = get_checkpoint()
    assert begun is not None
    with begun.as_directory() as folder:
        state = pickle.loads(Path(folder, "state").read_bytes())
        report({"state": state})
        report({"folder": folder})


def test_four_that_exploit_one_donor_download_it_once(
    open_stage: Open, server: object_servers.Server, place: str, tmp_path: Path
) -> None:
    stage = open_stage(as_function(save_each_step))
    donor = make_order(config={"steps": 1})
    stage.run(donor)
    saved = stage.rows_of(donor)[0].saved
    stage.engine.close()
    with FaultProxy(server.port, lambda *_: "") as proxy:
        other = open_stage(wait_for_all, storage=place.replace(f"%3A{server.port}", f"%3A{proxy.port}"))
        orders = [
            make_order(index, attempt=1, resume=saved, source="trial_0", donor="abcde_00000", config={}) for index in range(1, 5)
        ]
        waiting: list[Any] = []
        for index in range(1, 5):
            other.answers[index, 1] = waiting.append
        for order in orders:
            other.engine.start(order)
        other.until(lambda: len(waiting) == 4)  # all hold it at once
        for row in waiting:
            other.engine.reply(row.trial_id, row.attempt, row.number, "CONTINUE")
        other.until(lambda: all(other.end_of(order) for order in orders))
        folders = {other.metrics_of(order)[1]["folder"] for order in orders}
        downloads = [request for request, _ in proxy.log if request.startswith("GET") and request.endswith("/state")]
        other.engine.close()
    assert len(folders) == 1
    assert len(downloads) == 1
    assert cached(tmp_path) == []


@pytest.mark.parametrize("upload", ["sync", "async"])
@pytest.mark.parametrize("seed", range(2))
def test_a_bad_network_changes_nothing(
    open_stage: Open, server: object_servers.Server, place: str, upload: str, seed: int
) -> None:
    print("seed", seed)
    chance, kinds = random.Random(seed), ["503", "429", "409", "drop before", "drop after", "truncate"]
    with FaultProxy(server.port, lambda *_: chance.choice(kinds) if chance.random() < 0.3 else "") as proxy:
        stage = open_stage(
            as_function(save_each_step), upload=upload, storage=place.replace(f"%3A{server.port}", f"%3A{proxy.port}")
        )
        order = make_order(config={"steps": 8})
        (end,) = stage.run(order)
        assert end == AttemptEnded("abcde_00000", 1, "completed")
        late = [seen.saved for seen in stage.seen if isinstance(seen, CheckpointCommitted)]
        saved = late if upload == "async" else [row.saved for row in stage.rows_of(order)]
        assert len(saved) == 8
        again = resumed(saved[6], number=7, grant=8, config={"steps": 9})
        stage.run(again)
        assert stage.metrics_of(again) == [{"step": 7}, {"step": 8}]
        stage.engine.close()
    assert {fate for _, fate in proxy.log} > {""}
    assert there(place) >= {f"{checkpoint_name(index)}/{name}" for index in range(9) for name in ("state", MANIFEST)}
