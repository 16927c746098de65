"""Restores in fresh processes: another hash seed, scrambled generators, no globals of the run that crashed.

`serve` runs in an interpreter of its own, which imports everything once and then forks for each task that it reads: a child
has what a new interpreter has after its imports, and nothing else. `FreshProcesses` is the other end, in the test.
"""

from __future__ import annotations

import os
import pickle
import random
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from holdfast.storage.base import Storage
from simulation.pairs import PAIRS

TESTS = Path(__file__).parents[1]


class Task(NamedTuple):
    """A disk as found after a crash, and what to do with it.

    Attributes:
        job, workers: Of `JOBS`, `PAIRS`, `EXTENDED` or `AT_ONCE`.
        files: What stands on the disk.
        snapshots: "never", "each" or "random".
        seed: Of all chance in the task.
        crash: Crash the restored run too, at a random operation, and give back that disk instead of an end.
        store: Whether the experiment lives on an object store, which is on that disk beside the machine's own.
    """

    job: str
    workers: int
    files: dict[str, bytes]
    snapshots: str
    seed: int
    crash: bool = False
    store: bool = False


class Found(NamedTuple):
    """What a restored run ended as.

    Attributes:
        digest: See `holdfast.testing.simulation.digest`.
        unexplained: What does not follow from the journal.
        problems: What the history checker found.
        files: The disk after the second crash, where one was asked for.
    """

    digest: list[Any]
    unexplained: list[str]
    problems: list[str]
    files: dict[str, bytes]


class FreshProcesses:
    """Two interpreters with other hash seeds than this one's, each forking a child for every task.

    Tasks that need the plug-ins' libraries get two others, which have loaded them: that takes seconds, and a large process is
    slower to fork. Each is started when it is first needed.
    """

    def __init__(self) -> None:
        self._started: dict[bool, list[subprocess.Popen[bytes]]] = {}

    def run(self, tasks: list[Task]) -> list[Found]:
        """What each task found, in order.

        Raises:
            AssertionError: A child died or raised; carries its traceback and its task's seed.
        """
        servers = self._servers(libraries=any(task.job in PAIRS or "optuna" in task.job for task in tasks))
        shares = [range(n, len(tasks), len(servers)) for n in range(len(servers))]
        found: dict[int, Found] = {}

        def work(server: subprocess.Popen[bytes], share: range) -> None:
            for number in share:
                _send(server.stdin, tasks[number])
                found[number] = _receive(server.stdout)

        with ThreadPoolExecutor(len(servers)) as pool:
            for done in [pool.submit(work, *pair) for pair in zip(servers, shares, strict=True)]:
                done.result()
        for number, task in enumerate(tasks):
            assert isinstance(found[number], Found), f"{task.job}, {task.workers} workers, seed {task.seed}: {found[number]}"
        return [found[number] for number in range(len(tasks))]

    def close(self) -> None:
        for server in [server for servers in self._started.values() for server in servers]:
            server.stdin.close()
            server.wait(10)
            server.stdout.close()

    def _servers(self, *, libraries: bool) -> list[subprocess.Popen[bytes]]:
        if libraries not in self._started:
            self._started[libraries] = [_server(seed, libraries=libraries) for seed in (1, 2)]
        return self._started[libraries]


def _server(hash_seed: int, *, libraries: bool) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(
        [sys.executable, "-c", f"from simulation.fresh import serve; serve({libraries})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=TESTS,
    )


def _send(stream: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO) -> Any:
    head = stream.read(8)
    return pickle.loads(stream.read(struct.unpack("<Q", head)[0])) if len(head) == 8 else None


def carry_out(task: Task) -> Found:
    """Restores and runs to the end, in this process."""
    from holdfast._assembly.explaining import explain
    from holdfast._journal import read
    from holdfast.testing.disk import SimulatedStorage, crash
    from holdfast.testing.simulation import digest
    from holdfast.testing.store import SimulatedStore
    from simulation.checking import problems_of
    from simulation.extensions import AT_ONCE, EXTENDED
    from simulation.jobs import JOBS

    chance = random.Random(task.seed)
    due = {"never": lambda *_: False, "each": lambda *_: True, "random": lambda *_: chance.random() < 0.3}[task.snapshots]
    found = SimulatedStorage()
    found.begin_with(task.files)
    disk: Storage = SimulatedStore(found) if task.store else found
    before = list(read(disk))
    simulation = {**JOBS, **PAIRS, **EXTENDED, **AT_ONCE}[task.job](task.workers)
    simulation.run(disk, snapshot_due=due)
    if task.crash:
        again = crash(found, chance.randrange(len(found.log) + 1), chance, chance.choice(["kill", "power"]))
        return Found([], [], [], again.files())
    after = list(read(disk))
    problems = problems_of(disk)
    if after[: len(before)] != before:
        problems.append("what was on record before the restore has changed")
    return Found(digest(disk), explain(disk), problems, {})


def serve(libraries: bool) -> None:
    import numpy as np

    import simulation.checking
    import simulation.extensions
    import simulation.jobs  # noqa: F401 - imported once, for all children
    from simulation.pairs import warm_up

    if libraries:
        warm_up()  # here, once, and not in each child
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while (task := _receive(stdin)) is not None:
        stdout.flush()
        pid = os.fork()
        if pid == 0:
            random.seed(os.urandom(8))
            np.random.seed(int.from_bytes(os.urandom(4), "big"))
            try:
                found: Any = carry_out(task)
            except BaseException:  # noqa: BLE001 - the test shows whatever it was
                import traceback

                found = traceback.format_exc()
            _send(stdout, found)
            os._exit(0)
        os.waitpid(pid, 0)
