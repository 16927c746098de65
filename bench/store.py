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
            for number in rounds.times(7):
                here.append(workload("reports", rounds.folder(), count, "group"))
                there.append(workload("reports_at", inside(server.uri, f"reports-{number}"), rounds.folder(), count, "group"))
            yield Figure("reports, on S3", "/s", there, "on a local disk", here, Target("ratio", 0.8, most=False), paired=True)

            strict, bare = [], []
            for number in rounds.times(7):
                bare.append(_puts(inside(server.uri, f"bare-{number}"), rounds.many(500)))
                place = inside(server.uri, f"strict-{number}")
                strict.append(workload("reports_at", place, rounds.folder(), rounds.many(500), "strict"))
            name = 'reports, on S3, durability="strict"'
            beside = "bare conditional puts, one after another"
            yield Figure(name, "/s", strict, beside, bare, Target("ratio", 0.7, most=False), paired=True)

            trials = rounds.many(10_000)
            times, limits, counts = _restores(rounds, inside(server.uri, "many"), trials, cache, server.port)
            name = f"restore of {trials:,} finished trials from S3, empty cache, no snapshots"
            yield Figure(name, "s", times, "reading its journal", limits, Target("value", 4.0))
            yield Figure("its requests until then", "", counts, "asked: fewer than", [60.0] * len(counts), Target("value", 59))
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


def _restores(rounds: Rounds, place: str, trials: int, cache: Path, port: int) -> tuple[list[float], list[float], list[float]]:
    """From the call of `Tuner.restore` to the first line of user code in a trial: seconds, those that reading takes, requests.

    Requests are counted by a proxy in rounds of their own, because it takes its time.
    """
    import time

    from fault_proxy import FaultProxy
    from holdfast._journal import read
    from holdfast.storage.opening import inside, open_storage

    folder, storage = rounds.folder(), open_storage(inside(place, "bench"))
    notes = folder / "notes"

    def vouched_for() -> bool:
        return len(lines(notes)) >= 2 and storage.exists(".trial_files") and _position(storage.read(".trial_files")) > 5 * trials

    with running("to_be_killed_at", place, folder, trials) as driver:
        until(vouched_for, driver)
    times, limits, counts = [], [], []
    for _ in rounds.times(5):
        storage.delete("journal/snapshots")
        shutil.rmtree(cache)
        began = time.perf_counter()
        for _record in read(storage):
            pass
        limits.append(time.perf_counter() - began)
        before = len(lines(notes))
        with running("to_be_killed_at", place, folder, trials) as driver:
            until(lambda before=before: len(lines(notes)) >= before + 2, driver)
        times.append(float(lines(notes)[before][0]) - float(lines(folder / "restores")[-1][0]))
    for _ in rounds.times(3):
        storage.delete("journal/snapshots")
        shutil.rmtree(cache)
        before, came = len(lines(notes)), list[float]()
        with FaultProxy(port, lambda _number, _request, came=came: came.append(time.monotonic()) or "") as proxy:
            through = place.replace(f"%3A{port}", f"%3A{proxy.port}")
            with running("to_be_killed_at", through, folder, trials) as driver:
                until(lambda before=before: len(lines(notes)) >= before + 2, driver)
        first = float(lines(notes)[before][0])
        counts.append(float(sum(at <= first for at in came)))
    return times, limits, counts


def _position(cursor: bytes) -> int:
    """Up to where the store's cursor vouches for the files of finished trials; five records make one of these trials."""
    return int(cursor.splitlines()[-1].split()[0])
