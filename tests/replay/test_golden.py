"""Every journal ever released still replays: all records, field by field, with its snapshots and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from holdfast._core.events import Event
from holdfast._journal import Follower, read, verify
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from replay.make_golden import KINDS, SLOTS, described, story

GOLDEN = Path(__file__).parent / "golden"
JOURNALS = sorted(path for path in GOLDEN.iterdir() if path.is_dir())


def assert_has(found: object, expected: object, where: str) -> None:
    """All that was written then is there now; a field that a later version added is not looked at."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            assert name in found, f"{where}.{name}"
            assert_has(found[name], value, f"{where}.{name}")
    else:
        assert found == expected, where


def in_memory(directory: Path, without: str = "nothing") -> SimulatedStorage:
    storage = SimulatedStorage()
    root = directory / "experiment"
    paths = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    storage.begin_with({path: (root / path).read_bytes() for path in paths if without not in path})
    return storage


def test_there_are_golden_journals():
    assert {path.name for path in JOURNALS} >= {*KINDS, *SLOTS}
    assert any((path / "experiment/journal/packs").exists() for path in JOURNALS)
    assert any((path / "experiment/journal/snapshots").exists() for path in JOURNALS)
    assert any((path / "experiment/journal/cut").exists() for path in JOURNALS)


def test_the_newest_have_every_kind_of_event():
    for name in KINDS:
        expected = json.loads((GOLDEN / name / "expected.json").read_text())
        assert {record["type"] for record in expected} == {event.__name__ for event in get_args(Event)}, name


@pytest.mark.parametrize("directory", JOURNALS, ids=lambda path: path.name)
class TestEach:
    def test_every_record_reads_as_it_was_written(self, directory):
        expected = json.loads((directory / "expected.json").read_text())
        for storage in (LocalStorage(directory / "experiment"), in_memory(directory), in_memory(directory, "snapshots")):
            found = [described(record) for record in read(storage)]
            assert [record["position"] for record in found] == list(range(len(expected)))
            for record, old in zip(found, expected, strict=True):
                assert_has(record, old, f"record {old['position']} ({old['type']})")
            assert [described(record) for record in Follower(storage).poll()[1]] == found

    def test_it_is_sound(self, directory):
        assert verify(LocalStorage(directory / "experiment")) == []

    def test_the_controller_makes_of_it_what_it_made_then(self, directory):
        """A changed rule must be numbered in the record, so that an old journal is still judged by the old one."""
        told, old = story(LocalStorage(directory / "experiment")), json.loads((directory / "story.json").read_text())
        assert len(told["orders"]) == len(old["orders"])
        for now, then in zip(told["orders"], old["orders"], strict=True):
            assert now[0] == then[0]
            assert_has(now[1], then[1], then[0])
        assert (told["trials"], told["ended"]) == (old["trials"], old["ended"])
