"""Who may talk to a session, and what those hear who may not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast import session
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ReportRefused, TuneError
from holdfast.resources import PlacementGroupFactory

CONTEXT = session.TuneContext(
    experiment_name="exp", trial_name="t", trial_id="abcde_00001", trial_dir="/x/t", trial_resources={"cpu": 2.0}, storage="/x"
)


class Recorder:
    """A session that keeps what it is given."""

    def __init__(self) -> None:
        self.context = CONTEXT
        self.rows: list[tuple[dict[str, Any], Checkpoint | None]] = []

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        self.rows.append((metrics, checkpoint))

    def checkpoint(self) -> Checkpoint | None:
        return Checkpoint("/x/t/checkpoint_000003")


@pytest.fixture
def entered() -> Any:
    recorder = Recorder()
    session.enter(recorder)
    yield recorder
    session.leave()


def test_the_session_hears_what_the_trial_says(entered: Recorder) -> None:
    session.report({"a": 1})
    session.report({"a": 2}, checkpoint=Checkpoint("/somewhere"))
    assert entered.rows == [({"a": 1}, None), ({"a": 2}, Checkpoint("/somewhere"))]
    assert session.get_checkpoint() == Checkpoint("/x/t/checkpoint_000003")
    assert session.get_context() is CONTEXT


def test_a_forked_child_is_refused(entered: Recorder) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for ask in (lambda: session.report({}), session.get_checkpoint, session.get_context):
            try:
                ask()
            except ReportRefused as error:
                os.write(writer, b"refused " if "child process" in str(error) else b"? ")
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"refused refused refused "
    os.close(reader)
    assert entered.rows == []


def test_a_process_started_by_a_trial_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TOKEN", "abc.1")
    with pytest.raises(ReportRefused, match="child process of a trial"):
        session.report({})


def test_outside_a_trial_it_warns_once_and_returns_none() -> None:
    code = """
import warnings
from holdfast import session
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(session.report({"a": 1}), session.get_checkpoint(), session.get_context())
print([(w.category.__name__, w.filename, "outside a trial" in str(w.message)) for w in caught])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None None None\n[('UserWarning', '<string>', True)]\n"


def test_a_stop_is_no_exception() -> None:
    assert not issubclass(session.StopTrial, Exception)
    assert issubclass(ReportRefused, TuneError)


def test_the_context_names_one_worker_of_one() -> None:
    assert (CONTEXT.get_world_size(), CONTEXT.get_local_world_size()) == (1, 1)
    assert (CONTEXT.get_world_rank(), CONTEXT.get_local_rank(), CONTEXT.get_node_rank()) == (0, 0, 0)
    assert (CONTEXT.get_experiment_name(), CONTEXT.get_trial_name(), CONTEXT.get_trial_id()) == ("exp", "t", "abcde_00001")
    assert (CONTEXT.get_trial_dir(), CONTEXT.get_storage(), CONTEXT.get_metadata()) == ("/x/t", "/x", {})
    assert CONTEXT.get_trial_resources() == PlacementGroupFactory([{"CPU": 2}])


def test_a_preemption_is_told_by_a_file_that_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_PREEMPTION_FILE", raising=False)
    assert not CONTEXT.preemption_notice()
    monkeypatch.setenv("HOLDFAST_PREEMPTION_FILE", str(tmp_path / "notice"))
    assert not CONTEXT.preemption_notice()
    (tmp_path / "notice").touch()
    assert CONTEXT.preemption_notice()
