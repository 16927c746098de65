"""How many requests taking charge and replaying take: on a store each costs its time, and money."""

from __future__ import annotations

import pytest

from holdfast._core.events import Woke
from holdfast._journal.slots.packing import PACK_AT
from holdfast.testing.disk import SimulatedStorage
from holdfast.testing.store import SimulatedStore
from journal_tools import add, born, take

pytestmark = pytest.mark.slow


def test_a_restore_makes_few_however_long_the_journal_is() -> None:
    """At each of many moments a driver is killed, and the next one reads all that there is."""
    under = SimulatedStorage()
    store = SimulatedStore(under)
    journal = take(born(store))
    counts = []
    for number in range(4000):
        add(journal, number)
        journal.tick(10.0 * number)
        journal.tick(10.0 * number + 2)  # puts it, and packs when that is due
        if number < 4000 - 3 * PACK_AT:
            continue
        found = SimulatedStorage()
        found.begin_with(under.files())
        again = SimulatedStore(found)
        heir = take(again)
        words = [record.event.order for record in heir.older() if isinstance(record.event, Woke)]
        assert words == [str(n) for n in range(number + 1)]
        counts.append(again.requests)
    assert max(counts) <= 42, counts
    assert sum(counts) / len(counts) <= 29, counts


def test_looking_whether_one_is_in_charge_takes_one() -> None:
    store = SimulatedStore(SimulatedStorage())
    journal = take(born(store))
    before = store.requests
    assert journal.in_charge()
    assert store.requests == before + 1
