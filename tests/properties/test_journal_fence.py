"""Two drivers, interleaved at every call of the storage: what was acknowledged is in the history, and nothing else is added."""

from __future__ import annotations

import pytest

from holdfast import faults
from holdfast._journal import Follower, Journal, read, verify
from holdfast.errors import Fenced, TuneError
from holdfast.testing.disk import SimulatedStorage
from interrupted import Interrupted
from journal_tools import add, born, take, texts

pytestmark = pytest.mark.slow


def first_driver(storage: SimulatedStorage, acknowledged: list[str]) -> None:
    """Opens, replays, appends over three segments with syncs between, and closes; stops where it is fenced."""
    try:
        journal = take(storage, segment_bytes=160)
        assert [record.position for record in journal.older()] == [*range(journal.next_position)], "no later one's"
        for batch in range(4):
            words = [f"first {batch} {n}" for n in range(2)]
            add(journal, *words)
            acknowledged += words
            if batch % 2:
                journal.sync()
    except Fenced:
        return
    journal.close()


def second_driver(storage: SimulatedStorage, acknowledged: list[str], *, closes: bool) -> Journal:
    journal = take(storage)
    add(journal, "second a", "second b")
    acknowledged += ["second a", "second b"]
    if closes:
        journal.close()
    return journal


def check(storage: SimulatedStorage, first: list[str], second: list[str]) -> None:
    history = texts(storage)
    ours = [text for text in history if text.startswith("first")]
    assert [text for text in history if text.startswith("second")] == second
    assert ours[: len(first)] == first
    # What was written and not acknowledged may be in or not; it is never behind what the second driver wrote.
    assert len(ours) <= len(first) + 2
    if second and len(ours) != len(first):
        assert history.index(ours[-1]) < history.index(second[0])
    assert not [problem for problem in verify(storage) if problem.fatal]


def calls_of_the_first() -> int:
    storage = Interrupted()
    born(storage)
    storage.calls = 0
    first_driver(storage, [])
    return storage.calls


@pytest.mark.parametrize("closes", [False, True])
def test_a_takeover_at_every_call_of_the_first_driver(closes: bool) -> None:
    for at in range(1, calls_of_the_first() + 1):
        storage = Interrupted()
        born(storage)
        follower = Follower(storage)
        follower.poll()
        first: list[str] = []
        second: list[str] = []
        followed: list[tuple[bool, list]] = []

        def other(storage=storage, second=second, follower=follower, followed=followed) -> None:
            followed.append(follower.poll())
            second_driver(storage, second, closes=closes)

        storage.calls, storage.at, storage.other = 0, at, other
        first_driver(storage, first)
        assert len(second) == 2, f"the second driver did not run at call {at}"
        check(storage, first, second)
        heirs = take(storage)
        add(heirs, "third")
        assert texts(storage)[-1] == "third"
        followed.append(follower.poll())
        seen: list[object] = []
        for reset, records in followed:
            seen = records if reset else seen + records
        assert [record.event for record in seen] == [record.event for record in read(heirs.storage, after=0)]


def test_two_openers_interleaved_at_every_call() -> None:
    """The epochs before hold a torn tail, so that both have something to seal."""

    def prepared() -> Interrupted:
        storage = Interrupted()
        born(storage)
        journal = take(storage)
        add(journal, "old 1")
        journal.sync()
        add(journal, "old 2")
        SimulatedStorage.append(storage, "journal/00000001-0000.log", b"torn in the middle")
        storage.calls = 0
        return storage

    count = prepared()
    take(count)
    for at in range(1, count.calls + 1):
        storage = prepared()
        winner: list[Journal] = []
        storage.at, storage.other = at, lambda storage=storage, winner=winner: winner.append(take(storage))
        try:
            loser = take(storage)
            add(loser, "from the interrupted opener")
            wrote = True
        except Fenced:
            wrote = False
        second_wrote = True
        try:
            add(winner[0], "from the other")
        except Fenced:
            second_wrote = False
        expected = ["old 1", "old 2"] + ["from the interrupted opener"] * wrote + ["from the other"] * second_wrote
        assert texts(storage) == expected
        assert wrote + second_wrote == 1


@pytest.mark.parametrize("point", ["before_write", "in_write", "after_write", "after_claim_check"])
def test_a_fenced_writer_that_wakes_up_adds_nothing(point: str) -> None:
    storage = SimulatedStorage()
    born(storage)
    old = take(storage)
    add(old, "acknowledged")
    second: list[str] = []
    heirs: list[Journal] = []

    def asleep() -> None:
        faults.disarm()
        heirs.append(second_driver(storage, second, closes=False))

    faults.arm(point, asleep)
    acknowledged = True
    try:
        add(old, "late")
    except Fenced:
        acknowledged = False
    assert acknowledged == (point == "after_claim_check")
    written = point in {"after_write", "after_claim_check"}
    assert texts(storage) == ["acknowledged"] + ["late"] * written + second
    with pytest.raises(Fenced):
        add(old, "later still")
    old.close()
    assert texts(storage) == ["acknowledged"] + ["late"] * written + second
    assert len(heirs[0].cuts) == (point == "in_write")


@pytest.mark.parametrize("point", ["after_claim", "before_seal", "after_seal"])
def test_an_opener_that_is_overtaken_is_fenced(point: str) -> None:
    storage = SimulatedStorage()
    born(storage)
    add(take(storage), "one")
    others: list[Journal] = []

    def overtake() -> None:
        faults.disarm()
        others.append(take(storage))

    faults.arm(point, overtake)
    with pytest.raises(Fenced):
        take(storage)
    add(others[0], "two")
    assert texts(storage) == ["one", "two"]


def test_an_opener_that_died_after_its_claim_is_passed_over() -> None:
    storage = SimulatedStorage()
    born(storage)
    add(take(storage), "one")

    class Died(TuneError):
        pass

    def die() -> None:
        raise Died

    for point in ("after_claim", "before_seal", "after_seal"):
        faults.arm(point, die)
        with pytest.raises(Died):
            take(storage)
        faults.disarm()
    journal = take(storage)
    assert journal.epoch == 5
    add(journal, "two")
    assert texts(storage) == ["one", "two"]


@pytest.fixture(autouse=True)
def nothing_armed():
    yield
    faults.disarm()
