"""Experiments on an object store, a server on this machine, beside local ones."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure, Target
from bench.process import ENVIRONMENT, ROOT, Rounds, lines, running, until, workload

__all__ = ["figures"]


def figures(rounds: Rounds) -> Iterator[Figure]:
    sys.path.insert(0, str(ROOT / "tests"))
    import object_servers
    from holdfast.storage.opening import inside

    with object_servers.ministack() as server:
        cache = rounds.folder()
        ENVIRONMENT.update(server.environment, HOLDFAST_CACHE_DIR=str(cache))
        os.environ.update(server.environment)
        try:
            count, here, there = rounds.many(10_000), [], []
            for number in rounds.times(5):
                here.append(workload("reports", rounds.folder(), count, "group"))
                there.append(workload("reports_at", inside(server.uri, f"reports-{number}"), rounds.folder(), count, "group"))
            yield Figure("reports, on S3", "/s", there, "on a local disk", here, Target("ratio", 0.8, most=False))

            strict, bare = [], []
            for number in rounds.times(5):
                bare.append(_puts(inside(server.uri, f"bare-{number}"), rounds.many(500)))
                place = inside(server.uri, f"strict-{number}")
                strict.append(workload("reports_at", place, rounds.folder(), rounds.many(500), "strict"))
            name = 'reports, on S3, durability="strict"'
            yield Figure(name, "/s", strict, "bare conditional puts, one after another", bare, Target("ratio", 0.7, most=False))

            trials = rounds.many(10_000)
            times, limits = _restores(rounds, inside(server.uri, "many"), trials, cache)
            name = f"restore of {trials:,} finished trials from S3, empty cache, no snapshots"
            yield Figure(name, "s", times, "reading its journal", limits, Target("value", 4.0))
        finally:
            for variable in (*server.environment, "HOLDFAST_CACHE_DIR"):
                ENVIRONMENT.pop(variable, None)


def _puts(place: str, count: int) -> float:
    import time

    from holdfast.storage.opening import open_storage

    storage, began = open_storage(place), time.perf_counter()
    for number in range(count):
        storage.put_if_absent(f"{number}", b"x" * 256)
    return count / (time.perf_counter() - began)


def _restores(rounds: Rounds, place: str, trials: int, cache: Path) -> tuple[list[float], list[float]]:
    """From the call of `Tuner.restore` to the first line of user code in a trial."""
    import time

    from holdfast._journal import read
    from holdfast.storage.opening import inside, open_storage

    folder, storage = rounds.folder(), open_storage(inside(place, "bench"))
    notes = folder / "notes"

    def vouched_for() -> bool:
        return len(lines(notes)) >= 2 and storage.exists(".trial_files") and _position(storage.read(".trial_files")) > 5 * trials

    with running("to_be_killed_at", place, folder, trials) as driver:
        until(vouched_for, driver)
    times, limits = [], []
    for _ in rounds.times(5):
        storage.delete("journal/snapshots")
        shutil.rmtree(cache)
        began = time.perf_counter()
        for _record in read(storage):
            pass
        limits.append(time.perf_counter() - began)
        before = len(lines(notes))
        with running("to_be_killed_at", place, folder, trials) as driver:
            until(lambda before=before: len(lines(notes)) > before, driver)
        times.append(float(lines(notes)[before][0]) - float(lines(folder / "restores")[-1][0]))
    return times, limits


def _position(cursor: bytes) -> int:
    """Up to where the store's cursor vouches for the files of finished trials; five records make one of these trials."""
    return int(cursor.splitlines()[-1].split()[0])
