"""When the files of trials are at their place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from holdfast._core.events import EpochEnded
from holdfast._journal import read
from holdfast.storage.local import LocalStorage

DRIVER = """
import os, sys
import holdfast.logger.files
from holdfast import RunConfig, TuneConfig, Tuner
from holdfast._assembly.followers import FilesFollower
from holdfast.engines.simulated import SimulatedEngine

def train(config):
    for number in range(1, 6):
        yield {"score": number}

run = RunConfig(storage_path=sys.argv[1], name="exp", engine=SimulatedEngine(2), verbose=0)
holdfast.logger.files._INTERVAL_S = 1e9  # what is written now and then is not meant
FilesFollower.close = lambda self: os._exit(7)
Tuner(train, tune_config=TuneConfig(metric="score", mode="max", num_samples=3), run_config=run).fit()
"""


def test_they_are_when_the_end_is_on_record(tmp_path: Path) -> None:
    """A finished experiment is not taken up again: what its driver had not written then would never be."""
    assert subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path)], check=False).returncode == 7
    path = tmp_path / "exp"
    last = list(read(LocalStorage(str(path))))[-1].event
    assert isinstance(last, EpochEnded)
    assert last.reason == "finished"
    rows = [[json.loads(line)["score"] for line in file.read_text().splitlines()] for file in path.glob("train*/result.json")]
    assert rows == [[1, 2, 3, 4, 5]] * 3
