"""Every file cut at every byte and every byte changed: recovered up to the damage, or refused; never passed over."""

from __future__ import annotations

import random

import pytest

from holdfast._journal import Follower, create, read, verify
from holdfast._journal.frame import HEADER_SIZE
from holdfast.errors import ExperimentNotFound, JournalError, JournalTooNew
from holdfast.testing.disk import SimulatedStorage, crash
from journal_tools import EXPERIMENT, add, birth, born, take, texts

pytestmark = pytest.mark.slow

SEGMENT = "journal/00000001-0000.log"


def with_files(files: dict[str, bytes]) -> SimulatedStorage:
    storage = SimulatedStorage()
    storage.begin_with(files)
    return storage


def unsealed() -> tuple[dict[str, bytes], int, list[tuple[int, str]]]:
    """A journal whose driver vanished: its files, how far a mark covers, and where each record's frame ends."""
    storage = SimulatedStorage()
    born(storage)
    journal = take(storage)
    ends: list[tuple[int, str]] = []
    covered = 0
    for n in range(6):
        add(journal, f"{n}")
        ends.append((len(storage.read(SEGMENT)), f"{n}"))
        if n == 2:
            covered = len(storage.read(SEGMENT))
            journal.sync()
    return storage.files(), covered, ends


def finished() -> SimulatedStorage:
    """Two drivers, the first of which vanished, the second closed over two segments."""
    storage = SimulatedStorage()
    born(storage)
    first = take(storage)
    add(first, "a")
    first.sync()
    add(first, "b", "c")
    second = take(storage, segment_bytes=150)
    for n in range(4):
        add(second, f"{n}")
    second.close()
    return storage


def test_a_vanished_drivers_journal_cut_at_every_byte() -> None:
    files, _, ends = unsealed()
    whole = files[SEGMENT]
    for size in range(len(whole)):
        storage = with_files({**files, SEGMENT: whole[:size]})
        expected = [text for end, text in ends if end <= size]
        assert texts(storage) == expected
        journal = take(storage)
        add(journal, "after")
        assert texts(storage) == [*expected, "after"]


def test_a_vanished_drivers_journal_with_every_byte_changed() -> None:
    seed = 5
    print("seed", seed)
    rng = random.Random(seed)
    files, covered, ends = unsealed()
    whole = files[SEGMENT]
    for at in range(len(whole)):
        for change in {1 << rng.randrange(8), 0xFF, rng.randrange(1, 256)}:
            changed = bytearray(whole)
            changed[at] ^= change
            storage = with_files({**files, SEGMENT: bytes(changed)})
            if at < covered:
                with pytest.raises(JournalError) as caught:
                    list(read(storage))
                assert caught.value.file == SEGMENT
                assert caught.value.offset <= at
                with pytest.raises(JournalError):
                    take(storage)
                assert storage.log == []  # refused before anything was claimed
                assert [problem.fatal for problem in verify(storage)] == [True]
                follower = Follower(storage)
                with pytest.raises(JournalError):
                    follower.poll()
                continue
            expected = [text for end, text in ends if end <= at]
            assert texts(storage) == expected
            assert [problem.fatal for problem in verify(storage)] == [False]
            journal = take(storage)
            [cut] = journal.cuts
            assert (cut.file, cut.offset + cut.size) == (SEGMENT, len(whole))
            assert storage.read(f"journal/cut/00000001-0000-{cut.offset}") == bytes(changed[cut.offset :])
            add(journal, "after")
            assert texts(storage) == [*expected, "after"]
            assert verify(storage) == []


