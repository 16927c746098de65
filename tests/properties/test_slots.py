"""The journal on slots, on a simulated store: crashed at every operation, with every reply lost, two drivers at every request."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import pytest

from holdfast import faults
from holdfast._core.events import Woke
from holdfast._journal import Follower, Journal, last_of_ended, read, verify
from holdfast._journal.slots import packing
from holdfast._journal.slots.chain import Chain
from holdfast._journal.slots.packing import PACK_AT
from holdfast._journal.slots.slot import HINT, Slot, encode, slot_path
from holdfast.errors import Fenced, StorageError
from holdfast.storage.uri import place_key
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.store import SimulatedStore, without_machine
from journal_tools import EXPERIMENT, add, born, owner, take, texts

pytestmark = pytest.mark.slow


class Told:
    """What a driver was promised: acknowledged words, and how many of them were durable; with the log's length at each."""

    def __init__(self, under: SimulatedStorage) -> None:
        self.under = under
        self.acknowledged: list[tuple[int, str]] = []
        self.durable: list[tuple[int, int]] = []

    def add(self, journal: Journal, *words: str) -> None:
        add(journal, *words)
        self.acknowledged += [(len(self.under.log), word) for word in words]

    def sync(self, journal: Journal) -> None:
        journal.sync()
        self.durable.append((len(self.under.log), len(self.acknowledged)))

    def by(self, at: int) -> tuple[list[str], int]:
        """The words that were acknowledged, and how many were durable, before operation `at`."""
        return [word for when, word in self.acknowledged if when <= at], max(
            (n for when, n in self.durable if when <= at), default=0
        )


def drive(store: SimulatedStore, told: Told, *, batches: int = 4, name: str = "first", closes: bool = True) -> None:
    journal = take(store)
    assert [record.position for record in journal.older()] == [*range(journal.next_position)], "no later one's"
    for batch in range(batches):
        told.add(journal, *(f"{name} {batch} {n}" for n in range(2)))
        if batch % 2:
            told.sync(journal)
        else:
            journal.tick(10.0 * batch)
            journal.tick(10.0 * batch + 2)  # puts what waits, then packs if that is due
    if closes:
        journal.close()


def new() -> tuple[SimulatedStorage, SimulatedStore]:
    under = SimulatedStorage()
    store = SimulatedStore(under)
    born(store)
    return under, store


def found(files: dict[str, bytes]) -> SimulatedStore:
    under = SimulatedStorage()
    under.begin_with(files)
    return SimulatedStore(under)


def quietly(store: SimulatedStore) -> Journal:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return take(store)


@pytest.mark.parametrize("mode", ["kill", "power", "machine lost"])
@pytest.mark.parametrize("batches", [4, 2 * PACK_AT + 6])
def test_a_crash_at_every_operation(mode: str, batches: int) -> None:
    under, store = new()
    begun = len(under.log)
    told = Told(under)
    drive(store, told, batches=batches, closes=False)
    drive(store, told, batches=batches, name="second")
    for at in range(begun, len(under.log) + 1):
        image = crash(under, at, random.Random(at), "kill" if mode == "kill" else "power").files()
        again = found(without_machine(image) if mode == "machine lost" else image)
        acknowledged, durable = told.by(at)
        before = texts(again)
        heir = take(again)
        add(heir, "heir")
        heir.sync()
        history = texts(again)
        assert history[-1] == "heir"
        kept = history[:-1]
        written = [word for _, word in told.acknowledged]
        assert kept == written[: len(kept)]
        assert kept[: len(before)] == before
        assert len(kept) >= (len(acknowledged) if mode == "kill" else durable), (at, kept, acknowledged)
        assert len(kept) <= len(acknowledged) + 2
        assert verify(again) == []
        spools = [path for path in again.disk.names(f"spool/{EXPERIMENT}-{place_key(again.uri)}") if path.endswith(".log")]
        assert [int(path[:8]) for path in spools] == [heir.epoch]


@pytest.mark.parametrize("fate", ["before", "after"])
def test_a_store_that_fails_at_every_request_ends_the_driver_and_loses_nothing(fate: str) -> None:
    under, count = new()
    drive(count, Told(under), batches=PACK_AT + 4)
    for at in range(2, count.requests + 1):
        under, store = new()
        told = Told(under)
        store.fate = lambda number, what, at=at: fate if number == at else ""
        try:
            drive(store, told, batches=PACK_AT + 4)
        except StorageError:
            failed = True
        else:
            failed = False
        assert failed, at
        store.fate = lambda number, what: ""
        heir = take(store)
        add(heir, "heir")
        heir.close()
        history = texts(store)
        acknowledged = [word for _, word in told.acknowledged]
        assert history[-1] == "heir"
        assert history[:-1][: len(acknowledged)] == acknowledged
        assert len(history) <= len(acknowledged) + 3
        assert verify(store) == []


