"""Each kind of failure, injected on real processes: told apart, charged to its own budget, nothing left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import holdfast as tune
from holdfast._core.events import AttemptEnded, AttemptStarted, Failure
from holdfast._journal import read
from holdfast.errors import WorkerLost
from holdfast.storage.local import LocalStorage
from holdfast.testing.census import Census, memory_files
from holdfast.testing.history import check_history

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MIB = 2**20


def abort(config: dict[str, Any]) -> None:
    """Dies inside C code, as a library with a bug does."""
    print("about to abort", flush=True)
    ctypes.CDLL(None).abort()


def leave(config: dict[str, Any]) -> None:
    os._exit(3)


def hog(config: dict[str, Any]) -> None:
    held = []
    while True:
        held.append(b"x" * (8 * MIB))
        time.sleep(0.005)


def hog_below(config: dict[str, Any]) -> None:
    """It is a grandchild, in a session of its own, that takes the memory."""
    code = "import time; held = b'x' * (200 << 20); time.sleep(600)"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", nested], check=False)


def memory_error(config: dict[str, Any]) -> None:
    bytearray(2**60)


def deaf(config: dict[str, Any]) -> None:
    """Ignores every polite signal, and never reports again."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tune.report({"i": 0})
    while True:
        time.sleep(600)


def busy(config: dict[str, Any]) -> None:
    """Reports for ever."""
    i = 0
    while True:
        time.sleep(0.01)
        tune.report({"i": i})
        i += 1


def wrong(config: dict[str, Any]) -> None:
    raise LookupError("no such thing")


