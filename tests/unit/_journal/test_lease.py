from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from holdfast._journal import Owner


def test_this_process_is_visible_and_alive():
    me = Owner.of_this_process()
    assert me.pid == os.getpid()
    assert me.visible()
    assert me.alive()
    assert str(me) == f"pid {os.getpid()} on host {os.uname().nodename}"


def test_a_later_process_of_the_same_id_is_not_the_owner():
    me = Owner.of_this_process()
    assert not msgspec.structs.replace(me, start_ticks=me.start_ticks - 1).alive()


def test_an_ended_process_is_not_alive_even_before_it_is_reaped():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with open(f"/proc/{child.pid}/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    owner = msgspec.structs.replace(Owner.of_this_process(), pid=child.pid, start_ticks=ticks)
    assert owner.alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not owner.alive()
    child.communicate()
    assert not owner.alive()


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"boot_id": ""}, {"pid_namespace": 1}])
def test_a_process_of_another_boot_or_namespace_is_not_visible(change):
    assert not msgspec.structs.replace(Owner.of_this_process(), **change).visible()
