"""Experiments on a Ray cluster of several real raylets: nodes are lost, added and taken away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import holdfast as tune
from cluster.raylets import Raylets, wait_until
from holdfast._core.events import AttemptEnded, AttemptStarted
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.errors import ConfigError
from holdfast.storage.local import LocalStorage
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, needlessly_redone, side_log, wait_until_all_gone

pytestmark = pytest.mark.soak  # three raylets, and machines that answer late are what they are about


@pytest.fixture(scope="module")
def raylets() -> Iterator[Raylets]:
    raylets = Raylets(nodes=3)
    yield raylets
    raylets.close()


def task_on(raylets: Raylets, tmp_path: Path, **changes: object) -> Task:
    """An experiment that saves every second row, on the cluster."""
    fields = {"rows": 25, "samples": 3, "workers": 3, "every": 2, "pace_s": 0.2, "max_failures": 1, **changes}
    environment = {"RAY_ADDRESS": raylets.address, "RAY_AUTH_MODE": "disabled"}
    return Task(storage_path=str(tmp_path / "r"), side=str(tmp_path / "side"), environment=environment, **fields)


def began(task: Task) -> dict[str, list[int]]:
    """By trial, the pids of its attempts, in order."""
    found: dict[str, list[int]] = {}
    for line in side_log(task.side):
        if line["what"] == "begin":
            found.setdefault(line["trial"], []).append(line["pid"])
    return found


def saved(task: Task) -> set[str]:
    """The trials of which a checkpoint was acknowledged."""
    return {line["trial"] for line in side_log(task.side) if line["what"] == "row" and line["saves"]}


def failures(task: Task) -> list[str]:
    ends = [record.event for record in read(task.storage) if isinstance(record.event, AttemptEnded)]
    return [end.failure.kind for end in ends if end.failure is not None]


def test_trials_of_two_lost_nodes_go_on_and_a_node_that_is_added_is_used(raylets: Raylets, start: Start, tmp_path: Path) -> None:
    task = task_on(raylets, tmp_path)
    driver = start(task)
    wait_until(lambda: len(saved(task)) == 3, doing=driver)
    lost = [raylets.node_of(pid) for (pid,) in list(began(task).values())[:2]]
    raylets.kill(*lost)
    added = raylets.add()
    raylets.nodes = [node for node in raylets.nodes if node not in lost] + [added]

    def on_the_new_node() -> bool:
        again = [pids[1] for pids in began(task).values() if len(pids) == 2]
        return any(raylets.node_of(pid) is added for pid in again)

    wait_until(on_the_new_node, doing=driver)
    assert driver.finish() == {"trials": 3, "errors": []}
    assert failures(task) == ["node", "node"]
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    wait_until_all_gone(task, within_s=20)


def test_a_mailbox_that_is_killed_costs_attempts_and_no_experiment(raylets: Raylets, start: Start, tmp_path: Path) -> None:
    task = task_on(raylets, tmp_path, max_failures=10)
    driver = start(task)
    wait_until(lambda: len(saved(task)) == 3, doing=driver)
    (mailbox,) = [
        process for process in psutil.process_iter(["cmdline"]) if "ray::Mailbox" in " ".join(process.info["cmdline"] or [])
    ]
    mailbox.kill()
    assert driver.finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    assert max(map(len, began(task).values())) > 1


def test_a_node_that_is_taken_away_with_notice_counts_as_preempted(raylets: Raylets, start: Start, tmp_path: Path) -> None:
    task = task_on(raylets, tmp_path, samples=1, max_failures=0, max_preemptions=1)
    driver = start(task)
    wait_until(lambda: saved(task), doing=driver)
    ((pid,),) = began(task).values()
    node = raylets.node_of(pid)
    raylets.take_away(node)
    raylets.nodes = [raylets.add(), raylets.add(resources={"tape": 1})]
    assert driver.finish() == {"trials": 1, "errors": []}
    assert failures(task) == ["preempted"]
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []


class TestInThisProcess:
    def test_storage_that_nodes_do_not_share_is_refused(
        self, raylets: Raylets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)  # the raylets' own directory is another: the path below leads elsewhere there
        job = tune.Tuner(lambda config: {"a": 1}, run_config=tune.RunConfig(name="exp", storage_path="/proc/self/cwd/results"))
        with pytest.raises(ConfigError, match=r"not seen by every node.*all nodes share"):
            job.fit()

    @pytest.mark.parametrize(
        ("asked", "why"),
        [
            ({"cpu": 2}, "no node has"),
            (tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_PACK"), "together"),
            (tune.PlacementGroupFactory([{"CPU": 0.1}] * 9, strategy="STRICT_SPREAD"), "need 9 nodes"),
            ({"tape": 2}, r"no node has .*tape.*grows_to"),
        ],
    )
    def test_what_can_never_be_placed_is_refused(self, raylets: Raylets, tmp_path: Path, asked: object, why: str) -> None:
        trainable = tune.with_resources(lambda config: {"a": 1}, asked)
        with pytest.raises(ConfigError, match=why):
            tune.Tuner(trainable, run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path))).fit()

    def test_tasks_of_a_trial_run_in_its_bundles_on_nodes_of_their_own(self, raylets: Raylets, tmp_path: Path) -> None:
        def trainable(config: dict[str, object]) -> dict[str, object]:
            import ray

            @ray.remote(num_cpus=0.5)
            def where() -> str:
                return str(ray.get_runtime_context().get_node_id())

            return {"own": ray.get_runtime_context().get_node_id(), "tasks": ray.get([where.remote(), where.remote()])}

        spread = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
        results = tune.Tuner(
            tune.with_resources(trainable, spread), run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0)
        ).fit()
        assert results.errors == []
        row = results[0].metrics
        assert set(row["tasks"]).isdisjoint({row["own"]})
        assert len(set(row["tasks"])) == 1
        storage = LocalStorage(str(tmp_path / "exp"))
        assert load_state(storage).epoch.engine == "ray"
        assert [record.event.number for record in read(storage) if isinstance(record.event, AttemptStarted)] == [0]

    def test_a_task_that_fits_no_bundle_is_an_error_that_names_them(self, raylets: Raylets, tmp_path: Path) -> None:
        def trainable(config: dict[str, object]) -> None:
            import ray

            ray.get(ray.remote(num_cpus=7)(lambda: 1).remote())

        wanted = tune.with_resources(trainable, tune.PlacementGroupFactory([{}, {"CPU": 1}, {"CPU": 1}]))
        config = tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0)
        (error,) = tune.Tuner(wanted, run_config=config).fit().errors
        assert "cannot fit into any bundles" in str(error)
        assert "PlacementGroupFactory" in str(error)

    def test_a_part_of_a_gpu_and_the_users_runtime_environment_reach_the_trial(self, raylets: Raylets, tmp_path: Path) -> None:
        from holdfast.engines.ray import RayEngine

        raylets.nodes.append(raylets.add(num_gpus=1))

        def trainable(config: dict[str, object]) -> dict[str, object]:
            return {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "COLOUR")}

        results = tune.Tuner(
            tune.with_resources(trainable, {"gpu": 0.5}),
            tune_config=tune.TuneConfig(num_samples=2),
            run_config=tune.RunConfig(
                name="exp",
                storage_path=str(tmp_path),
                verbose=0,
                engine=RayEngine(runtime_env={"env_vars": {"COLOUR": "blue"}}),
            ),
        ).fit()
        assert results.errors == []
        assert [(it.metrics["CUDA_VISIBLE_DEVICES"], it.metrics["COLOUR"]) for it in results] == [("0", "blue")] * 2

    def test_a_cluster_that_grows_is_waited_for_with_a_warning_that_says_what_for(
        self, raylets: Raylets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from holdfast.engines.ray import RayEngine

        monkeypatch.setenv("TUNE_WARN_INSUFFICIENT_RESOURCE_THRESHOLD_S", "1")

        class Watched(RayEngine):
            """Adds a node when it is asked why nothing starts."""

            def why_waiting(self) -> str:
                text = super().why_waiting()
                raylets.nodes.append(raylets.add(resources={"lamp": 1}))
                return text

        job = tune.Tuner(
            tune.with_resources(lambda config: {"a": 1}, {"lamp": 1}),
            run_config=tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=1, engine=Watched(grows_to={"lamp": 1})),
        )
        assert job.fit().errors == []
        assert "Ray has not placed it yet. The nodes have [" in (said := capfd.readouterr().err)
        assert "grow to {'lamp': 1}" in said
