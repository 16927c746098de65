"""Which kind of journal an experiment has, and that it keeps it wherever it is moved."""

from __future__ import annotations

import pytest

from holdfast._journal import Follower, last_of_ended, open_journal, read, verify
from holdfast.errors import ExperimentBusy, ExperimentNotFound, JournalError, StorageError
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from holdfast.testing.store import SimulatedStore
from journal_tools import Clock, add, born, owner, take, texts


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))


def on_a_store() -> tuple[SimulatedStorage, SimulatedStore]:
    under = SimulatedStorage()
    store = SimulatedStore(under)
    born(store)
    for word in ("one", "two"):
        journal = take(store)
        add(journal, word)
        journal.close()
    return under, store


def test_where_nothing_can_be_appended_the_journal_is_made_of_slots():
    _, store = on_a_store()
    assert store.names("journal/slots") == [f"{n:012d}" for n in (1, 2, 3, 4, 5, 6)]
    assert texts(store) == ["one", "two"]
    assert last_of_ended(store).event.order == "two"
    assert verify(store) == []


def test_a_journal_on_slots_goes_on_in_a_local_directory(tmp_path):
    under, _ = on_a_store()
    local = LocalStorage(tmp_path / "moved")
    for path, data in under.files().items():
        if path.startswith("store/"):
            local.put(path.removeprefix("store/"), data)
    follower = Follower(local)
    assert [record.position for record in follower.poll()[1]] == [0, 1, 2]
    journal = take(local)
    add(journal, "three")
    journal.close()
    assert texts(local) == ["one", "two", "three"]
    assert [record.position for record in follower.poll()[1]] == [3]
    assert not list((tmp_path / "moved/journal").glob("*.log"))


def test_a_journal_in_files_can_be_looked_at_on_a_store_and_not_driven():
    local = SimulatedStorage()
    born(local)
    journal = take(local)
    add(journal, "one")
    journal.close()
    under = SimulatedStorage()
    under.begin_with({f"store/{path}": data for path, data in local.files().items()})
    store = SimulatedStore(under)
    assert texts(store) == ["one"]
    assert verify(store) == []
    with pytest.raises(StorageError, match=r"begun on a file system.* copy it to a local directory"):
        take(store)
    assert under.log == []


def test_a_place_without_an_experiment_is_told():
    store = SimulatedStore(SimulatedStorage())
    for use in (take, lambda it: list(read(it)), last_of_ended, verify, lambda it: Follower(it).poll()):
        with pytest.raises(ExperimentNotFound):
            use(store)


@pytest.mark.parametrize("opened_by", ["beat", "slot"])
def test_a_driver_that_shows_a_sign_of_life_is_left_alone(opened_by):
    under = SimulatedStorage()
    store = SimulatedStore(under)
    born(store)
    living = take(store)
    now = 0.0

    def live():
        nonlocal now
        now += 5.0
        if opened_by == "beat":
            living.tick(now)
        else:
            add(living, now)
            living.sync()

    before = store.names("journal/slots")
    with pytest.raises(ExperimentBusy, match="pid 4242 on host elsewhere"):
        open_journal(store, owner=owner(1), clock=Clock(live), threads=False)
    assert [name for name in store.names("journal/slots") if not name.endswith("beat")][:1] == before
    add(living, "still in charge")
    living.sync()


def test_a_driver_that_shows_none_is_taken_over_from():
    store = SimulatedStore(SimulatedStorage())
    born(store)
    add(take(store), "acknowledged")
    clock = Clock()
    journal = open_journal(store, owner=owner(1), clock=clock, threads=False)
    assert 115.0 <= clock.now < 116.0
    assert journal.epoch == 2
    assert journal.previous == owner()
    assert not journal.previous_closed
    assert texts(store) == ["acknowledged"]


def test_a_closed_epoch_is_followed_at_once():
    _, store = on_a_store()
    clock = Clock()
    journal = open_journal(store, owner=owner(1), clock=clock, threads=False)
    assert clock.now == 100.0
    assert journal.previous_closed


@pytest.mark.parametrize("number", range(1, 7))
def test_a_slot_that_is_missing_or_damaged_is_refused_before_anything_is_claimed(number):
    for damage in ("missing", "flipped", "cut", "another's"):
        under, _ = on_a_store()
        path = f"store/journal/slots/{number:012d}"
        files = under.files()
        if damage == "missing":
            del files[path]
        elif damage == "another's":
            files[path] = files[f"store/journal/slots/{number % 6 + 1:012d}"]
        else:
            data = files[path]
            files[path] = data[:-1] if damage == "cut" else data[:60] + bytes([data[60] ^ 1]) + data[61:]
        found = SimulatedStorage()
        found.begin_with(files)
        store = SimulatedStore(found)
        if damage == "missing" and number == 6:
            # The last one: nothing says that it was ever there. What is left is whole, and its driver seems not to have closed.
            assert texts(store) == ["one", "two"]
            continue
        problems = verify(store)
        assert [problem.file for problem in problems] == [f"journal/slots/{number:012d}"], damage
        with pytest.raises(JournalError, match=f"{number:012d}"):
            list(read(store))
        if damage == "missing" or number == 6:
            with pytest.raises(JournalError):
                take(store)
            assert found.log == []
