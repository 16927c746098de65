from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast._worker.logs import LogReader, note_names, noted_names, open_log, parts_of, rotate, tail_of

Write = Callable[[str], None]


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


@pytest.fixture
def descriptor(log: str) -> Iterator[int]:
    """A descriptor that appends to the log, as stdout of a worker does."""
    number = os.open(os.devnull, os.O_WRONLY)
    open_log(log, number)
    yield number
    os.close(number)


@pytest.fixture
def write(descriptor: int) -> Write:
    return lambda text: (os.write(descriptor, text.encode()), None)[1]


def contents(log: str) -> list[str]:
    return [Path(part).read_text() for part in parts_of(log)]


def test_parts_move_down_and_the_oldest_goes(log: str, descriptor: int, write: Write) -> None:
    for part in "abcd":
        write(part)
        rotate(log, descriptor)
    write("e")
    assert contents(log) == ["c", "d", "e"]


def test_a_log_that_another_process_rotated_is_opened_anew(log: str, descriptor: int, write: Write) -> None:
    other = os.open(os.devnull, os.O_WRONLY)
    open_log(log, other)
    write("mine")
    rotate(log, other)
    os.write(other, b"theirs")
    rotate(log, descriptor)
    write(" and mine")
    os.close(other)
    assert contents(log) == ["mine", "theirs and mine"]


def test_a_descriptor_that_was_led_elsewhere_and_a_log_that_somebody_removed_are_left_alone(
    tmp_path: Path, log: str, descriptor: int, write: Write
) -> None:
    write("kept")
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    rotate(log, other)
    os.close(other)
    assert contents(log) == ["kept"]
    os.unlink(log)
    rotate(log, descriptor)
    assert parts_of(log) == []


def test_a_log_that_cannot_be_made_anew_is_as_it_was(
    log: str, descriptor: int, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space"):
            rotate(log, descriptor)
    write(" two")
    assert contents(log) == ["one two"]
    rotate(log, descriptor)
    write("three")
    assert contents(log) == ["one two", "three"]


def test_the_tail_reaches_back_into_older_parts(log: str, descriptor: int, write: Write) -> None:
    for part in ("0123456789", "abcdef", "xy"):
        write(part)
        if part != "xy":
            rotate(log, descriptor)
    assert [tail_of(log, size) for size in (1, 2, 5, 8, 10, 100)] == [
        "y", "xy", "defxy", "abcdefxy", "89abcdefxy", "0123456789abcdefxy",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError):
        tail_of(log + "nothing", 10)


def test_a_reader_begins_with_the_oldest_part_and_goes_on_with_what_comes(log: str, descriptor: int, write: Write) -> None:
    reader = LogReader(log + "later")
    assert reader.read(10) == b""
    reader = LogReader(log)
    write("a")
    rotate(log, descriptor)
    write("b")
    assert [reader.read(10) for _ in range(3)] == [b"a", b"b", b""]
    write("c")
    rotate(log, descriptor)
    rotate(log, descriptor)
    write("d")
    assert [reader.read(10) for _ in range(3)] == [b"c", b"d", b""]
    reader.close()


def test_a_reader_from_the_end_passes_over_what_was_there(log: str, write: Write) -> None:
    write("old")
    reader = LogReader.from_end(log)
    write("new")
    assert [reader.read(10), reader.read(10)] == [b"new", b""]
    reader.close()
    LogReader.from_end(log + "2").close()
    assert contents(log + "2") == [""]


def test_a_reader_that_was_left_behind_goes_on_with_the_oldest_that_is_left(log: str, descriptor: int, write: Write) -> None:
    write("a")
    reader = LogReader(log)
    assert reader.read(10) == b"a"
    for part in "bcde":
        rotate(log, descriptor)
        write(part)
    assert [reader.read(10) for _ in range(4)] == [b"c", b"d", b"e", b""]
    reader.close()


def test_a_newest_part_that_was_empty_and_is_removed_is_the_end(log: str, descriptor: int, write: Write) -> None:
    reader = LogReader(log)
    write("a")
    rotate(log, descriptor)
    assert [reader.read(10) for _ in range(2)] == [b"a", b""]
    os.unlink(log)
    assert reader.read(10) == b""
    reader.close()


def test_whoever_keeps_up_misses_nothing(log: str, descriptor: int, write: Write) -> None:
    seed = 5
    print("seed", seed)
    lots, reader, written, got = random.Random(seed), LogReader(log), "", b""
    for number in range(2000):
        action = lots.random()
        if action < 0.5:
            write(f"{number} ")
            written += f"{number} "
        elif action < 0.6:
            rotate(log, descriptor)
            while data := reader.read(lots.randint(1, 50)):
                got += data
        else:
            got += reader.read(lots.randint(1, 20))
    while data := reader.read(100):
        got += data
    reader.close()
    assert got.decode() == written


@pytest.mark.parametrize("damage", [None, "", "[1", "{}", '["one"]', "7"])
def test_names_that_were_noted(tmp_path: Path, damage: str | None) -> None:
    assert noted_names(str(tmp_path)) is None
    note_names(str(tmp_path), ("out", "err"))
    assert noted_names(str(tmp_path)) == ("out", "err")
    (name,) = os.listdir(tmp_path)
    if damage is not None:
        (tmp_path / name).write_text(damage)
        assert noted_names(str(tmp_path)) is None
    else:
        assert json.loads((tmp_path / name).read_text()) == ["out", "err"]
