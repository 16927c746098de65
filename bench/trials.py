"""How many trivial trials per second, journal and loggers on, two at a time."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, peer, workload

__all__ = ["figures"]

BESIDE = "fork + _exit + wait, two in flight"


def figures(rounds: Rounds) -> Iterator[Figure]:
    limits, fresh, reused = [], [], []
    for _ in rounds.times(5):
        limits.append(peer("forks", rounds.many(2000)))
        fresh.append(workload("trials", rounds.folder(), rounds.many(1000), "fresh"))
        reused.append(workload("trials", rounds.folder(), rounds.many(5000), "reuse"))
    yield Figure("trials, a fresh process each", "/s", fresh, BESIDE, limits, Target("ratio", 0.40, most=False))
    yield Figure("trials, reuse_actors=True", "/s", reused, BESIDE, limits, Target("ratio", 4 * 0.40, most=False))
