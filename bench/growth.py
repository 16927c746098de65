"""What many trials on record cost: time per report, and the driver's memory."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, workload

__all__ = ["figures"]

REPORTS = 5_000  # of each of the two trials that are measured


def figures(rounds: Rounds) -> Iterator[Figure]:
    few, many, memory, journal = [], [], [], []
    for _ in rounds.times(3):
        few.append(workload("growth", rounds.folder(), 200, REPORTS)["seconds"] * 1e6)
        large = workload("growth", rounds.folder(), rounds.many(20_000), REPORTS)
        many.append(large["seconds"] * 1e6)
        memory.append(large["memory"])
        journal.append(large["journal"])
    name = f"time per report, {rounds.many(20_000):,} trials on record"
    yield Figure(name, "µs", many, "with 200 trials", few, Target("ratio", 1.15))
    yield Figure("driver memory per finished trial", "B", memory, "its records in the journal", journal, Target("value", 3072))
