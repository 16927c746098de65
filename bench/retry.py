"""How long a trial whose worker was killed waits for its next attempt."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Target
from bench.process import Rounds, peer, workload

__all__ = ["figures"]


def figures(rounds: Rounds) -> Iterator[Figure]:
    attempts = max(rounds.many(100), 5)
    times, limits = [], []
    for _ in rounds.times(5):
        limits.append(peer("rebirths", attempts))
        times.append(workload("retries", rounds.folder(), attempts))
    name = "SIGKILL of a worker to the retry's first line of user code"
    yield Figure(name, "ms", times, "SIGKILL, wait, fork", limits, Target("value", 20.0))
