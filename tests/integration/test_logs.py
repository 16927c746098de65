"""What trials print, on real processes: kept, rotated, shown with prefixes, followed by `holdfast logs`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import holdfast as tune
from holdfast.errors import ConfigError
from integration.drivers import wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROWS = 60
HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


def chatty(config: dict[str, Any]) -> None:
    """Prints on both streams, one attempt after the other."""
    failed = os.path.exists("failed")
    for row in range(ROWS):
        print(f"line {int(failed)} {row} {'.' * 40}")
        print(f"error {int(failed)} {row}", file=sys.stderr)
        tune.report({"row": row})
        if row == ROWS // 2 and not failed:
            Path("failed").touch()
            raise ValueError("the first time")


def run(path: Path, trainable: Any = chatty, **changes: Any) -> tune.ResultGrid:
    options = {"verbose": 0, "failure_config": tune.FailureConfig(max_failures=1), **changes}
    return tune.Tuner(trainable, run_config=tune.RunConfig(name="exp", storage_path=str(path), **options)).fit()


def logs(path: Path, *arguments: str) -> list[str]:
    command = [HOLDFAST, "logs", str(path / "exp"), "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def told(lines: list[str], word: str) -> list[str]:
    """The lines that begin so, without their padding."""
    return [line.rstrip(". ") for line in lines if line.startswith(word)]


def expected(word: str) -> list[str]:
    return [f"{word} {attempt} {row}" for attempt, rows in ((0, ROWS // 2 + 1), (1, ROWS)) for row in range(rows)]


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_nothing_is_missing_from_logs_terminal_and_history_across_rotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], start_method: str
) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", "1500")  # an attempt has three times as much to say at most: it all is kept
    monkeypatch.setenv("HOLDFAST_START_METHOD", start_method)
    run(tmp_path, verbose=1)
    shown = [line.partition(") ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("(chatty_")]
    for word in ("line", "error"):
        assert told(logs(tmp_path), word) == expected(word)
        assert told(shown, word) == expected(word)
    files = Counter(name.rpartition("-")[2] for name in os.listdir(tmp_path / "exp" / "logs"))
    assert set(files) == {"1.log", "1.log.1", "2.log", "2.log.1", "2.log.2"}
    assert all(path.stat().st_size < 2000 for path in (tmp_path / "exp" / "logs").iterdir())


def test_what_grows_beyond_the_parts_that_are_kept_loses_its_beginning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", "300")
    run(tmp_path)
    lines = told(logs(tmp_path, "--attempt", "2"), "error")
    assert 0 < len(lines) < ROWS
    assert lines == expected("error")[-len(lines) :]


def test_no_bound_means_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", "0")
    run(tmp_path)
    assert len(os.listdir(tmp_path / "exp" / "logs")) == 2


@pytest.mark.parametrize("wrong", ["many", "-1"])
def test_a_bound_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", wrong)
    with pytest.raises(ConfigError, match="HOLDFAST_LOG_BYTES"):
        run(tmp_path)


def test_files_named_by_the_user_are_rotated_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", "2500")
    run(tmp_path, log_to_file=("out.txt", "err.txt"))
    assert told(logs(tmp_path), "line") == expected("line")
    assert told(logs(tmp_path), "error") == []
    assert told(logs(tmp_path, "--stderr"), "error") == expected("error")


def test_a_failure_tells_the_end_of_the_log_across_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", "500")

    def dying(config: dict[str, Any]) -> None:
        print("x" * 500)
        tune.report({"a": 1})
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)

    run(tmp_path, dying, failure_config=tune.FailureConfig())
    text = subprocess.run([HOLDFAST, "show", str(tmp_path / "exp"), "0"], capture_output=True, text=True, check=True).stdout
    assert "x" * 400 in text
    assert "last words" in text
    assert logs(tmp_path)[1:] == ["x" * 500, "last words"]


def test_a_child_goes_on_writing_where_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_LOG_BYTES", "100")

    def parent(config: dict[str, Any]) -> None:
        child = subprocess.Popen(["sh", "-c", "read line; echo child says $line"], stdin=subprocess.PIPE)
        print("y" * 100)
        tune.report({"a": 1})
        child.communicate(b"goodbye\n")
        print("parent")

    run(tmp_path, parent)
    assert logs(tmp_path)[1:] == ["y" * 100, "child says goodbye", "parent"]


PROGRAM = """
import os, sys, time
import holdfast as tune

def train(config):
    first = not os.path.exists("failed")
    for row in range(6):
        print("attempt", 1 + (not first), "row", row, "." * 200)
        tune.report({"row": row})
        while not os.path.exists(os.environ["GO"] + str(row)) :
            time.sleep(0.005)
        if first and row == 3:
            open("failed", "w").close()
            raise ValueError("the first time")

run = tune.RunConfig(name="exp", storage_path=sys.argv[1], verbose=0, failure_config=tune.FailureConfig(max_failures=1))
tune.Tuner(train, run_config=run).fit()
"""


def test_a_live_trial_is_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "HOLDFAST_LOG_BYTES": "300", "GO": str(tmp_path / "go")}
    driver = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), str(tmp_path)], env=environment)
    wait_until(lambda: list((tmp_path / "exp").glob("logs/*-1.log*")))
    out = tmp_path / "followed"
    with out.open("wb") as file:
        following = subprocess.Popen([HOLDFAST, "logs", "-f", str(tmp_path / "exp"), "0"], stdout=file)
    for row in range(6):
        wait_until(lambda row=row: f" row {row} " in out.read_text())
        (tmp_path / f"go{row}").touch()
    assert (following.wait(30), driver.wait(30)) == (0, 0)
    lines = [line.rstrip(" .") for line in out.read_text().splitlines() if line.startswith("attempt")]
    assert lines == [f"attempt 1 row {row}" for row in range(4)] + [f"attempt 2 row {row}" for row in range(6)]


def test_an_interrupt_ends_following_with_130(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "GO": str(tmp_path / "never")}
    driver = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), str(tmp_path)], env=environment)
    wait_until(lambda: list((tmp_path / "exp").glob("logs/*-1.log*")))
    out = tmp_path / "followed"
    with out.open("wb") as file:
        command = [HOLDFAST, "logs", "-f", str(tmp_path / "exp"), "0"]
        # In a job that a shell has put into the background Ctrl+C is ignored, and children inherit that.
        listening = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        following = subprocess.Popen([sys.executable, "-c", listening, *command], stdout=file, stderr=file)
    wait_until(lambda: " row 0 " in out.read_text())
    driver.kill()
    driver.wait()
    wait_until(lambda: "no driver is at work" in out.read_text())
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    assert "Traceback" not in out.read_text()
