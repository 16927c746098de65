from __future__ import annotations

import pytest

from holdfast._journal.slots.spool import Spool, SpoolName, spooled, take
from holdfast.errors import StorageError
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage

NAME = SpoolName("0123456789abcdef" * 2, "00abcdef", 3, "f" * 32)


def logs(disk):
    return [name for name in disk.names(NAME.folder) if name.endswith(".log")]


def test_what_is_appended_is_found_behind_any_position(tmp_path):
    disk = LocalStorage(tmp_path)
    spool = Spool(disk, NAME, "the place", 17, 100)
    spool.append([b"a", b"b"], 17)
    spool.append([b"c"], 18)
    assert spooled(disk, NAME, 99)[0] == [b"a", b"b", b"c"]
    assert spooled(disk, NAME, 101)[0] == [b"c"]
    assert spooled(disk, NAME, 102)[0] == []
    assert spooled(disk, NAME, 98)[0] == []  # a record between is nowhere
    assert spooled(disk, NAME._replace(epoch=4), 99) == ([], [])
    assert spooled(disk, NAME._replace(nonce="e" * 32), 99) == ([], [])
    assert logs(disk) == ["00000003-ffffffffffffffff-000000000017.log"]
    spool.close(remove=True)
    assert disk.names(NAME.folder) == []


def test_a_full_file_goes_when_the_store_has_all_of_it(tmp_path):
    disk = LocalStorage(tmp_path)
    spool = Spool(disk, NAME, "the place", 1, 0)
    records = [bytes([n]) * (5 << 20) for n in range(5)]
    for n, record in enumerate(records):
        spool.append([record], 1 + n)
    assert [name[26:38] for name in logs(disk)] == ["000000000001", "000000000003", "000000000005"]
    spool.forget(0)
    assert len(logs(disk)) == 3
    assert spooled(disk, NAME, -1)[0] == records
    spool.forget(1)
    assert len(logs(disk)) == 2
    assert spooled(disk, NAME, 1)[0] == records[2:]
    spool.close(remove=False)
    assert len(logs(disk)) == 2


def test_what_a_power_cut_has_left_reads_up_to_the_first_damage():
    disk = SimulatedStorage()
    spool = Spool(disk, NAME, "the place", 1, 0)
    spool.append([b"first", b"second", b"third"], 1)
    (path,) = spooled(disk, NAME, -1)[1]
    whole = disk.read(path)
    for cut in range(len(whole)):
        found = SimulatedStorage()
        found.begin_with({path: whole[:cut]})
        assert spooled(found, NAME, -1)[0] in ([], [b"first"], [b"first", b"second"])
        found = SimulatedStorage()
        found.begin_with({path: whole[:cut] + bytes(len(whole) - cut)})
        assert spooled(found, NAME, -1)[0] in ([], [b"first"], [b"first", b"second"])


def test_a_full_disk_is_told():
    disk = SimulatedStorage()
    spool = Spool(disk, NAME, "the place", 1, 0)
    disk.fill(10)
    with pytest.raises(StorageError, match="Free some space, then restore"):
        spool.append([b"more than there is room for"], 1)
    disk.fill(0)
    with pytest.raises(StorageError, match=r"Free some space|no space left"):
        Spool(disk, NAME, "the place", 2, 0)


def test_it_is_taken_once_and_for_all(tmp_path):
    disk = LocalStorage(tmp_path)
    spool = Spool(disk, NAME, "the place", 1, 0)
    assert not spool.taken()
    take(disk, NAME)
    take(disk, NAME)
    assert spool.taken()
    assert not Spool(disk, NAME._replace(epoch=4), "the place", 1, 0).taken()
