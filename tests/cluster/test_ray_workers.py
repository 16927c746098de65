"""How Ray's workers begin: forked, on each node, from a process that holds what they load."""

from __future__ import annotations

import colorsys
import os
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import holdfast as tune
from cluster.raylets import wait_until
from holdfast.engines.ray import RayEngine
from holdfast.engines.ray.abstract import reach
from holdfast.engines.ray.parent import called
from holdfast.engines.ray.wires import Wires
from integration.drivers import Start, Task, acknowledged_count


@pytest.fixture(autouse=True)
def cluster(one_node: str) -> Iterator[None]:
    """All tests here run on one node, and leave no fork server there."""
    yield
    wait_until(lambda: not named("holdfast-forks", "holdfast-parent"), within_s=30)  # one that nobody ends stays for 60


def named(*names: str) -> list[psutil.Process]:
    """The living processes of this machine that call themselves so."""
    return [it for it in psutil.process_iter(["status"]) if called(it.pid) in names and it.info["status"] != psutil.STATUS_ZOMBIE]


def forked() -> bool:
    """Whether this process was forked from a fork server: the parent between shows the server's command line."""
    return any("fork_server" in word for word in psutil.Process(os.getppid()).cmdline())


def fit(trainable: object, folder: Path, samples: int, **run: object) -> tune.ResultGrid:
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(num_samples=samples, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=str(folder), name="exp", verbose=0, **{"engine": "ray", **run}),
    )
    return tuner.fit()


def test_later_trials_find_the_modules_of_their_trainable_loaded(tmp_path: Path) -> None:
    def trial(config: dict[str, object]) -> None:
        tune.report({"loaded": "colorsys" in sys.modules, "server": psutil.Process().parent().ppid()})
        colorsys.rgb_to_hsv(0, 0, 0)

    rows = [result.metrics for result in fit(trial, tmp_path, 6)]

    assert rows[-1]["loaded"]
    assert rows[-1]["server"] == rows[-2]["server"]


def test_a_module_that_starts_threads_is_left_to_the_workers(tmp_path: Path) -> None:
    import polars

    def trial(config: dict[str, object]) -> None:
        tune.report({"forked": forked(), "loaded": "wave" in sys.modules, "sum": polars.Series([1, 2]).sum()})
        assert wave.__name__

    rows = [result.metrics for result in fit(trial, tmp_path, 8)]

    assert [(row["forked"], row["sum"]) for row in rows] == [(True, 3)] * 8
    assert rows[-1]["loaded"], "the others are held"


def test_the_main_thread_is_the_trials_and_the_process_ends_as_python_does(tmp_path: Path) -> None:
    def trial(config: dict[str, object]) -> None:
        import atexit
        import threading

        atexit.register(Path(tmp_path, f"ended-{os.getpid()}").touch)
        tune.report({"main": threading.current_thread() is threading.main_thread()})

    results = fit(trial, tmp_path / "results", 2)

    assert all(result.metrics["main"] for result in results)
    assert len(list(tmp_path.glob("ended-*"))) == 2


def test_workers_have_ids_and_chance_of_their_own(tmp_path: Path) -> None:
    def trial(config: dict[str, object]) -> None:
        import random
        import uuid

        import ray
        from ray.util.placement_group import placement_group, remove_placement_group

        group = placement_group([{"CPU": 0.01}])
        tune.report({"ids": [ray.put(0).hex(), group.id.hex(), uuid.uuid4().hex], "drawn": random.random()})
        remove_placement_group(group)

    results = fit(trial, tmp_path, 4)

    ids = [one for result in results for one in result.metrics["ids"]]
    assert len(set(ids)) == len(ids)
    assert len({result.metrics["drawn"] for result in results}) == 4


