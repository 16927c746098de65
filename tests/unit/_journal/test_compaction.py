from __future__ import annotations

import pytest

from holdfast._journal import Follower, read, verify
from holdfast._journal.compaction import PACK_AT
from holdfast.errors import JournalError
from holdfast.testing.disk import SimulatedStorage
from journal_tools import add, born, take, texts


def lived(epochs: int) -> SimulatedStorage:
    """Some drivers closed, some vanished with a tail behind their mark, some wrote nothing, one wrote several segments."""
    storage = born(SimulatedStorage())
    for n in range(epochs):
        journal = take(storage, segment_bytes=150 if n == 5 else 1 << 20)
        journal.tick(0.0)
        for m in range(n % 4):
            add(journal, f"{n} {m}")
            if m == 1:
                journal.sync()
        if n == 5:
            add(journal, "long " * 30)
            add(journal, "short")
        if n % 3 == 0:
            journal.close()
    return storage


def test_packing_keeps_every_record_and_both_ways_of_reading():
    storage = lived(10)
    journal = take(storage)
    history = list(read(storage))
    follower = Follower(storage)
    seen = follower.poll()[1]
    segments = [name for name in storage.names("journal") if name.endswith(".log")]
    assert journal.compact() == 9  # all but the one of several segments
    assert len([name for name in storage.names("journal") if name.endswith(".log")]) == len(segments) - 9
    assert list(read(storage)) == history == seen == Follower(storage).poll()[1]
    for after in range(len(history)):
        assert list(read(storage, after)) == history[after + 1 :]
    assert journal.compact() == 0
    assert verify(storage) == []
    add(journal, "after")
    assert texts(take(storage).storage)[-1] == "after"
    assert follower.poll()[1][-1].event.order == "after"


def test_claims_and_seals_stay():
    storage = lived(4)
    journal = take(storage)
    journal.compact()
    names = storage.names("journal/epochs")
    assert [name for name in names if "." not in name] == [f"{n:08d}" for n in range(1, 6)]
    assert [name for name in names if name.endswith(".seal")] == [f"{n:08d}.seal" for n in range(1, 5)]
    assert [name for name in names if name.endswith(".beat")] == ["00000005.beat"]


def test_opening_packs_when_enough_are_there():
    storage = lived(PACK_AT + 1)
    take(storage)
    assert storage.names("journal/packs") == [f"00000001-{PACK_AT + 1:08d}.pack"]


def test_a_pack_that_does_not_read_is_refused():
    storage = lived(6)
    take(storage).compact()
    files = storage.files()
    [name] = storage.names("journal/packs")
    path = f"journal/packs/{name}"
    history = texts(storage)
    for at in range(len(files[path])):
        broken = SimulatedStorage()
        broken.begin_with({**files, path: files[path][:at] + bytes([files[path][at] ^ 4]) + files[path][at + 1 :]})
        with pytest.raises(JournalError) as caught:
            list(read(broken))
        assert caught.value.file == path
        assert path in [problem.file for problem in verify(broken) if problem.fatal]
    assert texts(storage) == history


def test_a_damaged_segment_is_not_packed():
    storage = lived(4)
    journal = take(storage)
    path = "journal/00000004-0000.log"
    storage.put(path, storage.read(path)[:70])
    with pytest.raises(JournalError):
        journal.compact()
    assert storage.exists(path)
