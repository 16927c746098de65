"""How many reports per second: two trials, each waiting for its answer, journal and default loggers on."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, peer, workload

__all__ = ["figures"]


def figures(rounds: Rounds) -> Iterator[Figure]:
    singly, crowded, group = [], [], []
    for _ in rounds.times(5):
        singly.append(peer("round_trips", rounds.many(20_000), 1))
        group.append(workload("reports", rounds.folder(), rounds.many(10_000), "group"))
        crowded.append(peer("round_trips", rounds.many(20_000), 2))
    target = Target("ratio", 0.25, most=False)
    yield Figure("reports", "/s", group, "bare msgpack round trips, one child", singly, target)
    yield Figure("reports, the same rounds", "/s", group, "bare msgpack round trips, two children", crowded, target)

    limits, strict = [], []
    for _ in rounds.times(5):
        folder = rounds.folder()
        limits.append(peer("appends", rounds.many(500), folder))
        strict.append(workload("reports", rounds.folder(), rounds.many(500), "strict"))
    beside = "bare fsynced appends of 256 bytes"
    yield Figure('reports, durability="strict"', "/s", strict, beside, limits, Target("ratio", 0.30, most=False))