def family(config: dict[str, Any]) -> None:
    """Children three deep, the last in a session of its own; all deaf. Then it dies."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    for deeper in (True, False):
        code = (
            f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {code!r}], "
            f"stdout=subprocess.PIPE, start_new_session={deeper}); "
            "child.stdout.readline(); print('up', flush=True); time.sleep(600)"
        )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()  # all three are there
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def temporary_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that other programs' files are not counted."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def run(tmp_path: Path, trainable: Any, memory: int = 0, **failures: Any) -> tuple[Any, list[Failure]]:
    """One trial run to its end: the result and its failures, and nothing left of its processes and files."""
    before = set(os.listdir(tempfile.gettempdir())), memory_files([os.getpid()])
    if memory:
        trainable = tune.with_resources(trainable, {"cpu": 1, "memory": memory})
    tuner = tune.Tuner(
        trainable,
        run_config=tune.RunConfig(
            name="exp", storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(**failures)
        ),
    )
    results = tuner.fit()
    token = f"{next(iter(read(storage_of(tmp_path)))).event.experiment_id}."
    assert Census.take(token).processes == {}
    assert set(os.listdir(tempfile.gettempdir())) <= before[0]
    assert memory_files([os.getpid()]) == before[1]
    assert check_history(storage_of(tmp_path), []) == []
    return results[0], failures_in(tmp_path)


def storage_of(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "exp"))


def failures_in(tmp_path: Path) -> list[Failure]:
    events = [record.event for record in read(storage_of(tmp_path))]
    return [event.failure for event in events if isinstance(event, AttemptEnded) and event.failure is not None]


def test_a_crash_in_c_code_is_the_workers(tmp_path: Path) -> None:
    result, (failure,) = run(tmp_path, abort)
    assert (failure.kind, failure.signal, failure.exit_code) == ("worker", signal.SIGABRT, None)
    assert "SIGABRT" in failure.message
    assert "about to abort" in failure.log_tail
    assert failure.peak_memory > MIB
    assert isinstance(result.error, WorkerLost)
    told = Path(result.path, "error.txt").read_text()
    assert f"worker on {os.uname().nodename}, signal 6" in told
    assert "about to abort" in told


def test_an_exit_without_a_word_is_the_workers(tmp_path: Path) -> None:
    _, (failure,) = run(tmp_path, leave)
    assert (failure.kind, failure.signal, failure.exit_code) == ("worker", None, 3)


def test_a_trial_above_its_memory_is_ended(tmp_path: Path) -> None:
    result, (failure,) = run(tmp_path, hog, memory=200 * MIB)
    assert (failure.kind, failure.signal) == ("oom", signal.SIGKILL)
    assert "200 MiB" in failure.message
    assert str(200 * MIB) in failure.message
    assert 200 * MIB < failure.peak_memory < 800 * MIB
    assert isinstance(result.error, WorkerLost)


def test_what_a_trials_children_use_counts(tmp_path: Path) -> None:
    _, (failure,) = run(tmp_path, hog_below, memory=150 * MIB)
    assert failure.kind == "oom"
    assert failure.peak_memory > 150 * MIB


def test_a_memory_error_is_one_of_memory_and_keeps_its_class(tmp_path: Path) -> None:
    result, (failure,) = run(tmp_path, memory_error)
    assert failure.kind == "oom"
    assert isinstance(result.error, MemoryError)
    assert "bytearray(2**60)" in failure.traceback


def test_an_exception_is_the_codes(tmp_path: Path) -> None:
    result, (failure,) = run(tmp_path, wrong)
    assert failure.kind == "code"
    assert isinstance(result.error, LookupError)
    assert failure.peak_memory > MIB


def test_a_trial_that_ignores_signals_is_ended_when_its_time_is_over(tmp_path: Path) -> None:
    _, failures = run(tmp_path, deaf, trial_timeout_s=0.5, max_timeouts=1)
    assert [failure.kind for failure in failures] == ["timeout", "timeout"]
    assert "trial_timeout_s=0.5" in failures[0].message
    assert failures[0].signal == signal.SIGKILL


def test_a_trial_that_reports_may_take_its_time_until_it_is_over(tmp_path: Path) -> None:
    _, (failure,) = run(tmp_path, busy, no_progress_timeout_s=0.4, trial_timeout_s=1.2)
    assert failure.kind == "timeout"
    assert "trial_timeout_s=1.2" in failure.message


def test_a_trial_that_makes_no_progress_is_ended(tmp_path: Path) -> None:
    _, (failure,) = run(tmp_path, deaf, no_progress_timeout_s=0.5)
    assert failure.kind == "timeout"
    assert "no_progress_timeout_s=0.5" in failure.message


def test_the_children_of_a_trial_that_was_killed_go_with_it(tmp_path: Path) -> None:
    _, failures = run(tmp_path, family, max_failures=1)
    assert [(failure.kind, failure.signal) for failure in failures] == [("worker", signal.SIGKILL)] * 2


def test_the_children_of_a_trial_whose_time_is_over_go_with_it(tmp_path: Path) -> None:
    def patient(config: dict[str, Any]) -> None:
        os.kill = lambda *_: time.sleep(600)
        family(config)

    _, (failure,) = run(tmp_path, patient, trial_timeout_s=2.0)
    assert failure.kind == "timeout"


def test_each_kind_is_spent_from_its_own_budget(tmp_path: Path) -> None:
    def varied(config: dict[str, Any]) -> None:
        attempt = len(list(Path.cwd().glob("attempt*")))
        Path(f"attempt{attempt}").touch()
        (wrong, memory_error, deaf, memory_error, deaf, leave, wrong)[attempt](config)

    _, failures = run(tmp_path, varied, max_failures=2, max_oom=2, max_timeouts=2, no_progress_timeout_s=0.5)
    assert [failure.kind for failure in failures] == ["code", "oom", "timeout", "oom", "timeout", "worker", "code"]


@pytest.mark.parametrize("bound", [{"stop_after_failures": 2}, {"stop_after_failures": 0.5}])
def test_a_pattern_of_failures_ends_the_experiment_which_can_go_on(tmp_path: Path, bound: dict[str, Any]) -> None:
    sick = tmp_path / "sick"
    sick.touch()
    storage_path = str(tmp_path / "results")

    def train(config: dict[str, Any]) -> dict[str, int]:
        if sick.exists():
            raise LookupError("the data is not there")
        return {"ok": 1}

    tuner = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(num_samples=30, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name="exp", storage_path=storage_path, verbose=0, failure_config=tune.FailureConfig(max_failures=0, **bound)
        ),
    )
    results = tuner.fit()
    assert 2 <= len(results) <= 12
    assert results.num_errors in (len(results), len(results) - 1)
    sick.unlink()
    again = tune.Tuner.restore(f"{storage_path}/exp", train, resume_errored=True).fit()
    assert (len(again), again.num_errors) == (30, 0)


def test_the_pause_before_another_attempt_is_on_record(tmp_path: Path) -> None:
    run(tmp_path, wrong, max_failures=3, retry_delay_s=0.2)
    waits, ended = [], 0.0
    for record in read(storage_of(tmp_path)):
        if isinstance(record.event, AttemptEnded):
            ended = record.time
        elif isinstance(record.event, AttemptStarted) and ended:
            waits.append(record.time - ended)
    assert len(waits) == 3
    for number, wait in enumerate(waits):  # doubled, and up to half as much again; what a start takes comes on top
        least = 0.2 * 2**number
        assert least <= wait < least * 1.5 + 1.0


def _memory_group() -> str:
    """A new memory control group of the first or second version; empty where this machine does not give one."""
    name = f"holdfast-test-{os.getpid()}"
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = os.path.join(root, name)
        try:
            os.mkdir(group)
        except OSError:
            continue
        try:
            Path(group, limit).write_text(str(150 * MIB))
        except OSError:
            os.rmdir(group)
            continue
        return group
    return ""


def test_a_worker_that_the_kernel_ends_for_want_of_memory_is_told_from_one_that_somebody_kills(tmp_path: Path) -> None:
    group = _memory_group()
    if not group and "CI" not in os.environ:
        pytest.skip("needs the right to make a memory control group")
    assert group, "continuous integration needs the right to make a memory control group"
    script = tmp_path / "driver.py"
    script.write_text(
        f"""
import os, signal, sys
open({group!r} + "/cgroup.procs", "w").write(str(os.getpid()))
import holdfast as tune

def train(config):
    if config["killed"]:
        os.kill(os.getpid(), signal.SIGKILL)
    held = []
    while True:
        held.append(b"x" * (4 << 20))

tune.Tuner(
    train,
    param_space={{"killed": tune.grid_search([False, True])}},
    tune_config=tune.TuneConfig(max_concurrent_trials=1),
    run_config=tune.RunConfig(name="exp", storage_path={str(tmp_path)!r}, verbose=0),
).fit()
"""
    )
    try:
        subprocess.run([sys.executable, str(script)], check=True, timeout=120)
    finally:
        deadline = time.monotonic() + 10
        while Path(group, "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.rmdir(group)
    by_kernel, by_hand = failures_in(tmp_path)
    assert (by_kernel.kind, by_kernel.signal) == ("oom", signal.SIGKILL)
    assert "killed by the kernel" in by_kernel.message
    assert (by_hand.kind, by_hand.signal) == ("worker", signal.SIGKILL)
