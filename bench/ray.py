"""On Ray, beside Ray Tune, both with their loggers: trials and reports on one cluster, a lost node on two of a kind."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, measured

__all__ = ["figures"]

LIBRARIES = ("holdfast", "ray.tune")
BESIDE = "Ray Tune on the same cluster"


def figures(rounds: Rounds) -> Iterator[Figure]:
    yield from _rates(rounds)
    yield _gap(rounds)


def _rates(rounds: Rounds) -> Iterator[Figure]:
    sizes = str(max(2, rounds.many(20))), str(rounds.many(1000)), str(rounds.many(3000))
    found = [measured("-m", "bench.ray_workloads", str(rounds.folder()), *sizes) for _ in rounds.times(3)]
    for what, name in (
        ("trials", "trials on Ray that return at once"),
        ("reports", "reports on Ray, while both trials report"),
        ("short", "reports on Ray, two trials of 1,000, their start included"),
    ):
        ours, theirs = ([one[library][what] for one in found] for library in LIBRARIES)
        yield Figure(name, "/s", ours, BESIDE, theirs, Target("ratio", 5, most=False))
        if what == "trials":  # what bounds it
            actors = [one["ray"]["trials"] for one in found]
            yield Figure(f"{name}, the same", "/s", ours, "empty actors of Ray's own", actors, Target("ratio", 0.7, most=False))


def _gap(rounds: Rounds) -> Figure:
    orders = [LIBRARIES if n % 2 == 0 else LIBRARIES[::-1] for n in rounds.times(3)]
    found = [measured("-m", "bench.ray_losses", str(rounds.folder()), *order) for order in orders]
    ours, theirs = ([one[library]["gap"] for one in found] for library in LIBRARIES)
    name = "longest gap in a trial whose node was killed"
    return Figure(name, "s", ours, "Ray Tune on such a cluster", theirs, Target("ratio", 1.0), paired=True)
