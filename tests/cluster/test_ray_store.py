"""Experiments on an object store, on a Ray cluster whose nodes share no disk: each raylet has a cache directory of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import object_servers
from cluster.raylets import Raylets, wait_until
from fault_proxy import FaultProxy
from holdfast._core.events import AttemptEnded, CheckpointLost
from holdfast._journal import read
from holdfast.storage.opening import inside
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, acknowledged_count, needlessly_redone, side_log, wait_until_all_gone

pytestmark = pytest.mark.soak  # three raylets and an object store


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[object_servers.Server]:
    with object_servers.serving(getattr(request, "param", "ministack")) as server:
        yield server


class Apart(Raylets):
    """Raylets that take each other for other machines, as far as disks go."""

    def __init__(self, nodes: int, home: Path, **options: Any) -> None:
        self.home = home
        self._count = 0
        super().__init__(nodes, **options)

    def add(self, env_vars: dict[str, str] | None = None, **options: Any) -> Any:
        self._count += 1
        own = {"HOLDFAST_CACHE_DIR": str(self.home / f"disk-{self._count}"), **(env_vars or {})}
        return super().add(env_vars=own, **options)

    def disks(self) -> list[Path]:
        return [path for path in sorted(self.home.glob("disk-*")) if path.is_dir()]


@pytest.fixture(scope="module")
def raylets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    raylets = Apart(2, tmp_path_factory.mktemp("machines"))
    yield raylets
    raylets.close()


@pytest.fixture
def task(raylets: Apart, server: object_servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """See `task_on`; only the driver has the keys."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return task_on(raylets, server, tmp_path)


def task_on(raylets: Apart, server: object_servers.Server, tmp_path: Path) -> Task:
    """An experiment of two trials that save every second row and write into their directories."""
    environment = {"RAY_ADDRESS": raylets.address, "RAY_AUTH_MODE": "disabled", "HOLDFAST_CACHE_DIR": str(tmp_path / "driver")}
    place = inside(server.uri, tmp_path.name)
    size: dict[str, Any] = {"rows": 25, "samples": 2, "workers": 2, "every": 2, "pace_s": 0.2, "max_failures": 1}
    return Task(storage_path=place, side=str(tmp_path / "side"), artifacts=True, environment=environment, **size)


def begins(task: Task) -> list[dict[str, Any]]:
    return [line for line in side_log(task.side) if line["what"] == "begin"]


def saved(task: Task) -> set[str]:
    return {line["trial"] for line in side_log(task.side) if line["what"] == "row" and line["saves"]}


def ends(task: Task) -> list[AttemptEnded]:
    return [record.event for record in read(task.storage) if isinstance(record.event, AttemptEnded)]


def files_left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_whole(task: Task, missing: frozenset[int] = frozenset()) -> None:
    """The history holds, nothing was redone in vain, and the store has the artifacts of each attempt but those of some pids."""
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    names = set().union(*(task.storage.sizes_below(name) for name in trial_dirs(task)))
    for line in begins(task):
        assert line["pid"] in missing or f"artifact-{line['trial']}-{line['pid']}" in names


def trial_dirs(task: Task) -> list[str]:
    return [name for name in task.storage.names("") if name.startswith("train_")]


@pytest.mark.parametrize("server", ["ministack", "fake_gcs", "azurite"], indirect=True)
def test_trials_work_on_their_own_nodes_disks_and_a_lost_node_costs_no_more_than_a_checkpoint(
    raylets: Apart, start: Start, task: Task
) -> None:
    driver = start(task)
    wait_until(lambda: len(saved(task)) == 2, doing=driver)
    pids = [line["pid"] for line in begins(task)]
    works = [Path(psutil.Process(pid).cwd()) for pid in pids]
    assert all(any(path.is_relative_to(disk) for disk in raylets.disks()) for path in works)
    assert len({path.relative_to(raylets.home).parts[0] for path in works}) == 2
    lost = raylets.node_of(pids[0])
    raylets.kill(lost)
    added = raylets.add()
    raylets.nodes = [node for node in raylets.nodes if node is not lost] + [added]
    assert driver.result(150) == {"trials": 2, "errors": []}
    assert [end.failure.kind for end in ends(task) if end.failure is not None] == ["node"]
    assert_whole(task, frozenset(pids[:1]))
    assert files_left(Path(task.environment["HOLDFAST_CACHE_DIR"])) == []
    own = works[0].relative_to(raylets.home).parts[2]  # as the experiment's directory is called on each disk
    left = [path for path in files_left(raylets.home) if own in path.parts]
    assert [path for path in left if not path.is_relative_to(works[0].parent.parent)] == []
    wait_until_all_gone(task, within_s=20)


