"""Whole trees of processes end, whatever state their threads are in, and whatever environment they have."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from holdfast._worker.processes import end_with_token

PARENT = """
import os, subprocess, sys, time
from holdfast._worker.processes import become_subreaper, descendants, end_descendants
become_subreaper()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
while open(f"/proc/{child.pid}/stat").read().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.001)
print(descendants(os.getpid()) == [child.pid], len(end_descendants()), os.path.exists(f"/proc/{child.pid}"))
"""
ONLY_THE_MAIN_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
CARRIER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={}, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def test_a_process_of_which_only_the_main_thread_is_dead_is_ended() -> None:
    command = [sys.executable, "-c", PARENT, ONLY_THE_MAIN_THREAD_ENDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("True 1 False\n", "")


def test_what_a_carrier_of_the_token_has_started_ends_with_it_though_it_carries_none() -> None:
    token = f"below-{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, "HOLDFAST_TOKEN": token}
    with subprocess.Popen([sys.executable, "-c", CARRIER], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        ended = end_with_token(token.__eq__)

    assert set(ended) == {parent.pid, child}
    assert not os.path.exists(f"/proc/{child}") or _is_dead(child)


def _is_dead(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] in "ZX"
