"""How long a restore takes after a kill."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure, Target
from bench.process import Rounds, lines, peer, running, until, wall

__all__ = ["figures"]


def figures(rounds: Rounds) -> Iterator[Figure]:
    trials = rounds.many(10_000)
    times, limits = _many_finished(rounds, trials)
    name = f"restore of {trials:,} finished trials to a running trial, no snapshots"
    yield Figure(name, "s", times, "reading and check-summing its journal", limits, Target("value", 1.5))

    times, limits = _first_report(rounds)
    name = "driver killed and restored: process start to first new report"
    yield Figure(name, "s", times, "bare Python", limits, Target("value", 1.0))


def _many_finished(rounds: Rounds, trials: int) -> tuple[list[float], list[float]]:
    """From the call of `Tuner.restore` to the first line of user code in a trial, every snapshot deleted before."""
    folder = rounds.folder()
    notes = folder / "notes"
    with running("to_be_killed", folder, "waiting", trials) as driver:
        until(lambda: len(lines(notes)) >= 2, driver)
    times, limits = [], []
    for _ in rounds.times(5):
        shutil.rmtree(folder / "bench" / "journal" / "snapshots", ignore_errors=True)
        limits.append(peer("read_all", folder / "bench" / "journal"))
        before = len(lines(notes))
        with running("to_be_killed", folder, "waiting", trials) as driver:
            until(lambda before=before: len(lines(notes)) > before, driver)
        times.append(float(lines(notes)[before][0]) - float(lines(folder / "restores")[-1][0]))
    return times, limits


def _first_report(rounds: Rounds) -> tuple[list[float], list[float]]:
    """From the start of the second driver's process to the return of the first report in a new worker."""
    times, limits = [], []
    for _ in rounds.times(5):
        folder = rounds.folder()
        notes = folder / "notes"
        with running("to_be_killed", folder, "acknowledged", 0) as driver:
            until(lambda notes=notes: len(lines(notes)) >= 200, driver)
        old = {pid for _, pid in lines(notes)}
        limits.append(wall("-c", "pass"))
        began = time.monotonic()
        with running("to_be_killed", folder, "acknowledged", 0) as driver:
            until(lambda notes=notes, old=old: bool(_new(notes, old)), driver)
        times.append(_new(notes, old)[0] - began)
    return times, limits


def _new(notes: Path, old: set[str]) -> list[float]:
    """When reports returned in workers that the first driver did not have."""
    return [float(when) for when, pid in lines(notes) if pid not in old]
