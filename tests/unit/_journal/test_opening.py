from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys

import pytest

from holdfast._core.events import TailCut
from holdfast._journal import Follower, Owner, open_journal, read
from holdfast.errors import ExperimentBusy, StorageError
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from journal_tools import Clock, add, born, owner, put, take, texts


@pytest.fixture
def storage():
    return born(SimulatedStorage())


def politely(storage, clock=None, by=None):
    return open_journal(storage, owner=by or owner(2), clock=clock or Clock(), threads=False)


def test_a_silent_driver_elsewhere_is_waited_for_and_replaced(storage):
    journal = take(storage)
    journal.tick(0.0)
    clock = Clock()
    heir = politely(storage, clock)
    assert 15.0 <= clock.now - Clock().now < 16.0
    assert heir.previous == owner()
    assert not heir.previous_closed


def test_a_driver_that_never_beat_is_waited_for_too(storage):
    take(storage)
    clock = Clock()
    politely(storage, clock)
    assert clock.now - Clock().now >= 15.0


def test_a_driver_elsewhere_whose_heart_beats_is_left_alone(storage):
    journal = take(storage)
    add(journal, "a")
    clock = Clock(lambda: journal.tick(clock.now))
    before = storage.names("journal/epochs")
    with pytest.raises(ExperimentBusy, match="pid 4242 on host elsewhere") as caught:
        politely(storage, clock)
    assert (caught.value.path, caught.value.owner) == (storage.root, "pid 4242 on host elsewhere")
    assert storage.names("journal/epochs") == before
    add(journal, "b")
    assert texts(storage) == ["a", "b"]


def test_a_driver_that_closes_during_the_wait_ends_it(storage):
    journal = take(storage)
    clock = Clock(lambda: journal.close() if clock.now > 103 else None)
    heir = politely(storage, clock)
    assert clock.now < 104
    assert heir.previous_closed


def test_of_two_that_wait_the_second_begins_to_watch_the_first(storage):
    take(storage)
    overtaken = []

    def claim_after_ten_seconds() -> None:
        if clock.now > 110 and not overtaken:
            overtaken.append(take(storage, owner=owner(77)))
        if overtaken:
            overtaken[0].tick(clock.now)

    clock = Clock(claim_after_ten_seconds)
    with pytest.raises(ExperimentBusy, match="pid 77"):
        politely(storage, clock)


def test_a_takeover_does_not_wait(storage):
    journal = take(storage)
    journal.tick(0.0)
    clock = Clock()
    heir = take(storage, clock=clock)
    assert clock.now == Clock().now
    assert heir.epoch == 2


def test_the_same_process_is_busy_until_it_has_let_go(storage):
    me = Owner.of_this_process()
    journal = take(storage, owner=me)
    with pytest.raises(ExperimentBusy, match=f"pid {os.getpid()} on host"):
        politely(storage, by=me)
    add(journal, "a")
    storage.fail_sync(1)
    with pytest.raises(StorageError):
        journal.sync()
    journal.close()  # leaves no seal: the disk failed
    clock = Clock()
    heir = politely(storage, clock, by=me)
    assert clock.now == Clock().now
    assert heir.epoch == 2
    assert texts(storage) == ["a"]


def test_cuts_are_told_until_they_are_on_record(storage):
    journal = take(storage)
    add(journal, "a")
    storage.append("journal/00000001-0000.log", b"torn")
    offset = len(storage.read("journal/00000001-0000.log")) - 4
    cut = TailCut(file="journal/00000001-0000.log", offset=offset, size=4)
    assert take(storage).cuts == [cut]
    heir = take(storage)  # the one before died before it wrote anything
    assert heir.cuts == [cut]
    assert storage.read(f"journal/cut/00000001-0000-{offset}") == b"torn"
    put(heir, heir.cuts, 1.0, 2.0)
    assert take(storage).cuts == []


def test_an_experiment_may_have_more_drivers_than_python_has_stack(storage):
    for n in range(120):
        add(take(storage), n)
    before = sys.getrecursionlimit()
    depth = len(inspect.stack(0))
    sys.setrecursionlimit(depth + 60)
    try:
        history = list(read(storage))
        followed = Follower(storage).poll()[1]
        take(storage)
    finally:
        sys.setrecursionlimit(before)
    assert [record.position for record in history] == list(range(121))
    assert followed == history


CHILD = """
import sys, signal
from holdfast.clock import SystemClock
from holdfast._core.events import Woke
from holdfast._journal import Owner, open_journal
from holdfast.storage.local import LocalStorage
journal = open_journal(LocalStorage(sys.argv[1]), owner=Owner.of_this_process(), clock=SystemClock())
for n in range(1000000):
    journal.stage([Woke(order=str(n))], 1.0, 2.0)
    journal.flush()
    print(n, flush=True)
"""


# A segment's header is its first write, so the twentieth record is the twenty-first time in a write.
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["in_write:21=kill", "after_write:20=kill", "after_claim_check:20=kill", "in_write:21=stop"])
def test_a_killed_process_is_replaced_at_once_and_a_stopped_one_is_not(tmp_path, fault):
    storage = born(LocalStorage(tmp_path))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "HOLDFAST_FAULTS": fault},
    )
    try:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        clock = Clock()
        if os.WIFSTOPPED(status):
            with pytest.raises(ExperimentBusy, match=f"pid {child.pid} on host"):
                politely(storage, clock)
            journal = take(storage)
            before = texts(storage)
            os.kill(child.pid, signal.SIGCONT)
            assert os.waitpid(child.pid, 0)[1] != 0  # it raised Fenced
            add(journal, "after")
            assert texts(storage) == [*before, "after"]
        else:
            journal = politely(storage, clock)
            assert clock.now == Clock().now
            assert not journal.previous_closed
        acknowledged = child.stdout.read().split()
        history = [text.encode() for text in texts(storage)]
        assert len(acknowledged) == 19
        assert history[:19] == acknowledged
    finally:
        child.stdout.close()
        child.returncode = 0  # reaped above
