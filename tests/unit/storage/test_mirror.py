"""Local files that go on to a store: which, when, and what a killed mirror leaves to the next one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast._worker.outgoing import outgoing
from holdfast.errors import StorageError
from holdfast.storage.local import LocalStorage
from holdfast.storage.mirror import Mirror, Tree


class Counting(LocalStorage):
    """A store that says what was put."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[str] = []
        self.refuse = ""

    def put(self, path: str, data: bytes) -> None:
        if path == self.refuse:
            raise StorageError(5, "refused")
        self.puts.append(path)
        super().put(path, data)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "store")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here" / "a").mkdir(parents=True)
    return tmp_path / "here"


def mirror_of(store: Counting, here: Path, tree: Tree | None = None, **more) -> Mirror:
    tree = tree or Tree(str(here), lambda _: True)
    return Mirror(store, [tree], str(here.parent / "sent"), more.pop("in_charge", lambda: True), **more)


def passed(mirror: Mirror) -> Mirror:
    mirror._pass([0])
    return mirror


def test_what_has_changed_is_put_and_nothing_else(store: Counting, here: Path) -> None:
    (here / "a" / "x").write_text("1")
    (here / "top").write_text("2")
    mirror = mirror_of(store, here)
    mirror.look_at("a")
    passed(mirror)
    assert sorted(store.puts) == ["a/x", "top"]
    passed(mirror)
    (here / "a" / "x").write_text("12")
    passed(mirror)
    assert sorted(store.puts) == ["a/x", "a/x", "top"]
    assert store.read("a/x") == b"12"


def test_an_empty_log_replaces_none_that_another_machine_has_put(store: Counting, here: Path) -> None:
    store.put("logs/1.log", b"printed elsewhere")
    (here / "logs").mkdir()
    (here / "logs" / "1.log").touch()
    mirror = Mirror(store, outgoing(str(here), None, None), str(here.parent / "sent"), lambda: True)
    mirror.look_at("logs")
    passed(mirror)
    assert store.read("logs/1.log") == b"printed elsewhere"
    (here / "logs" / "1.log").write_text("printed here")
    passed(mirror)
    assert store.read("logs/1.log") == b"printed here"


def test_a_folder_that_has_ended_is_put_whole_and_then_let_be(store: Counting, here: Path) -> None:
    (here / "a" / "x").write_bytes(b"x" * 100_000)
    mirror = mirror_of(store, here)
    mirror.look_at("a")
    passed(mirror)
    with open(here / "a" / "x", "ab") as file:
        file.write(b"y")
    passed(mirror)
    assert store.puts == ["a/x"]  # it grew by a hair, and may grow on
    mirror.ended("a")
    passed(mirror)
    assert store.read("a/x")[-1:] == b"y"
    (here / "a" / "z").write_text("late")
    passed(mirror)
    assert not store.exists("a/z")
    mirror.finish()
    assert store.read("a/z") == b"late"


def test_a_large_file_is_put_when_it_rests_or_is_a_tenth_longer(store: Counting, here: Path) -> None:
    (here / "a" / "x").write_bytes(b"x" * 100_000)
    mirror = mirror_of(store, here)
    mirror.look_at("a")
    passed(mirror)
    for size, puts in ((100_001, 1), (100_002, 1), (109_999, 1), (110_003, 2), (110_004, 2)):
        (here / "a" / "x").write_bytes(b"x" * size)
        passed(mirror)
        assert len(store.puts) == puts, size
    passed(mirror)
    assert len(store.puts) == 3


def test_exact_files_go_when_they_are_gone_here(store: Counting, here: Path) -> None:
    for name in ("error.pkl", "other", "checkpoint_000000/x"):
        store.put(f"a/{name}", b"from another machine")
    (here / "a" / "error.txt").write_text("new")
    mirror = mirror_of(store, here, Tree(str(here), lambda _: True, exact=frozenset({"error.pkl", "error.txt"})))
    mirror.look_at("a", unsure=True)
    passed(mirror)
    assert store.names("a") == ["checkpoint_000000", "error.txt", "other"]
    os.unlink(here / "a" / "error.txt")
    passed(mirror)
    assert store.names("a") == ["checkpoint_000000", "other"]


def test_what_vouches_comes_last_and_as_it_was_before(store: Counting, here: Path) -> None:
    def look(name: str) -> bool:
        (here / "cursor").write_text("newer")  # written while the pass is on
        return name != "cursor"

    (here / "cursor").write_text("older")
    (here / "a" / "x").write_text("1")
    mirror = mirror_of(store, here, Tree(str(here), look), vouching="cursor")
    mirror.look_at("a")
    passed(mirror)
    assert store.puts == ["a/x", "cursor"]
    assert store.read("cursor") == b"older"
    mirror.finish()
    assert store.read("cursor") == b"newer"


def test_it_does_not_vouch_for_what_could_not_be_put(store: Counting, here: Path) -> None:
    (here / "cursor").write_text("1")
    (here / "a" / "x").write_text("1")
    store.refuse = "a/x"
    mirror = mirror_of(store, here, Tree(str(here), lambda name: name != "cursor"), vouching="cursor")
    mirror.settle("a")
    mirror.start()
    mirror._thread.join(10)
    with pytest.raises(StorageError, match="refused"):
        mirror.check()
    with pytest.raises(StorageError, match="refused"):
        mirror.finish()
    assert not store.exists("cursor")


def test_whoever_goes_on_after_a_kill_puts_only_what_is_new(store: Counting, here: Path) -> None:
    for name in ("x", "y"):
        (here / "a" / name).write_text(name)
    first = mirror_of(store, here)
    first.look_at("a")
    passed(first)
    (here / "a" / "y").write_text("changed")
    with open(here.parent / "sent", "a", encoding="utf-8") as file:
        file.write("7 7")  # torn by the kill
    mirror_of(store, here).finish()
    assert sorted(store.puts) == ["a/x", "a/y", "a/y"]


def test_who_is_not_in_charge_puts_nothing(store: Counting, here: Path) -> None:
    (here / "top").write_text("1")
    mirror_of(store, here, in_charge=lambda: False).finish()
    assert store.puts == []


def test_half_written_files_links_and_names_that_no_store_takes_stay_here(store: Counting, here: Path) -> None:
    for name in (".tmp-1", ".x.aside", "new\nline", "fine"):
        (here / "a" / name).write_text("1")
    (here / "a" / ".staging-1").mkdir()
    (here / "a" / ".staging-1" / "x").write_text("1")
    (here / "a" / "link").symlink_to("/etc/passwd")
    mirror_of(store, here).finish()
    assert store.puts == ["a/fine"]


def test_a_file_that_two_trees_have_belongs_to_the_first(store: Counting, tmp_path: Path) -> None:
    for tree in ("one", "two"):
        (tmp_path / tree).mkdir()
        (tmp_path / tree / "x").write_text(tree)
    trees = [Tree(str(tmp_path / tree), lambda _: True) for tree in ("one", "two")]
    Mirror(store, trees, str(tmp_path / "sent"), lambda: True).finish()
    assert store.read("x") == b"one"
