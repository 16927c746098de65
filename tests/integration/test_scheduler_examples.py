"""The examples about schedulers, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)  # two dozen attempts that each load scikit-learn

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, env={**os.environ, "HOLDFAST_CPUS": "2"}, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_population_trains_and_is_replayed(tmp_path: Path) -> None:
    told = printed("pbt.py", str(tmp_path))
    assert "the best of the population: 0.9" in told
    assert "one classifier along that schedule: 0.9" in told or "with one configuration from beginning to end" in told
    assert (tmp_path / "population" / "pbt_global.txt").exists()


def test_schedulers_are_tried_in_virtual_time() -> None:
    told = printed("try_schedulers.py", "--trials", "40", "--workers", "10").splitlines()
    assert [line.split()[0] for line in told] == ["FIFO", "ASHA", "HyperBand"]
    fifo, asha, hyperband = (int(line.partition("min, ")[2].split()[0].replace(",", "")) for line in told)
    assert fifo == 40 * 27
    assert asha < fifo
    assert hyperband < fifo
