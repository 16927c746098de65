"""A hundred thousand trials on a thousand simulated workers: the driver's CPU per record and per row, and its memory."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, measured

__all__ = ["figures"]

FEW, MANY = 1_000, 100_000


def figures(rounds: Rounds) -> Iterator[Figure]:
    many = rounds.many(MANY)
    for scheduler, what, bound in (("asha", "records", 20.0), ("stops-none", "rows", 60.0)):
        small, large, memory, grown = [], [], [], []
        for _ in rounds.times(3):
            few = min((_run(FEW, scheduler) for _ in range(3)), key=lambda found: found["cpu"])
            tenth, all_of_it = _run(many // 10, scheduler), _run(many, scheduler)
            small.append(few["cpu"] / few[what] * 1e6)
            large.append(all_of_it["cpu"] / all_of_it[what] * 1e6)
            memory.append(all_of_it["memory"] / many)
            grown.append((all_of_it["memory"] - tenth["memory"]) / (many - many // 10))
        told = {"asha": "journal record, ASHA", "stops-none": "row, a scheduler that stops none"}[scheduler]
        name = f"driver's CPU per {told}, {many:,} trials"
        yield Figure(name, "µs", large, f"{FEW:,} trials", small, Target("value", bound))
        yield Figure(f"the same, against {FEW:,} trials", "µs", large, f"{FEW:,} trials", small, Target("ratio", 1.25))
        beside = f"each beyond {many // 10:,}"
        yield Figure(f"driver memory per trial, {scheduler}, {many:,} trials", "B", memory, beside, grown, Target("value", 4096))


def _run(trials: int, scheduler: str) -> dict[str, float]:
    found: dict[str, float] = measured("-m", "bench.simulated", str(trials), scheduler)
    return found
