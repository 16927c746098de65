from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from holdfast._journal.slots.courier import FLUSH_BYTES, Courier
from holdfast.errors import StorageError, TuneError


class Store:
    """Where groups arrive; a put waits for `gate`."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.rested = 0
        self.failed: list[TuneError] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        self.error: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None  # happens while a put is in flight

    def carry(self, group: list[bytes]) -> None:
        self.arrived.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        self.groups.append(group)

    def rest(self) -> None:
        self.rested += 1


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def courier(store: Store) -> Courier:
    return Courier(store.carry, store.rest, store.failed.append)


@pytest.mark.parametrize("zero", [0.0, 10.0])
def test_a_group_goes_a_second_after_its_first_record(courier, store, zero):
    courier.add([b"1"], hurry=False)
    courier.tick(zero)
    courier.add([b"2"], hurry=False)
    courier.tick(zero + 0.9)
    assert store.groups == []
    courier.tick(zero + 1.0)
    assert store.groups == [[b"1", b"2"]]
    assert store.rested == 1
    courier.tick(zero + 2.0)
    courier.add([b"3"], hurry=False)
    courier.tick(zero + 10.0)
    assert store.groups == [[b"1", b"2"]]
    courier.tick(zero + 11.0)
    assert store.groups[1:] == [[b"3"]]


def test_what_is_urgent_or_much_goes_at_once(courier, store):
    courier.add([b"1"], hurry=True)
    courier.tick(0.0)
    courier.add([bytes(FLUSH_BYTES)], hurry=False)
    courier.tick(0.0)
    assert list(map(len, store.groups)) == [1, 1]


def test_what_comes_while_a_put_is_in_flight_waits_for_its_own_second(courier, store):
    store.meanwhile = lambda: courier.add([b"2"], hurry=False)
    courier.add([bytes(FLUSH_BYTES)], hurry=False)
    courier.tick(0.0)
    courier.add([b"3"], hurry=False)
    courier.tick(0.9)
    assert list(map(len, store.groups)) == [1]
    courier.tick(1.0)
    assert store.groups[1:] == [[b"2", b"3"]]


def test_what_is_urgent_while_a_put_is_in_flight_goes_next(courier, store):
    store.meanwhile = lambda: courier.add([b"2"], hurry=True)
    courier.add([b"1"], hurry=True)
    courier.tick(0.0)
    courier.add([b"3"], hurry=False)
    courier.tick(0.0)
    courier.add([b"4"], hurry=False)
    courier.tick(0.0)
    assert store.groups == [[b"1"], [b"2", b"3"]]


def test_much_goes_in_several_groups_in_order(courier, store):
    records = [bytes([n]) * (3 << 20) for n in range(7)]
    courier.add(records, hurry=False)
    courier.drain()
    assert [record for group in store.groups for record in group] == records
    assert list(map(len, store.groups)) == [3, 3, 1]


def test_an_error_is_told_and_nothing_is_carried_any_more(courier, store):
    store.error = StorageError(5, "gone")
    courier.add([b"1"], hurry=True)
    courier.tick(0.0)
    assert store.failed == [store.error]
    courier.add([b"2"], hurry=True)
    with pytest.raises(StorageError, match="gone"):
        courier.drain()
    assert store.groups == []


@pytest.mark.slow
def test_a_thread_carries_what_is_urgent_while_another_adds(courier, store):
    store.gate.clear()
    courier.start()
    courier.add([b"1"], hurry=True)
    assert store.arrived.wait(10)
    courier.add([b"2"], hurry=False)  # does not wait for the put in flight
    store.gate.set()
    courier.drain()
    assert store.groups == [[b"1"], [b"2"]]
    courier.stop()


@pytest.mark.slow
def test_a_thread_carries_what_was_urgent_while_its_put_was_in_flight(store):
    carried = threading.Event()
    courier = Courier(store.carry, lambda: carried.set() if len(store.groups) == 2 else None, store.failed.append)
    store.meanwhile = lambda: courier.add([b"2"], hurry=True)
    courier.start()
    courier.add([b"1"], hurry=True)
    assert carried.wait(10)
    courier.stop()
    assert store.groups == [[b"1"], [b"2"]]


@pytest.mark.slow
def test_who_adds_waits_while_the_store_is_64_mib_behind_and_no_longer_than_it_fails(courier, store):
    store.gate.clear()
    courier.start()
    courier.add([bytes(64 << 20)], hurry=True)
    assert store.arrived.wait(10)
    added = threading.Event()

    def more() -> None:
        courier.add([b"more"], hurry=False)
        added.set()

    thread = threading.Thread(target=more)
    thread.start()
    assert not added.wait(0.2)
    store.error = StorageError(5, "gone")
    store.gate.set()
    assert added.wait(10)
    thread.join()
    assert store.failed == [store.error]
    courier.stop()


@pytest.mark.slow
def test_an_error_of_ours_in_the_thread_is_told_as_well(courier, store):
    store.error = ValueError("a bug")
    told = threading.Event()
    failed: list[TuneError] = []
    courier = Courier(store.carry, store.rest, lambda error: (failed.append(error), told.set()))
    courier.start()
    courier.add([b"1"], hurry=True)
    assert told.wait(10)
    assert isinstance(failed[0], StorageError)
    assert "ValueError: a bug" in str(failed[0])
    courier.stop()
