"""The local engine's processes: whatever is killed, nothing is left behind and nothing else is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted
from holdfast._worker.processes import parents
from holdfast.engines.local import LocalEngine, end_leftovers
from holdfast.errors import ConfigError, WorkerLost
from holdfast.session import report
from holdfast.testing.engine_suite import Stage, alive, make_job, make_order

Opener = Callable[..., Stage]


@pytest.fixture
def open_stage(tmp_path: Path) -> Iterator[Opener]:
    stages: list[Stage] = []

    def opened(trainable: Callable[..., Any], **changes: Any) -> Stage:
        stages.append(Stage(LocalEngine(cpus=2), make_job(tmp_path, trainable, **changes)))
        return stages[-1]

    yield opened
    for stage in stages:
        stage.engine.close()


def wait_until(condition: Callable[[], object], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.005)


def with_token(token: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOLDFAST_TOKEN", "").startswith(token):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def family() -> Callable[[dict[str, Any]], None]:
    """A trial, pickled by value, whose grandchild is an orphan in a session of its own that ignores what can be ignored."""

    def busy_with_family(config: dict[str, Any]) -> None:
        Path("grandchild").unlink(missing_ok=True)  # an earlier attempt's
        child = os.fork()
        if child == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            grandchild = os.fork()
            if grandchild:
                os._exit(0)  # the grandchild is an orphan now
            Path("grandchild").write_text(str(os.getpid()))
            time.sleep(600)
        os.waitpid(child, 0)
        while not Path("grandchild").exists() or not Path("grandchild").read_text():
            time.sleep(0.001)
        report({"grandchild": int(Path("grandchild").read_text())})
        time.sleep(600)

    return busy_with_family


DRIVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_engine_processes import family
from holdfast.engines.local import LocalEngine
from holdfast.testing.engine_suite import Stage, make_job, make_order
stage = Stage(LocalEngine(), make_job(Path({root!r}), family(), token={token!r}))
orders = [make_order(0), make_order(1)]
for order in orders:
    stage.engine.start(order)
stage.until(lambda: all(stage.rows_of(order) for order in orders))
print("ready", flush=True)
stage.until(lambda: False, within_s=600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_driver_is_killed(tmp_path: Path, number: int) -> None:
    token = f"killed-driver-{os.getpid()}-{number}.1"
    code = DRIVER.format(tests=os.path.dirname(__file__), root=str(tmp_path), token=token)
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"ready\n"
    running = with_token(token)
    assert len(running) == 6  # guardian, server, two workers, two grandchildren
    driver.send_signal(number)
    driver.wait()
    wait_until(lambda: not with_token(token) and not any(alive(pid) for pid in running), within_s=2.0)
    driver.stdout.close()


def test_a_stopped_driver_keeps_its_workers_and_end_leftovers_ends_them(tmp_path: Path) -> None:
    token = f"leftover-{os.getpid()}.1"
    code = DRIVER.format(tests=os.path.dirname(__file__), root=str(tmp_path), token=token)
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"ready\n"
    running = with_token(token)
    # Guardian and driver die in the same moment: what is left has only its token.
    guardian = next(pid for pid in running if parents().get(pid) == driver.pid)
    os.kill(driver.pid, signal.SIGSTOP)
    os.kill(guardian, signal.SIGKILL)
    os.kill(driver.pid, signal.SIGKILL)
    ended = end_leftovers(f"leftover-{os.getpid()}.", 2)
    assert set(ended) <= set(running)
    assert with_token(token) == []
    driver.wait()
    driver.stdout.close()


def test_end_leftovers_spares_epochs_that_are_not_over() -> None:
    tokens = f"epochs-{os.getpid()}."
    sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
    processes = {
        epoch: subprocess.Popen(sleeps, env={**os.environ, "HOLDFAST_TOKEN": tokens + epoch}) for epoch in ("2", "9", "10", "x")
    }
    try:
        assert set(end_leftovers(tokens, 9)) == {processes["2"].pid}
        assert [epoch for epoch, process in processes.items() if process.poll() is None] == ["9", "10", "x"]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_end_leftovers_refuses_to_end_everybody() -> None:
    with pytest.raises(ConfigError):
        end_leftovers("", 2)


def _server_of(stage: Stage, order: StartAttempt) -> int:
    return parents()[stage.pid_of(order)]


@pytest.mark.parametrize("whom", ["server", "guardian"])
def test_the_engine_outlives_its_server_and_its_guardian(open_stage: Opener, whom: str) -> None:
    stage = open_stage(family())
    orders = [make_order(0), make_order(1)]
    for order in orders:
        stage.engine.start(order)
    stage.until(lambda: all(stage.rows_of(order) for order in orders))
    orphans = [stage.metrics_of(order)[0]["grandchild"] for order in orders]
    server = _server_of(stage, orders[0])
    os.kill(server if whom == "server" else parents()[server], signal.SIGKILL)
    stage.until(lambda: all(stage.end_of(order) for order in orders))
    for order in orders:
        end = stage.end_of(order)
        assert end is not None
        assert end.failure is not None
        assert (end.outcome, end.failure.kind) == ("failed", "worker")
    assert not any(alive(pid) for pid in [server, *orphans, *(stage.pid_of(order) for order in orders)])
    again = make_order(0, attempt=2)
    stage.engine.start(again)
    stage.until(lambda: stage.rows_of(again))
    assert _server_of(stage, again) != server


def test_an_order_that_waits_while_the_server_dies_is_carried_out_by_the_next(open_stage: Opener) -> None:
    stage = open_stage(lambda config: 1)
    stage.run(make_order(0))
    server = next(pid for pid, parent in parents().items() if parents().get(parent) == os.getpid())
    os.kill(server, signal.SIGSTOP)
    waiting = make_order(1)
    stage.engine.start(waiting)
    os.kill(server, signal.SIGKILL)
    stage.until(lambda: stage.end_of(waiting))
    end = stage.end_of(waiting)
    assert end is not None
    assert end.outcome == "completed"


def test_more_orders_than_the_server_has_room_for_wait_their_turn(open_stage: Opener) -> None:
    stage = open_stage(lambda config: 1)
    stage.run(make_order(0))
    server = next(pid for pid, parent in parents().items() if parents().get(parent) == os.getpid())
    os.kill(server, signal.SIGSTOP)
    orders = [make_order(index) for index in range(1, 41)]
    for order in orders:
        stage.engine.start(order)
        for _ in range(20):
            stage.engine.kill(order.trial_id, 2)  # nobody's
            stage.engine.kill(order.trial_id, 1)
    os.kill(server, signal.SIGCONT)
    stage.until(lambda: all(stage.end_of(order) for order in orders))


def poll_often(engine: LocalEngine) -> None:
    for _ in range(100):
        engine.poll(1.0)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("raise ImportError('no msgspec on this machine')", "no msgspec on this machine"),
        ("import os; os.kill(os.getpid(), 9)", "They ended without a word"),
    ],
)
def test_a_server_that_cannot_start_is_an_error_that_says_why(tmp_path: Path, broken: str, said: str) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "msgspec.py").write_text(broken)
    engine = LocalEngine(cpus=1)
    job = make_job(tmp_path, lambda config: 1)
    engine.open(make_job(tmp_path, lambda config: 1, sys_path=[str(tmp_path / "broken"), *job.sys_path]))
    try:
        with pytest.raises(WorkerLost, match=said):
            poll_often(engine)
    finally:
        engine.close()


def test_no_process_no_zombie_no_descriptor_is_left_after_close(tmp_path: Path) -> None:
    elders = set(psutil.Process().children(recursive=True))  # what other tests of this process still hold, servers of theirs

    def census() -> tuple[int, set[psutil.Process]]:
        return len(os.listdir("/proc/self/fd")), set(psutil.Process().children(recursive=True)) - elders

    def cycle(number: int) -> None:
        stage = Stage(LocalEngine(cpus=2), make_job(tmp_path, family(), echo=True))
        done, busy = make_order(2 * number), make_order(2 * number + 1)
        for order in (done, busy):
            stage.engine.start(order)
        stage.until(lambda: stage.rows_of(done) and stage.rows_of(busy))
        stage.engine.kill(done.trial_id, 1)
        stage.until(lambda: stage.end_of(done))
        stage.engine.close()

    cycle(0)
    before = census()
    for number in range(1, 4):
        cycle(number)
    assert census() == before
    assert not before[1]


def test_an_engine_works_off_the_main_thread(tmp_path: Path) -> None:
    import threading

    ends: list[AttemptEnded] = []

    def drive() -> None:
        stage = Stage(LocalEngine(cpus=1), make_job(tmp_path, lambda config: 1))
        try:
            ends.extend(stage.run(make_order(0)))
        finally:
            stage.engine.close()

    thread = threading.Thread(target=drive)
    thread.start()
    thread.join()
    assert [end.outcome for end in ends] == ["completed"]


def test_two_engines_live_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = Stage(LocalEngine(cpus=1), make_job(tmp_path / "a", lambda config: 1))
    two = Stage(LocalEngine(cpus=1), make_job(tmp_path / "b", lambda config: 2))
    try:
        assert one.run(make_order(0))[0].outcome == "completed"
        one.engine.close()
        assert two.run(make_order(0))[0].outcome == "completed"
        assert two.metrics_of(make_order(0)) == [{"_metric": 2}]
    finally:
        one.engine.close()
        two.engine.close()


def test_staging_of_a_killed_attempt_is_removed(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        from holdfast.checkpoint import Checkpoint

        Path("work").mkdir()
        for name in "abc":
            Path("work", name).write_text(name)
        report({"a": 1}, checkpoint=Checkpoint("work"))

    environment = {**os.environ, "HOLDFAST_FAULTS": "mid_checkpoint_stage:2=kill"}
    stage, order = open_stage(trainable, environment=environment), make_order()
    (end,) = stage.run(order)
    assert end.failure is not None
    assert (end.failure.kind, end.failure.signal) == ("worker", signal.SIGKILL)
    assert os.listdir(stage.dir_of(order)) == ["work"]


@pytest.mark.parametrize("point", ["mid_checkpoint_stage", "before_checkpoint_rename", "after_checkpoint_rename"])
def test_a_stopped_save_leaves_no_staging_when_the_engine_closes(open_stage: Opener, point: str) -> None:
    def trainable(config: dict[str, Any]) -> None:
        from holdfast.checkpoint import Checkpoint

        Path("work").mkdir()
        Path("work", "file").write_text("x")
        report({"a": 0})
        report({"a": 1}, checkpoint=Checkpoint("work"))

    stage, order = open_stage(trainable, environment={**os.environ, "HOLDFAST_FAULTS": f"{point}:1=stop"}), make_order()
    stage.engine.start(order)
    stage.until(lambda: any(isinstance(seen, AttemptStarted) for seen in stage.seen))
    worker = psutil.Process(stage.pid_of(order))
    stage.until(lambda: worker.status() == psutil.STATUS_STOPPED)
    staged = [name for name in os.listdir(stage.dir_of(order)) if name.startswith(".staging")]
    assert len(staged) == (0 if point == "after_checkpoint_rename" else 1)
    stage.engine.close()
    assert [name for name in os.listdir(stage.dir_of(order)) if name.startswith(".staging")] == []
    assert len(stage.rows_of(order)) == 1


class TestReuse:
    def test_one_process_runs_one_attempt_after_another(self, open_stage: Opener) -> None:
        def trainable(config: dict[str, Any]) -> dict[str, Any]:
            leaked = os.environ.get("LEAKED")
            os.environ["LEAKED"] = "yes"
            sys.path.append("/nowhere")
            print("in", os.getcwd())
            return {"pid": os.getpid(), "cwd": os.path.basename(os.getcwd()), "leaked": leaked, "x": config["x"]}

        stage = open_stage(trainable, reuse_workers=True)
        orders = [make_order(index, config={"x": index}) for index in range(3)]
        for order in orders:
            assert stage.run(order)[0].outcome == "completed"
        rows = [stage.metrics_of(order)[0] for order in orders]
        assert len({row["pid"] for row in rows}) == 1
        assert [(row["cwd"], row["leaked"], row["x"]) for row in rows] == [(f"trial_{n}", None, n) for n in range(3)]
        for order in orders:
            log = Path(stage.job.experiment_dir, "logs", f"{order.trial_id}-1.log").read_text()
            assert log == f"in {stage.dir_of(order)}\n"

    def test_each_attempt_finds_the_environment_that_the_first_one_found(self, open_stage: Opener) -> None:
        def trainable(config: dict[str, Any]) -> dict[str, Any]:
            found = dict(os.environ)
            os.environ.update(OMP_NUM_THREADS="77", MINE="changed")
            del os.environ["GIVEN"]
            return {"found": found}

        given = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        stage = open_stage(trainable, reuse_workers=True, environment={**given, "GIVEN": "1", "MINE": "2"})
        orders = [make_order(index) for index in range(3)]
        for order in orders:
            stage.run(order)
        found = [stage.metrics_of(order)[0]["found"] for order in orders]
        assert found == [found[0]] * 3
        assert (found[0]["GIVEN"], found[0]["MINE"], found[0]["OMP_NUM_THREADS"]) == ("1", "2", "1")

    def test_a_failed_or_killed_one_is_not_used_again(self, open_stage: Opener) -> None:
        def trainable(config: dict[str, Any]) -> None:
            report({"pid": os.getpid()})
            if config["fail"]:
                raise ValueError("as asked")

        stage = open_stage(trainable, reuse_workers=True)
        first, second, third = (make_order(n, config={"fail": n == 1}) for n in range(3))
        stage.answers[0, 1] = "STOP"
        outcomes = [stage.run(order)[0].outcome for order in (first, second, third)]
        assert outcomes == ["stopped", "failed", "completed"]
        pids = [stage.metrics_of(order)[0]["pid"] for order in (first, second, third)]
        assert pids[0] == pids[1] != pids[2]

    def test_an_idle_one_that_died_costs_no_attempt(self, open_stage: Opener) -> None:
        stage = open_stage(lambda config: {"pid": os.getpid()}, reuse_workers=True)
        first, second = make_order(0), make_order(1)
        stage.run(first)
        idle = stage.metrics_of(first)[0]["pid"]
        os.kill(idle, signal.SIGSTOP)
        stage.engine.start(second)
        os.kill(idle, signal.SIGKILL)
        stage.until(lambda: stage.end_of(second))
        end = stage.end_of(second)
        assert end is not None
        assert end.outcome == "completed"
        assert stage.metrics_of(second)[0]["pid"] != idle
        kinds = [type(seen) for seen in stage.seen if not isinstance(seen, AttemptEnded) and seen.trial_id == second.trial_id]
        assert kinds.count(AttemptStarted) == 1

    def test_children_of_a_finished_attempt_are_ended_though_its_process_lives(self, open_stage: Opener) -> None:
        def trainable(config: dict[str, Any]) -> dict[str, int]:
            child = os.fork()
            if child == 0:
                time.sleep(600)
            return {"child": child, "pid": os.getpid()}

        stage, order = open_stage(trainable, reuse_workers=True), make_order()
        stage.run(order)
        row = stage.metrics_of(order)[0]
        assert (alive(row["child"]), alive(row["pid"])) == (False, True)

    def test_a_process_with_a_thread_left_over_is_not_used_again(self, open_stage: Opener) -> None:
        def trainable(config: dict[str, Any]) -> dict[str, int]:
            import threading

            if config["leave"]:
                threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            return {"pid": os.getpid()}

        stage = open_stage(trainable, reuse_workers=True)
        orders = [make_order(index, {"leave": index == 0}) for index in range(3)]
        assert [stage.run(order)[0].outcome for order in orders] == ["completed"] * 3
        pids = [stage.metrics_of(order)[0]["pid"] for order in orders]
        assert pids[0] != pids[1] == pids[2]

    def test_an_answer_that_comes_twice_is_passed_over(self, open_stage: Opener) -> None:
        def trainable(_: dict[str, Any]) -> None:
            report({"pid": os.getpid()})
            report({"pid": os.getpid()})

        stage = open_stage(trainable, reuse_workers=True)
        first, second = make_order(0), make_order(1)
        stage.engine.start(first)
        stage.until(lambda: len(stage.rows_of(first)) == 1)
        stage.engine.reply(first.trial_id, 1, 1, "STOP")
        stage.until(lambda: stage.end_of(first))
        stage.run(second)
        assert [len(stage.rows_of(order)) for order in (first, second)] == [2, 2]
        assert stage.metrics_of(first) == stage.metrics_of(second)
