"""Trials and reports on a Ray cluster of one node: holdfast and Ray Tune in turn on the same one, both with their loggers."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, measured

__all__ = ["figures"]

BESIDE = "Ray Tune on the same cluster"


def figures(rounds: Rounds) -> Iterator[Figure]:
    many = [len(rounds.times(3)), max(2, rounds.many(20)), rounds.many(500)]
    found = measured("-m", "bench.ray_workloads", str(rounds.folder()), *map(str, many))
    target = Target("ratio", 5, most=False)
    yield Figure(
        "trials on Ray that return at once", "/s", found["holdfast"]["trials"], BESIDE, found["ray.tune"]["trials"], target
    )
    yield Figure("reports on Ray", "/s", found["holdfast"]["reports"], BESIDE, found["ray.tune"]["reports"], target)