class Interrupting(SimulatedStore):
    """Runs `other` just before request `at`, once, or just after it was carried out."""

    def __init__(self, under: SimulatedStorage) -> None:
        super().__init__(under)
        self.at = -1
        self.other: Callable[[], None] = lambda: None

    def _request(self, what: str) -> bool:
        lost = super()._request(what)
        if self.requests == self.at:
            self.at = -1
            self.other()
        return lost


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_takeover_at_every_request_of_the_first_driver(closes: bool, elsewhere: bool) -> None:
    """The second driver is on the same machine, or on another, where nothing of the first one's spool is to be seen."""
    under, _ = new()
    count = Interrupting(under)
    drive(count, Told(under), batches=PACK_AT + 6)
    assert count.requests > 50
    for at in range(1, count.requests + 1):
        under, _ = new()
        store = Interrupting(under)
        told, second = Told(under), Told(under)
        follower = Follower(store)
        seen = follower.poll()[1]
        other_store = SimulatedStore(under)
        if elsewhere:
            other_store.disk = SimulatedStorage()

        def other(told=second, other_store=other_store, follower=follower, seen=seen) -> None:
            seen += follower.poll()[1]
            journal = quietly(other_store)
            told.add(journal, "second a", "second b")
            told.sync(journal)
            if closes:
                journal.close()

        store.requests, store.at, store.other = 0, at, other
        fenced = False
        try:
            drive(store, told, batches=PACK_AT + 6)
        except Fenced:
            fenced = True
        history = texts(other_store)
        assert [word for word in history if word.startswith("second")] == ["second a", "second b"], at
        mine = [word for word in history if word.startswith("first")]
        acknowledged = [word for _, word in told.acknowledged]
        durable = told.by(len(under.log))[1]
        assert mine == [f"first {batch} {n}" for batch in range(PACK_AT + 6) for n in range(2)][: len(mine)]
        assert len(mine) >= (durable if elsewhere else len(acknowledged)), at
        if mine and history.index("second a") < history.index(mine[-1]):
            assert not fenced  # the first came after the second: it opened anew behind it
        heir = quietly(other_store)
        add(heir, "third")
        heir.close()
        assert texts(other_store)[-1] == "third"
        seen += follower.poll()[1]
        assert seen == list(read(other_store))
        assert verify(other_store) == []
        assert last_of_ended(other_store).event == Woke("third")


def test_two_openers_interleaved_at_every_request() -> None:
    def prepared() -> tuple[SimulatedStorage, Interrupting]:
        under, _ = new()
        store = Interrupting(under)
        journal = take(store)
        add(journal, "old 1")
        journal.sync()
        add(journal, "old 2")
        store.requests = 0
        return under, store

    _, count = prepared()
    take(count)
    for at in range(1, count.requests + 1):
        under, store = prepared()
        winner: list[Journal] = []
        other_store = SimulatedStore(under)

        def other(winner=winner, other_store=other_store) -> None:
            winner.append(take(other_store))

        store.at, store.other = at, other
        later = take(store)
        outcomes = []
        for journal, word in ((winner[0], "from the other"), (later, "from the interrupted opener")):
            try:
                add(journal, word)
                journal.sync()
                outcomes.append(word)
            except Fenced:
                pass
        assert texts(store) == ["old 1", "old 2", *outcomes], at
        assert len(outcomes) == 1, at


def test_an_opener_that_slept_through_a_packing_claims_no_freed_number() -> None:
    """The number that it had found free is written, packed and so free again: that claim counts for nothing."""
    under, _ = new()
    driver_store, sleeper_store = SimulatedStore(under), Interrupting(under)
    driver = take(driver_store)
    follower = Follower(driver_store)

    def meanwhile() -> None:
        for number in range(PACK_AT + 10):
            add(driver, number)
            driver.sync()
        driver.compact()

    sleeper_store.fate = lambda number, what: (
        setattr(sleeper_store, "at", number) or "" if what == "put_if_absent journal/slots/000000000002" else ""
    )
    sleeper_store.other = meanwhile
    sleeper_store.disk = SimulatedStorage()
    later = take(sleeper_store)
    assert later.epoch == 2
    assert texts(sleeper_store) == [str(number) for number in range(PACK_AT + 10)]
    with pytest.raises(Fenced):
        add(driver, "lost")
        driver.sync()
    add(later, "mine")
    later.close()
    assert texts(sleeper_store)[-1] == "mine"
    assert follower.poll()[1] == list(read(sleeper_store))
    assert verify(sleeper_store) == []


