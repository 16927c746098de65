from __future__ import annotations

import pytest

from holdfast._journal import verify
from holdfast.errors import ExperimentNotFound
from holdfast.testing.disk import SimulatedStorage
from journal_tools import add, born, take


def test_all_damage_is_told_at_once_and_nothing_is_written():
    storage = born(SimulatedStorage())
    for n in range(4):
        journal = take(storage)
        add(journal, f"{n}", "and more")
        journal.close()
    last = take(storage)
    add(last, "x")
    last.sync()
    last.save_snapshot(1, last.durable, b"state")
    add(last, "y")
    assert verify(storage) == []
    files = storage.files()
    second, fourth, fifth = (f"journal/0000000{n}-0000.log" for n in (2, 4, 5))
    [snapshot] = [path for path in files if "snapshots" in path]
    files[second] = files[second][:60] + b"??" + files[second][62:]
    del files[fourth]
    files[fifth] += b"torn"
    files[snapshot] = b""
    broken = SimulatedStorage()
    broken.begin_with(files)
    problems = verify(broken)
    assert [(problem.file, problem.fatal) for problem in problems] == [
        (second, True),
        (fourth, True),
        (fifth, False),
        (snapshot, False),
    ]
    assert [problem.offset for problem in problems] == [52, 0, len(files[fifth]) - 4, 0]
    assert all(problem.problem and problem.remedy for problem in problems)
    assert broken.log == []


def test_nothing_there_is_no_sound_journal():
    with pytest.raises(ExperimentNotFound):
        verify(SimulatedStorage())