def test_a_fork_server_that_is_killed_costs_no_attempt(tmp_path: Path) -> None:
    side = tmp_path / "side"

    def trial(config: dict[str, object]) -> None:
        server = named("holdfast-forks")[0]
        with side.open("a") as file:
            file.write(f"{server.pid}\n")
        server.kill()
        time.sleep(0.2)
        tune.report({"x": 1})

    results = fit(trial, tmp_path / "results", 3)

    assert not results.errors
    assert len(set(side.read_text().split())) == 3


@pytest.mark.soak
def test_a_fork_server_that_hangs_is_ended_and_costs_no_attempt(tmp_path: Path) -> None:
    side = tmp_path / "side"

    def trial(config: dict[str, object]) -> None:
        if not side.exists():
            server = named("holdfast-forks")[0]
            server.suspend()
            side.write_text(str(server.pid))
        tune.report({"x": 1})

    assert not fit(trial, tmp_path / "results", 2).errors
    assert not psutil.pid_exists(int(side.read_text()))


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_fork_server_does_not_wait_for_a_driver_that_was_here_and_is_gone(place: str) -> None:
    """A worker that Ray was just starting when its driver died may start one."""
    driver = f"holdfast-nobody-{os.getpid()}@{reach() if place == 'here' else 'another machine'}"
    environment = {**os.environ, "HOLDFAST_RAY_DRIVER": driver, "HOLDFAST_RAY_LOADS": '{"modules": [], "threads": []}'}
    listens, tells = os.pipe()
    words = [f"holdfast-test-{os.getpid()}", str(tells), str(os.getpid())]
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast.engines.ray.fork_server", *words], env=environment, pass_fds=[tells]
    ) as server:
        os.close(tells)
        assert os.read(listens, 1) == b""
        os.close(listens)
        if place == "here":
            assert server.wait(20) == 0
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(2)
            server.kill()


def test_a_killed_driver_leaves_no_fork_server(start: Start, one_node: str, tmp_path: Path) -> None:
    task = Task(
        storage_path=str(tmp_path / "results"),
        side=str(tmp_path / "side"),
        rows=1000,
        samples=2,
        pace_s=0.05,
        environment={"RAY_ADDRESS": one_node, "RAY_AUTH_MODE": "disabled"},
    )
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) > 4)
    assert named("holdfast-forks")

    driver.kill()

    wait_until(lambda: not named("holdfast-forks", "holdfast-parent"), within_s=30)  # one that nobody ends stays for 60


def test_a_fresh_interpreter_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_START_METHOD", "spawn")

    def trial(config: dict[str, object]) -> None:
        token = os.environ["HOLDFAST_TOKEN"]
        servers = [it for it in named("holdfast-forks") if it.environ().get("HOLDFAST_TOKEN") == token]
        tune.report({"forked": forked(), "servers": len(servers)})

    rows = [result.metrics for result in fit(trial, tmp_path, 2)]

    assert [(row["forked"], row["servers"]) for row in rows] == [(False, 0)] * 2


def test_the_users_runtime_environment_reaches_forked_workers(tmp_path: Path) -> None:
    def trial(config: dict[str, object]) -> None:
        tune.report({"word": os.environ.get("WORD"), "forked": forked()})

    engine = RayEngine(runtime_env={"env_vars": {"WORD": "given"}})
    rows = [result.metrics for result in fit(trial, tmp_path, 4, engine=engine)]

    assert [row["word"] for row in rows] == ["given"] * 4
    assert rows[-1]["forked"], "on a busy machine the first may begin without the server"


@pytest.mark.parametrize("here", [True, False])
def test_attempts_on_the_drivers_node_are_answered_over_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    answered, answer = [], Wires.answer
    monkeypatch.setattr(Wires, "answer", lambda wires, one: (answered.append(one.number), answer(wires, one)))
    if not here:
        monkeypatch.setattr("holdfast.engines.ray.crew.own_node", lambda: "")

    def trial(config: dict[str, object]) -> None:
        for x in range(3):
            tune.report({"x": x})

    assert not fit(trial, tmp_path, 1).errors
    assert len(answered) == (3 if here else 0)
