"""Each measurement runs in a fresh process, so that none inherits another's warm or swollen state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Rounds", "lines", "measured", "peer", "running", "until", "wall", "workload"]

ROOT = Path(__file__).parents[1]
DEADLINE_S = 400.0
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "TUNE_", "RAY_"))},
    "HOLDFAST_CPUS": "2",
}


class Rounds:
    """How much to measure: the real thing, or (`quick`) a tenth of it, to see that everything runs."""

    def __init__(self, place: Path, *, quick: bool) -> None:
        self.place = place
        self.quick = quick
        self._folders = 0

    def times(self, rounds: int) -> range:
        """So many rounds; one when quick."""
        return range(1 if self.quick else rounds)

    def many(self, number: int) -> int:
        """So many trials or reports; a tenth when quick."""
        return number // 10 if self.quick else number

    def folder(self) -> Path:
        """A new empty directory on the disk that is measured."""
        self._folders += 1
        path = self.place / f"{self._folders:03d}"
        path.mkdir()
        return path


def wall(*command: str) -> float:
    """Seconds from a Python process's start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, check=True, timeout=DEADLINE_S)
    return time.perf_counter() - began


def measured(*command: str):
    """What a Python process printed as JSON in its last line."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, check=False, timeout=DEADLINE_S, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def workload(*arguments: object):
    """The result of one of `bench/workloads.py`."""
    return measured("-m", "bench.workloads", *map(str, arguments))


def peer(*arguments: object):
    """The result of one of `bench/peers.py`, run by its path so that it loads nothing else."""
    return measured(str(ROOT / "bench" / "peers.py"), *map(str, arguments))


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen]:
    """One of `bench/workloads.py`; killed, without a chance to save anything, where the block ends."""
    driver = subprocess.Popen([sys.executable, "-m", "bench.workloads", *map(str, arguments)], cwd=ROOT, env=ENVIRONMENT)
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def lines(file: Path) -> list[list[str]]:
    """The complete lines of a log that others append to, as words."""
    text = file.read_text() if file.exists() else ""
    return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


def until(happened: Callable[[], bool], driver: subprocess.Popen) -> None:
    """Waits for something that a driver must make happen."""
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        if driver.poll() is not None:
            raise RuntimeError(f"the driver ended with {driver.returncode} before it was to be killed")
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing happened within {DEADLINE_S} s")
        time.sleep(0.005)
