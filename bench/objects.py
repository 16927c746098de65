"""What a large object costs that all trials share: memory, and the time until trials run."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, workload

__all__ = ["figures"]

TRIALS = 50


def figures(rounds: Rounds) -> Iterator[Figure]:
    size = rounds.many(1 << 30)
    shown = f"{size / (1 << 20):.0f} MiB"

    added, sizes = [], []
    for _ in rounds.times(3):
        without = workload("objects", rounds.folder(), size, TRIALS, "without", "whole")["memory"]
        added.append((workload("objects", rounds.folder(), size, TRIALS, "with", "whole")["memory"] - without) / (1 << 20))
        sizes.append(size / (1 << 20))
    name = f"memory added by with_parameters({shown}) to {TRIALS} trials that read all of it"
    yield Figure(name, "MiB", added, "the array", sizes, Target("ratio", 1.15))

    shared, plain = [], []
    for _ in rounds.times(5):
        plain.append(workload("objects", rounds.folder(), size, TRIALS, "without", "ends")["seconds"])
        shared.append(workload("objects", rounds.folder(), size, TRIALS, "with", "ends")["seconds"])
    name = f"fit() of {TRIALS} trials with {shown} by with_parameters"
    yield Figure(name, "s", shared, "the same trials without it", plain, Target("ratio", 2.0))
