"""A machine that is about to be taken away: trials are told, save, and another start goes on from there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

import holdfast as tune


def saves_when_told(config: dict[str, Any]) -> None:
    newest = tune.get_checkpoint()
    start = int(Path(newest.path, "next").read_text()) if newest else 0
    for i in range(start, 10):
        if i == 4 and start == 0:
            Path(os.environ["HOLDFAST_PREEMPTION_FILE"]).touch()
        if not tune.get_context().preemption_notice():
            tune.report({"i": i, "start": start})
            continue
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "next").write_text(str(i + 1))
            tune.report({"i": i, "start": start}, checkpoint=tune.Checkpoint.from_directory(folder))
        os.unlink(os.environ["HOLDFAST_PREEMPTION_FILE"])
        raise RuntimeError("the machine is gone")


@pytest.mark.slow
def test_a_trial_saves_when_a_file_says_that_its_machine_will_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_PREEMPTION_FILE", str(tmp_path / "notice"))
    run_config = tune.RunConfig(
        name="exp", storage_path=str(tmp_path), verbose=0, engine="local", failure_config=tune.FailureConfig(max_failures=1)
    )
    (result,) = tune.Tuner(saves_when_told, run_config=run_config).fit()
    assert result.error is None
    assert [*zip(result.metrics_dataframe["i"], result.metrics_dataframe["start"], strict=True)] == [
        (i, 0 if i < 5 else 5) for i in range(10)
    ]
