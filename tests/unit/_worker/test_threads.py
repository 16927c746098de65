"""Libraries use as many threads as their trial has CPUs, in a process whose state nobody else sees."""

from __future__ import annotations

import subprocess
import sys

import pytest

BODY = """
import os, sys
from holdfast._worker.threads import VARIABLES, bound_threads
for name in VARIABLES:
    os.environ[name] = "1"
{before}
bound_threads({variables}, {cpus})
{after}
"""


def ran(variables: str, cpus: float, after: str, before: str = "") -> str:
    code = BODY.format(variables=variables, cpus=cpus, after=after, before=before)
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.strip()


SHOWN = "print(*[os.environ[name] for name in VARIABLES])"


@pytest.mark.parametrize(("cpus", "shown"), [(4, "4 4 4"), (0.5, "1 1 1"), (0, "1 1 1"), (2.7, "2 2 2")])
def test_the_variables_say_how_many_cpus_there_are(cpus: float, shown: str) -> None:
    assert ran("VARIABLES", cpus, SHOWN) == shown


def test_what_the_user_has_set_stands() -> None:
    assert ran("VARIABLES[1:]", 4, SHOWN) == "1 4 4"


def test_openblas_that_is_loaded_already_is_told() -> None:
    after = "import threading, numpy\nnumpy.ones((600, 600)) @ numpy.ones((600, 600))\nprint(len(os.listdir('/proc/self/task')))"
    before = "import numpy; assert len(os.listdir('/proc/self/task')) == 1"
    assert int(ran("VARIABLES", 1, after, before)) == 1
    assert int(ran("VARIABLES", 2, after, before)) == 2
    assert int(ran("()", 2, after, before)) == 1


def test_torch_that_is_loaded_already_is_told() -> None:
    before = (
        "import types\n"
        "torch = types.ModuleType('torch'); torch.set_num_threads = lambda count: print('threads', count)\n"
        "sys.modules['torch'] = torch"
    )
    assert ran("VARIABLES", 3, "", before) == "threads 3"
    assert ran("VARIABLES[1:]", 3, "", before) == ""
