"""The network between a driver and a node of its cluster is cut for a while; the node has a network namespace of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.raylets import Raylets, wait_until
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, acknowledged_count, needlessly_redone, side_log

pytestmark = pytest.mark.soak

CUT_S = 30.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cable:
    """A network namespace with one link to this machine's."""

    def __init__(self) -> None:
        self.name = f"hf{os.getpid()}"
        self.near, far = f"{self.name}a", f"{self.name}b"
        ip("netns", "add", self.name)
        ip("link", "add", self.near, "type", "veth", "peer", "name", far, "netns", self.name)
        ip("addr", "add", "10.231.7.1/30", "dev", self.near)
        ip("-n", self.name, "addr", "add", "10.231.7.2/30", "dev", far)
        ip("-n", self.name, "link", "set", far, "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        self.plug()
        ip("-n", self.name, "route", "add", "default", "via", "10.231.7.1")

    def plug(self) -> None:
        ip("link", "set", self.near, "up")

    def pull(self) -> None:
        ip("link", "set", self.near, "down")

    def remove(self) -> None:
        for words in (("link", "del", self.near), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):  # what a test that failed early has not made
                ip(*words)


@pytest.fixture
def cable() -> Iterator[Cable]:
    try:
        ip("netns", "add", "hf-try")
        ip("netns", "del", "hf-try")
    except (OSError, subprocess.CalledProcessError):
        if "CI" in os.environ:
            raise
        pytest.skip("this user may not make network namespaces")
    cable = Cable()
    yield cable
    cable.remove()


@pytest.fixture
def far(cable: Cable, tmp_path: Path) -> Iterator[Raylets]:
    """A cluster whose one node for trials is at the cable's other end."""
    import ray

    raylets = Raylets(nodes=0)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", raylets.address, "--block"]
    command += ["--node-ip-address", "10.231.7.2", "--num-cpus", "1", "--object-store-memory", str(80 * 2**20)]
    with (tmp_path / "node.log").open("w") as log:
        node = subprocess.Popen(["ip", "netns", "exec", cable.name, *command], stdout=log, stderr=log)
    try:
        wait_until(lambda: sum(it["Alive"] for it in ray.nodes()) == 2)
        yield raylets
    finally:
        below = psutil.Process(node.pid).children(recursive=True)
        node.terminate()
        node.wait(60)
        for process in psutil.wait_procs(below, 20)[1]:
            process.kill()
        raylets.close()


def test_a_node_that_cannot_be_reached_for_a_while_costs_its_trial_an_attempt_at_most(
    cable: Cable, far: Raylets, start: Start, tmp_path: Path
) -> None:
    environment = {"RAY_ADDRESS": far.address, "RAY_AUTH_MODE": "disabled"}
    fields = {"rows": 40, "samples": 2, "workers": 1, "every": 2, "pace_s": 0.2, "max_failures": 1}
    task = Task(storage_path=str(tmp_path / "r"), side=str(tmp_path / "side"), environment=environment, **fields)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 4, doing=driver)
    cable.pull()
    time.sleep(1)
    before = acknowledged_count(task.side)
    time.sleep(CUT_S - 1)
    assert acknowledged_count(task.side) == before
    cable.plug()
    assert driver.result(within_s=180) == {"trials": 2, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    assert len([line for line in side_log(task.side) if line["what"] == "begin"]) <= 3
