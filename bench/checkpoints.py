"""How long `report()` with a large checkpoint blocks the trial: when it waits for the disk, and when that goes on behind it."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, workload

__all__ = ["figures"]

CASES = (
    (64 << 20, 11, "sync", "cp and fsync of the same files", Target("ratio", 1.43)),
    (1 << 30, 5, "sync", "cp and fsync of the same files", Target("ratio", 1.43)),
    (1 << 30, 5, "async", "cp of the same files", Target("ratio", 2.5)),
)


def figures(rounds: Rounds) -> Iterator[Figure]:
    for whole, count, upload, beside, target in CASES:
        size = rounds.many(whole)
        times = workload("checkpoints", rounds.folder(), count, size, upload)
        blocked, copied = zip(*times, strict=True)
        yield Figure(f"report() with a checkpoint of {size / (1 << 20):.0f} MiB, {upload}", "s", blocked, beside, copied, target)
