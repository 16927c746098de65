"""Trials and reports on a Ray cluster of one node: holdfast, then Ray Tune on the same one, both with their loggers."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, measured

__all__ = ["figures"]

BESIDE = "Ray Tune on the same cluster"


def figures(rounds: Rounds) -> Iterator[Figure]:
    size = str(max(2, rounds.many(20))), str(rounds.many(500))
    found = [measured("-m", "bench.ray_workloads", str(rounds.folder()), *size) for _ in rounds.times(3)]
    for what, name in (("trials", "trials on Ray that return at once"), ("reports", "reports on Ray")):
        ours, theirs = ([one[library][what] for one in found] for library in ("holdfast", "ray.tune"))
        yield Figure(name, "/s", ours, BESIDE, theirs, Target("ratio", 5, most=False))
