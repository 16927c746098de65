"""What OptunaSearch adds to Optuna: time per trial, time of a restore, and nothing to what is found."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import DEADLINE_S, ENVIRONMENT, ROOT, Rounds, measured

__all__ = ["figures"]

PROBLEMS = {"branin": "Branin", "hartmann": "Hartmann-6", "tabulated": "digits, tabulated"}


def figures(rounds: Rounds) -> Iterator[Figure]:
    found = [measured("-m", "bench.searching", "around", str(rounds.many(300))) for _ in rounds.times(3)]
    ours, theirs = ([one[side] * 1e6 for one in found] for side in ("ours", "optunas"))
    name = "OptunaSearch around ask and tell, per trial of 3 rows"
    yield Figure(name, "µs", ours, "Optuna's own ask and tell (TPE)", theirs, Target("ratio", 0.1))

    trials = rounds.many(1000)
    with_them, without = _restores(rounds, trials)
    name = f"restore of {trials:,} trials under OptunaSearch to the next trial"
    yield Figure(name, "s", with_them, "with every snapshot deleted", without, Target("value", 3.0))

    seeds, samples = (2, 20) if rounds.quick else (20, 100)
    for problem, title in PROBLEMS.items():
        best = measured("-m", "bench.searching", "quality", str(rounds.folder()), problem, str(seeds), str(samples))
        ours, theirs = best["ours"], best["optunas"]
        apart = [one - other for one, other in zip(ours, theirs, strict=True)]
        noise = statistics.stdev(apart) / math.sqrt(len(apart))
        name = f"best value after {samples} trials, {title}, mean of {seeds} seeds"
        bound = Target("value", statistics.mean(theirs) + 2 * noise)
        yield Figure(name, "", [statistics.mean(ours)], "plain Optuna, same sampler and seeds", [statistics.mean(theirs)], bound)


def _restores(rounds: Rounds, trials: int) -> tuple[list[float], list[float]]:
    """Seconds with snapshots, and without any; each restore has a copy of the experiment as the kill left it."""
    folder = rounds.folder()
    command = [sys.executable, "-m", "bench.searching", "killed", str(folder), str(trials)]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False, timeout=DEADLINE_S)
    times: dict[str, list[float]] = {"with": [], "without": []}
    for _ in rounds.times(3):
        for which, found in times.items():
            place = rounds.folder()
            shutil.copytree(folder, place, dirs_exist_ok=True)
            found.append(float(measured("-m", "bench.searching", "restored", os.fspath(place), str(trials), which)))
    return times["with"], times["without"]