def test_a_lost_node_is_known_before_ray_gives_it_up(
    start: Start, server: object_servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    raylets = Apart(3, tmp_path / "machines", settings={"RAY_health_check_failure_threshold": "1000"})
    try:
        task = task_on(raylets, server, tmp_path)
        driver = start(task)
        wait_until(lambda: len(saved(task)) == 2, doing=driver)
        lost = raylets.node_of(begins(task)[0]["pid"])
        raylets.kill(lost)
        assert driver.result(150) == {"trials": 2, "errors": []}
        assert [end.failure.kind for end in ends(task) if end.failure is not None] == ["node"]
        assert lost.node_id in raylets.alive(), "Ray has not given it up"
    finally:
        raylets.close()


def test_a_node_that_cannot_open_the_store_is_named_before_any_trial_starts(
    raylets: Apart, start: Start, task: Task, tmp_path: Path
) -> None:
    (tmp_path / "poor" / "obstore").mkdir(parents=True)
    (tmp_path / "poor" / "obstore" / "__init__.py").write_text("raise ImportError('not installed')")
    poor = raylets.add(env_vars={"PYTHONPATH": str(tmp_path / "poor")})
    try:
        said = start(task).result(60)
    finally:
        raylets.kill(poor)
    assert said["error"] == "ConfigError"
    assert said["text"].startswith(f"Node {poor.node_ip_address} of the cluster cannot open the store:")
    assert "holdfast[cloud]" in said["text"]
    assert begins(task) == []
    assert start(task).result(150) == {"trials": 2, "errors": []}
    assert_whole(task)
    wait_until_all_gone(task, within_s=20)


def test_a_killed_driver_goes_on_and_what_its_attempts_left_on_nodes_is_put(raylets: Apart, start: Start, task: Task) -> None:
    driver = start(task)
    wait_until(lambda: len(saved(task)) == 2, doing=driver)
    driver.kill()
    wrote = {f"artifact-{line['trial']}-{line['pid']}" for line in begins(task)}
    assert {path.name for path in files_left(raylets.home)} >= wrote
    assert start(task).result(150) == {"trials": 2, "errors": []}
    assert len(begins(task)) == 4
    assert_whole(task)
    assert [path for path in files_left(raylets.home) if path.name in wrote] == []


def test_logs_of_attempts_reach_the_store_also_of_one_that_was_killed(raylets: Apart, start: Start, task: Task) -> None:
    driver = start(replace(task, artifacts=False, upload="async"))
    wait_until(lambda: len(saved(task)) == 2, doing=driver)
    pid = begins(task)[0]["pid"]
    with open(f"/proc/{pid}/fd/1", "a", encoding="utf-8") as log:  # what the attempt prints goes there
        log.write("told before the end\n")
    os.kill(pid, signal.SIGKILL)
    counted = acknowledged_count(task.side)
    assert driver.result(150) == {"trials": 2, "errors": []}
    assert acknowledged_count(task.side) > counted
    (failure,) = [end.failure for end in ends(task) if end.failure is not None]
    assert failure.kind == "worker"
    trial = begins(task)[0]["trial"]
    assert b"told before the end\n" in task.storage.read(f"logs/{trial}-1.log")
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_checkpoint_that_was_pending_on_a_lost_node_is_lost_by_name(
    raylets: Apart, server: object_servers.Server, start: Start, task: Task
) -> None:
    holding = ["checkpoint_000002/"]

    def fate(number: int, request: str) -> str:
        return "503" if request.startswith("PUT") and any(name in request for name in holding) else ""

    with FaultProxy(server.port, fate) as proxy:
        place = inside(object_servers.s3_uri(proxy.port), Path(task.side).parent.name)
        task = replace(task, storage_path=place, upload="async", samples=1, workers=1)
        driver = start(task)
        wait_until(lambda: any(row["i"] == 5 for _, row in acknowledged(task.side)), doing=driver)  # the one that saves it
        wait_until(lambda: any(done == "503" for _, done in list(proxy.log)), doing=driver)
        (line,) = begins(task)
        lost = raylets.node_of(line["pid"])
        raylets.kill(lost)
        holding.clear()
        raylets.nodes = [node for node in raylets.nodes if node is not lost] + [raylets.add()]
        assert driver.result(150) == {"trials": 1, "errors": []}
        assert [end.failure.kind for end in ends(task) if end.failure is not None] == ["node"]
        gone = [record.event for record in read(task.storage) if isinstance(record.event, CheckpointLost)]
        assert gone[0].index == 2
        assert "gone from this machine" in gone[0].problem
        assert [line["start"] for line in begins(task)] == [0, 4]  # where the checkpoint before it goes on
        assert check_history(task.storage, acknowledged(task.side)) == []


def porters() -> list[psutil.Process]:
    running = psutil.process_iter(["cmdline"])
    return [process for process in running if " ".join(process.info["cmdline"] or []).startswith("ray::Porter")]


def tell(pid: int, text: str) -> None:
    """Prints something in the name of an attempt: its standard output is its log."""
    with open(f"/proc/{pid}/fd/1", "a", encoding="utf-8") as log:
        log.write(f"{text}\n")


def test_porters_that_are_killed_are_followed_by_others(raylets: Apart, start: Start, task: Task) -> None:
    driver = start(task)
    wait_until(lambda: len(saved(task)) == 2 and len(porters()) >= 2, doing=driver)
    killed = porters()
    for porter in killed:
        porter.kill()
    for line in begins(task):
        tell(line["pid"], "told to nobody")
    assert driver.result(150) == {"trials": 2, "errors": []}
    assert len(begins(task)) == 2
    for line in begins(task):
        assert b"told to nobody\n" in task.storage.read(f"logs/{line['trial']}-1.log")
    assert_whole(task)


def test_a_node_that_is_lost_just_before_the_end_costs_no_other_trial_its_end(raylets: Apart, start: Start, task: Task) -> None:
    idle = raylets.add(num_cpus=0)
    driver = start(replace(task, rows=12))
    wait_until(lambda: acknowledged_count(task.side) >= 20, doing=driver)
    raylets.kill(idle)
    assert driver.result(150) == {"trials": 2, "errors": []}
    assert_whole(task)


def test_a_store_that_refuses_for_a_while_gets_logs_and_artifacts_after_it(
    raylets: Apart, server: object_servers.Server, start: Start, task: Task
) -> None:
    refused: list[str] = []
    until = [float("inf")]

    def fate(number: int, request: str) -> str:
        if request.startswith("PUT") and ("/logs/" in request or "/artifact-" in request) and time.monotonic() < until[0]:
            refused.append(request)
            return "503"
        return ""

    with FaultProxy(server.port, fate) as proxy:
        task = replace(task, storage_path=inside(object_servers.s3_uri(proxy.port), Path(task.side).parent.name))
        driver = start(task)
        wait_until(lambda: len(saved(task)) == 2, doing=driver)
        for line in begins(task):
            tell(line["pid"], "told meanwhile")
        wait_until(lambda: acknowledged_count(task.side) == 50, doing=driver)
        until[0] = time.monotonic() + 35  # longer than a porter goes on without a word of its driver
        assert driver.result(150) == {"trials": 2, "errors": []}
        assert any("/artifact-" in request for request in refused)
        for line in begins(task):
            assert b"told meanwhile\n" in task.storage.read(f"logs/{line['trial']}-1.log")
        assert_whole(task)
