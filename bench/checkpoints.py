"""How long `report()` with a large checkpoint blocks the trial."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, workload

__all__ = ["figures"]


def figures(rounds: Rounds) -> Iterator[Figure]:
    size = rounds.many(64 << 20)
    times = workload("checkpoints", rounds.folder(), 11, size)
    blocked, copied = zip(*times, strict=True)
    name = f"report() with a checkpoint of {size / (1 << 20):.0f} MiB"
    yield Figure(name, "s", blocked, "cp and fsync of the same files", copied, Target("ratio", 1.43))