def test_an_opener_that_slept_and_died_leaves_nothing_that_counts() -> None:
    _, store = new()
    driver = take(store)
    add(driver, "one")
    driver.sync()
    follower = Follower(store)
    seen = follower.poll()[1]
    for number in range(PACK_AT):
        add(driver, number)
        driver.sync()
    driver.compact()
    assert store.put_if_absent(slot_path(3), sleeper_claim(3, first=2))
    seen += follower.poll()[1]
    assert seen == list(read(store))
    assert texts(store) == ["one", *map(str, range(PACK_AT))]
    heir = take(store)
    assert heir.epoch == 2
    add(heir, "two")
    heir.close()
    assert texts(store)[-1] == "two"
    heir = take(store)
    heir.compact()
    assert not store.exists(slot_path(3))
    assert store.exists(slot_path(1))


@pytest.mark.parametrize("number", [2, 5, 9])
def test_a_reader_between_two_requests_believes_no_claim_of_a_sleeper(number: int) -> None:
    under, store = new()
    driver = take(store)
    for word in range(10):
        add(driver, word)
        driver.sync()
    reader = Interrupting(under)

    def meanwhile() -> None:
        assert packing.pack(Chain(store), 10) == 10
        assert store.put_if_absent(slot_path(number), sleeper_claim(number, first=number - 1))

    asked = f"read {slot_path(number)}"
    reader.fate = lambda at, what: setattr(reader, "at", at) or "" if what == asked and not store.exists(HINT) else ""
    reader.other = meanwhile
    assert texts(reader) == list(map(str, range(10)))


def test_two_that_pack_at_once_do_not_pack_what_a_sleeper_left() -> None:
    under, store = new()
    driver = take(store)
    for number in range(10):
        add(driver, number)
        driver.sync()
    slower = Interrupting(under)

    def meanwhile() -> None:
        assert packing.pack(Chain(store), 9) == 9
        assert store.put_if_absent(slot_path(9), sleeper_claim(9, first=8))

    slower.fate = lambda number, what: setattr(slower, "at", number) or "" if what == f"read {slot_path(9)}" else ""
    slower.other = meanwhile
    assert packing.pack(Chain(slower), 9) == 0
    assert texts(store) == list(map(str, range(10)))
    assert verify(store) == []


def sleeper_claim(number: int, first: int) -> bytes:
    return encode(Slot(number, 2, number, first, [], "nonce", owner()), EXPERIMENT)


@pytest.mark.parametrize("point", ["before_write", "after_write", "after_claim_check"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_fenced_writer_that_wakes_up_adds_nothing(point: str, elsewhere: bool) -> None:
    under, store = new()
    old = take(store)
    add(old, "acknowledged")
    old.sync()
    other_store = SimulatedStore(under)
    if elsewhere:
        other_store.disk = SimulatedStorage()
    heirs: list[Journal] = []

    def asleep() -> None:
        faults.disarm()
        heirs.append(take(other_store))
        add(heirs[0], "second")
        heirs[0].sync()

    faults.arm(point, asleep)
    acknowledged = True
    try:
        add(old, "late")
    except Fenced:
        acknowledged = False
    # On the same machine the fence is seen before the row is acknowledged; elsewhere, with the next put.
    assert acknowledged == (elsewhere or point == "after_claim_check")
    written = not elsewhere and point != "before_write"
    assert texts(store) == ["acknowledged"] + ["late"] * written + ["second"]
    with pytest.raises(Fenced):
        add(old, "later still")
        old.sync()
    old.close()
    assert texts(store) == ["acknowledged"] + ["late"] * written + ["second"]


def test_what_a_machine_acknowledged_and_another_could_not_see_is_kept_aside_and_told() -> None:
    under, store = new()
    here = take(store)
    add(here, "on the store")
    here.sync()
    add(here, "only here")
    other = SimulatedStore(under)
    other.disk = SimulatedStorage()
    add(take(other), "elsewhere")
    take(other).close()
    with pytest.warns(UserWarning, match=r"1 records of epoch 1 were acknowledged on this machine and never reached .* kept in"):
        heir = take(store)
    heir.close()
    assert texts(store) == ["on the store", "elsewhere"]
    kept = [path for path in under.files() if path.startswith("machine/kept/")]
    assert len(kept) == 1
    assert b"only here" in under.files()[kept[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take(store).close()  # and told once


def test_a_spool_of_another_copy_of_the_experiment_is_left_alone() -> None:
    under, store = new()
    add(take(store), "both have it")
    take(store).close()
    copied = {path: data for path, data in under.files().items() if path.startswith("store/")}
    add(take(store), "only the original")
    twin_under = SimulatedStorage()
    twin_under.begin_with(copied)
    twin = SimulatedStore(twin_under)
    twin.disk = store.disk
    heir = take(twin)
    add(heir, "only the copy")
    heir.close()
    assert texts(twin) == ["both have it", "only the copy"]
    take(store).close()
    assert texts(store) == ["both have it", "only the original"]


@pytest.fixture(autouse=True)
def nothing_armed():
    yield
    faults.disarm()
