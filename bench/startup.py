"""How long a user waits before anything happens."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, wall

__all__ = ["figures"]

NAMES = "from holdfast import Tuner, TuneConfig, RunConfig, report, uniform"


def figures(rounds: Rounds) -> Iterator[Figure]:
    wall("-c", NAMES)  # compiles and warms the page cache
    bare, names = [], []
    for _ in rounds.times(9):
        bare.append(wall("-c", "pass"))
        names.append(wall("-c", NAMES))
    yield Figure("import of five names, process start and end included", "s", names, "bare Python", bare, Target("value", 0.15))

    bare, first = [], []
    for _ in rounds.times(5):
        folder = rounds.folder()
        bare.append(wall("-c", "pass"))
        first.append(wall("-m", "bench.workloads", "one", str(folder)))
    yield Figure("process start to end of a one-trial experiment", "s", first, "bare Python", bare, Target("value", 0.7))
