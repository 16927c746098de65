"""What `verify` looks at beside the journal."""

from __future__ import annotations

from pathlib import Path

import pytest

import holdfast as tune
from holdfast._projection.history import load_state
from holdfast.cli.checking import all_problems
from holdfast.storage.local import LocalStorage


def train(config):
    tune.report({"score": 1})


@pytest.mark.parametrize("job", [0, 1, 2])
def test_a_job_that_is_replayed_is_missed_though_another_is_in_force(tmp_path: Path, job: int) -> None:
    """A restore makes the plug-ins as they were submitted, and extends them as the record says."""
    run = tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0, engine="inline")
    tune.Tuner(train, run_config=run).fit()
    for samples in (1, 2):
        tune.Tuner.extend(tmp_path / "exp", train, num_samples=samples, engine="inline").fit()
    storage = LocalStorage(str(tmp_path / "exp"))
    assert all_problems(storage) == []
    state = load_state(storage)
    assert state.created is not None
    sha = [state.created.definitions["job"], *(event.definitions["job"] for event in state.extensions)][job]
    Path(storage.root, "definitions", f"{sha}.pkl").unlink()
    assert [problem.file for problem in all_problems(storage)] == [f"definitions/{sha}.pkl"]
