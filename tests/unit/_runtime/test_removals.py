"""What is to go goes, in order, and a store that does not answer keeps nobody waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from holdfast._core.commands import DeleteCheckpoint
from holdfast._runtime.removals import Removals
from holdfast.errors import StorageError

PATIENCE_S = 30


class Place:
    """A storage that deletes when it is let."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.gone: list[str] = []
        self.before = before

    def delete(self, path: str) -> None:
        self.before()
        self.gone.append(path)


def order(index: int) -> DeleteCheckpoint:
    return DeleteCheckpoint(f"1.{index}.0", "abcde_00000", "trial_0", index)


def test_on_a_disk_each_call_is_done_when_it_returns() -> None:
    place = Place()
    removals = Removals(place, place, lambda: None, aside=False)
    removals.drop(7, order(3))
    assert removals.done(6) == []  # its drop could still be lost
    assert place.gone == []
    assert removals.waiting
    removals.sweep("trial_1", 4)
    assert place.gone == ["trial_1/.pending-000004", "trial_1/checkpoint_000004"]
    assert removals.done(7) == [order(3)]
    assert place.gone[2:] == ["trial_0/checkpoint_000003"]
    assert not removals.waiting
    assert removals.done(7) == []
    removals.close()


def test_what_attempts_stage_goes_from_their_machine_and_the_rest_from_the_store() -> None:
    store, disk = Place(), Place()
    removals = Removals(store, disk, lambda: None, aside=True)
    removals.sweep("trial_1", 4)
    assert removals.done(9, wait=True) == []
    assert (store.gone, disk.gone) == (["trial_1/checkpoint_000004"], ["trial_1/.pending-000004"])
    removals.close()


def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    gate, woken = threading.Event(), threading.Semaphore(0)
    removals = Removals(place := Place(lambda: gate.wait(PATIENCE_S) or None), Place(), woken.release, aside=True)
    for index in range(3):
        removals.drop(index, order(index))
    assert removals.done(9) == []
    gate.set()
    assert all(woken.acquire(timeout=PATIENCE_S) for _ in range(3))
    assert removals.done(9) == [order(0), order(1), order(2)]
    assert len(place.gone) == 3
    removals.close()


def test_one_that_refuses_is_raised_in_the_drivers_thread() -> None:
    def refuse() -> None:
        raise StorageError(5, "no")

    removals = Removals(Place(refuse), Place(), lambda: None, aside=True)
    removals.drop(0, order(0))
    with pytest.raises(StorageError):
        removals.done(9, wait=True)
    removals.close()


def test_closing_waits_for_nothing_and_begins_nothing() -> None:
    gate, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        gate.wait(PATIENCE_S)

    removals = Removals(place := Place(wait), Place(), lambda: None, aside=True)
    for index in range(2):
        removals.drop(index, order(index))
    assert removals.done(9) == []
    assert begun.wait(PATIENCE_S)
    removals.close()
    gate.set()
    thread = next(one for one in threading.enumerate() if one.name.startswith("holdfast-removals"))
    thread.join(PATIENCE_S)
    assert place.gone == ["trial_0/checkpoint_000000"]
