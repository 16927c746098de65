"""Ending processes by their token."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from holdfast._worker.processes import end_with_token

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={}, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


def test_what_a_carrier_of_the_token_has_started_ends_with_it_though_it_carries_none() -> None:
    token = f"below-{os.getpid()}-{time.monotonic_ns()}"
    environment = {**os.environ, "HOLDFAST_TOKEN": token}
    with subprocess.Popen([sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        ended = end_with_token(token)

    assert set(ended) == {parent.pid, child}
    assert not os.path.exists(f"/proc/{child}") or _is_dead(child)


def _is_dead(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] in "ZX"
