"""`holdfast run`: real processes, each a short script that notes when it is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from holdfast.cli.running import Patience, meaning
from integration.drivers import wait_until

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "import sys; from holdfast.cli import main; sys.exit(main())", "run", "--delay", "0.01"]
COUNT = """
import os, signal, sys
with open("starts", "a") as file:
    file.write("x")
start = os.path.getsize("starts")
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(body: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(COUNT + body)
        return path

    return write


@contextmanager
def begun(path: Path, *options: str, arguments: tuple[str, ...] = (), **how) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [*COMMAND, *options, str(path), *arguments], cwd=path.parent, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how,
    )  # fmt: skip
    try:
        yield process
        process.communicate(timeout=30)
    finally:
        for one in (process, *psutil.Process(process.pid).children()) if process.poll() is None else ():
            one.kill()
        process.communicate()


def ran(path: Path, *options: str, arguments: tuple[str, ...] = ()) -> tuple[int, int, str, str]:
    """Exit code, how often the script was started, stdout, stderr."""
    with begun(path, *options, arguments=arguments) as process:
        out, told = process.communicate(timeout=60)
    return process.returncode, (path.parent / "starts").stat().st_size, out, told


def until_started(process: subprocess.Popen) -> None:
    assert process.stdout.readline() == "ready\n"


READY = "print('ready', flush=True)\n"


def test_what_is_killed_is_started_again(script):
    code, starts, _, told = ran(script("if start < 3: os.kill(os.getpid(), signal.SIGKILL)"))
    assert (code, starts) == (0, 3)
    assert "script.py was killed by SIGKILL after" in told
    assert "restart 2 of 10 in 0.02 s" in told


def test_an_exception_and_75_are_started_again_until_the_limit(script):
    code, starts, _, told = ran(script("sys.exit(75) if start == 2 else 1 / 0"), "--max-restarts", "2")
    assert (code, starts) == (1, 3)
    assert "asks to be started again" in told
    assert "that was 3 times in a row: giving up" in told


def test_the_exit_code_of_what_was_killed_is_a_shells(script):
    assert ran(script("os.abort()"), "--max-restarts", "0")[:2] == (134, 1)


def test_a_script_that_ran_long_enough_has_the_count_begin_anew(script):
    code, starts, _, told = ran(script("sys.exit(start < 5)"), "--max-restarts", "1", "--healthy-after", "0")
    assert (code, starts) == (0, 5)
    assert told.count("restart 1 of 1") == 4


@pytest.mark.parametrize(
    ("body", "code"),
    [("sys.exit(2)", 2), ("sys.exit(130)", 130), ("sys.exit(143)", 143), ("os.kill(os.getpid(), signal.SIGTERM)", 143)],
)
def test_what_was_misused_or_asked_to_end_is_not(script, body, code):
    assert ran(script(body))[:2] == (code, 1)


def test_arguments_reach_the_script_and_nothing_comes_by_stdin(script):
    _, _, out, _ = ran(script("print(sys.argv[1:], sys.stdin.read() == '')"), arguments=("--lr", "0.1", "-x"))
    assert out == "['--lr', '0.1', '-x'] True\n"


COUNT_SIGNALS = """
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
print("ready", flush=True)
while not heard:
    signal.pause()
import time
time.sleep(0.1)  # a second one would come now
print(len(heard), os.getpgrp() == os.getpid(), flush=True)
sys.exit(75)
"""


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_signal_is_passed_on_once_and_ends_the_restarts(script, whole_group):
    with begun(script(COUNT_SIGNALS)) as process:
        until_started(process)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGUSR1)
        out, told = process.communicate(timeout=60)
    assert out == "1 True\n"
    assert process.returncode == 75
    assert "as told; it is not started again" in told


def test_a_signal_between_two_starts_ends_it(script):
    with begun(script("sys.exit(1)"), "--delay", "60") as process:
        assert "restart 1 of" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143


def test_under_nohup_the_end_of_the_terminal_means_nothing(script):
    body = READY + "signal.sigtimedwait([], 0.2)\nsys.exit(start < 2)"
    with begun(script(body), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        until_started(process)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0


def test_ctrl_z_stops_the_script_with_it(script):
    with begun(script(READY + "signal.pause()")) as process:
        until_started(process)
        me = psutil.Process(process.pid)
        [child] = me.children()
        process.send_signal(signal.SIGTSTP)
        wait_until(lambda: (me.status(), child.status()) == (psutil.STATUS_STOPPED, psutil.STATUS_STOPPED))
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143


def test_no_script_is_a_usage_error(tmp_path):
    done = subprocess.run([*COMMAND, str(tmp_path / "none.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_waits_are_doubled_up_to_the_longest():
    patience = Patience(delay_s=1.0, most_s=10.0)
    assert [patience.wait_s(row) for row in (1, 2, 3, 4, 5, 2000)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_what_an_exit_code_says():
    assert meaning(-9) == "was killed by SIGKILL"
    assert meaning(-40) == "was killed by signal 40"
    assert meaning(143) == "exited with 143: it was ended by SIGTERM"
    assert meaning(1) == "exited with 1"