def test_a_finished_journal_is_refused_wherever_a_byte_that_counts_changes_or_is_missing() -> None:
    storage = finished()
    files = storage.files()
    history = texts(storage)
    counting = [path for path in files if not path.endswith(".beat")]
    assert len(counting) == len(["birth", "two claims", "", "two seals", "", "three segments", "", ""])
    covered = {path: len(data) for path, data in files.items()}
    covered[SEGMENT] = covered_by_seal(storage)
    for path in counting:
        for at in range(covered[path]):
            for damaged in (files[path][:at], files[path][:at] + bytes([files[path][at] ^ 0x10]) + files[path][at + 1 :]):
                broken = with_files({**files, path: damaged})
                with pytest.raises(JournalError) as caught:
                    take(broken)
                    list(read(broken))
                assert caught.value.file
                assert any(problem.fatal for problem in verify(broken)), (path, at)
        # Behind what the seal says to count, nothing is ever read again.
        for at in range(covered[path], len(files[path])):
            assert texts(with_files({**files, path: files[path][:at]})) == history


def covered_by_seal(storage: SimulatedStorage) -> int:
    from holdfast._journal.ledger import Ledger

    seal = Ledger(storage).seal(1)
    assert seal is not None
    assert HEADER_SIZE < seal.covered < len(storage.read(SEGMENT))
    return seal.covered


def test_a_missing_file_is_refused() -> None:
    files = finished().files()
    for path in files:
        if path.endswith(".beat"):
            continue
        broken = with_files({name: data for name, data in files.items() if name != path})
        if path == "journal/epochs/00000002.seal":
            # As if its driver had died after its last sync: nothing that counts is missing.
            assert texts(broken) == texts(with_files(files))
            continue
        if path == "journal/birth":
            with pytest.raises(ExperimentNotFound):
                list(read(broken))
            continue
        with pytest.raises(JournalError):
            take(broken)
            list(read(broken))


def test_a_file_of_another_experiment_is_refused() -> None:
    mine = finished().files()
    other = SimulatedStorage()
    assert create(other, birth(EXPERIMENT[::-1]), 1.0)
    journal = take(other)
    add(journal, "a")
    journal.sync()
    add(journal, "b", "c")
    second = take(other, segment_bytes=150)
    for n in range(4):
        add(second, f"{n}")
    second.close()
    for path, data in other.files().items():
        if path.endswith(".beat"):
            continue
        broken = with_files({**mine, path: data})
        with pytest.raises(JournalError):
            take(broken)
            list(read(broken))


def test_files_of_one_experiment_in_each_others_place_are_refused() -> None:
    files = finished().files()
    paths = [path for path in files if not path.endswith(".beat")]
    for path in paths:
        for other in paths:
            if path == other:
                continue
            broken = with_files({**files, path: files[other]})
            with pytest.raises(JournalError):
                take(broken)
                list(read(broken))


def test_a_newer_format_is_told_from_damage() -> None:
    import struct
    import zlib

    files, _, _ = unsealed()
    header = bytearray(files[SEGMENT][:HEADER_SIZE])
    struct.pack_into("<H", header, 8, 2)
    struct.pack_into("<I", header, HEADER_SIZE - 4, zlib.crc32(header[:-4]))
    newer = bytes(header) + files[SEGMENT][HEADER_SIZE:]
    with pytest.raises(JournalTooNew, match="Upgrade"):
        take(with_files({**files, SEGMENT: newer}))
    claim = bytearray(files["journal/epochs/00000001"])
    struct.pack_into("<H", claim, 8, 2)
    struct.pack_into("<I", claim, 27, zlib.crc32(claim[31:], zlib.crc32(claim[:27])))
    with pytest.raises(JournalTooNew, match="Upgrade"):
        take(with_files({**files, "journal/epochs/00000001": bytes(claim)}))


def test_random_pages_lost_behind_the_last_mark_recover_all_before_it() -> None:
    for seed in range(60):
        print("seed", seed)
        rng = random.Random(seed)
        storage = SimulatedStorage()
        born(storage)
        journal = take(storage)
        words = [f"{n} {'y' * rng.randrange(6000)}" for n in range(12)]
        synced = rng.randrange(12)
        for n, word in enumerate(words):
            add(journal, word)
            if n == synced:
                journal.sync()
        found = crash(storage, len(storage.log), rng, "power")
        kept = texts(found)
        assert kept == words[: len(kept)]
        assert len(kept) > synced
        heir = take(found)
        add(heir, "after")
        assert texts(found) == [*kept, "after"]
