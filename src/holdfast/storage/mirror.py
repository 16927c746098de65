"""The mirror: local directories whose files are put to a store, again and again, when they have changed.

Knows files by size, inode and time of change, and what of them the store has. It refuses to know what they mean, and what ought
to be in them: whoever writes them says which are wanted, and when nothing more will come. Nothing rests on what it puts but what
people and tools read: the journal is elsewhere.

A file that grows is put again when it is a tenth longer, or when it rests, so that all puts of one together cost about eleven
times its size at most. What was put is written down beside the directories (one line each), so that whoever goes on with them
after a kill puts only what is new.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from holdfast.errors import StorageError, TuneError
from holdfast.storage.base import Storage

__all__ = ["Mirror", "Tree"]

_AT_ONCE = 8
_SMALL = 64 << 10
_BETWEEN = 20  # a pass that took a second is followed by so many seconds of rest
_HALF_WRITTEN = (".tmp-", ".staging-", ".pending-")
_ASIDE = ".aside"


Mark = tuple[int, int, int]
"""Size, inode, time of the last change in nanoseconds."""


class Tree(NamedTuple):
    """A local directory of which files go to the store, under the same relative names.

    Attributes:
        root: Absolute; need not be there.
        wanted: Says of a relative name whether the file is to be on the store.
        period_s: How long after a pass the next one looks at it, unless somebody is in a hurry.
        exact: Names of files that go from the store when they are gone here.
        empty: Whether files that hold nothing go there too.
    """

    root: str
    wanted: Callable[[str], bool]
    period_s: float = 10.0
    exact: frozenset[str] = frozenset()
    empty: bool = True

    def found(self, folders: set[str] | None = None) -> Iterator[tuple[str, str, Mark]]:
        """The wanted files: relative name, path, mark. Below the top only those in `folders`, if not None."""
        try:
            top = sorted(os.scandir(self.root), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in top:
            if not entry.is_dir(follow_symlinks=False):
                yield from self._one(entry.path)
            elif folders is None or entry.name in folders:
                for where, below, names in os.walk(entry.path):
                    below[:] = [name for name in below if not _passed_over(name)]
                    for name in names:
                        yield from self._one(os.path.join(where, name))

    def _one(self, full: str) -> Iterator[tuple[str, str, Mark]]:
        name = os.path.relpath(full, self.root)
        if not _passed_over(os.path.basename(name)) and not os.path.islink(full) and self.wanted(name):
            with contextlib.suppress(FileNotFoundError):
                mark = _mark(full)
                if mark[0] or self.empty:
                    yield name, full, mark


class Mirror:
    """Puts what has changed, from a thread. A file whose name no store takes (control characters, no UTF-8) stays where it is.

    Args:
        storage: Where it goes.
        trees: What is looked at. A name that two have belongs to the first.
        known: A local file that keeps what was put.
        in_charge: Asked before each pass; a driver that is not puts nothing.
        vouching: A file at the top of the first tree that vouches for others: put last, as it was before they were looked at.
    """

    def __init__(
        self, storage: Storage, trees: Sequence[Tree], known: str, in_charge: Callable[[], bool], vouching: str = ""
    ) -> None:
        self._storage = storage
        self._trees = trees
        self.in_charge = in_charge
        self._vouching = vouching
        self._sent = _Sent(known)
        self._folders: set[str] = set()  # what passes look at
        self._settle: set[str] = set()  # what the next one puts all of
        self._ended: set[str] = set()  # what none looks at after that
        self._unsure: set[str] = set()
        self._due = [0.0] * len(trees)
        self._changed = threading.Condition()
        self._passing = threading.Lock()
        self._hurry = self._leave = False
        self._thread: threading.Thread | None = None
        self._error: TuneError | None = None

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._thread is not None

    def start(self) -> None:
        """Passes from a daemon thread from here on; the first time after a period, unless somebody is in a hurry."""
        self._due = [time.monotonic() + tree.period_s for tree in self._trees]
        self._thread = threading.Thread(target=self._run, name="holdfast-mirror", daemon=True)
        self._thread.start()

    def look_at(self, folder: str, *, unsure: bool = False) -> None:
        """Has each pass look at a folder at the top of the trees, until `ended` is said of it.

        `unsure`: the store may hold files there that are `exact` and gone here; they are removed.
        """
        with self._changed:
            self._folders.add(folder)
            self._ended.discard(folder)
            if unsure:
                self._unsure.add(folder)

    def ended(self, folder: str) -> None:
        """Has a pass begin soon that puts all of a folder; later ones look at it no more, but for the last."""
        with self._changed:
            self._ended.add(folder)
        self.settle(folder)

    def settle(self, folder: str) -> None:
        """Has a pass begin soon that puts all of a folder."""
        with self._changed:
            self._folders.add(folder)
            self._settle.add(folder)
            self._hurry = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raises what ended the thread.

        Raises:
            StorageError: The store refuses, or has failed for too long.
        """
        if self._error is not None:
            raise self._error

    def finish(self) -> bool:
        """Ends the thread and puts all that is left, whatever folder it lies in; whether it was in charge to do so.

        Raises:
            StorageError: As `check`.
        """
        self.abandon()
        if self._thread is not None:
            self._thread.join()
        self.check()
        return self._pass(range(len(self._trees)), everything=True)

    def abandon(self) -> None:
        """Ends the thread; what is left stays where it is, for whoever goes on with the trees. Waits for nothing."""
        with self._changed:
            self._leave = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._leave:
            with self._changed:
                wait_s = min(self._due) - time.monotonic()
                if wait_s > 0 and not (self._hurry or self._leave):
                    self._changed.wait(wait_s)
                hurry, self._hurry = self._hurry, False
            if self._leave:
                return
            now = time.monotonic()
            which = [n for n, due in enumerate(self._due) if hurry or due <= now]
            if which:
                self._pass_safely(which)

    def _pass_safely(self, which: Sequence[int]) -> None:
        began = time.monotonic()
        try:
            self._pass(which)
        except TuneError as error:
            self._error, self._leave = error, True
        except Exception as error:  # noqa: BLE001 - a thread that died in silence would leave files behind unseen
            text = f"the thread that puts files to {self._storage.root} failed: {type(error).__name__}: {error}"
            self._error, self._leave = StorageError(errno.EIO, text), True
        now = time.monotonic()
        for n in which:
            self._due[n] = now + max(self._trees[n].period_s, _BETWEEN * (now - began))

    def _pass(self, which: Sequence[int], *, everything: bool = False) -> bool:
        with self._passing:
            if not self.in_charge():
                return False
            vouching = self._sent.new(self._trees[0].root, self._vouching) if self._vouching and 0 in which else None
            with self._changed:  # after that: what it vouches for is to be settled by now
                ended, settle, unsure = set(self._ended), set(self._settle), set(self._unsure)
                folders = None if everything else set(self._folders)
            found: dict[str, tuple[str, Mark]] = {}
            for n in which:
                for name, full, mark in self._trees[n].found(folders):
                    found.setdefault(name, (full, mark))
            settled = {name for name in found if everything or name.partition("/")[0] in settle}
            self._remove_gone(which, found, folders, unsure)
            self._put_all([(name, *it) for name, it in found.items() if self._sent.is_due(name, it[1], settled=name in settled)])
            if vouching is not None:
                self._storage.put(self._vouching, vouching)
            with self._changed:
                self._unsure -= unsure
                if len(which) == len(self._trees):
                    self._settle -= settle
                    self._folders -= ended & self._ended  # unless somebody wants it looked at again meanwhile
        return True

    def _put_all(self, due: list[tuple[str, str, Mark]]) -> None:
        if not due:
            return

        def put(one: tuple[str, str, Mark]) -> bool:
            try:
                with open(one[1], "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                return False  # it has gone meanwhile
            self._storage.put(one[0], data)
            return True

        with ThreadPoolExecutor(_AT_ONCE, "holdfast-mirror") as pool:
            there = zip(due, pool.map(put, due), strict=True)
            self._sent.note((name, mark) for (name, _, mark), put_it in there if put_it)

    def _remove_gone(
        self, which: Sequence[int], found: dict[str, tuple[str, Mark]], folders: set[str] | None, unsure: set[str]
    ) -> None:
        """Removes from the store what a tree is to be `exact` about, and has no more."""
        exact = {name for n in which for name in self._trees[n].exact}
        if not exact:
            return
        there = {name for name in self._sent.marks if folders is None or name.partition("/")[0] in folders}
        for folder in unsure:
            there.update(f"{folder}/{name}" for name in self._storage.names(folder))
        gone = [name for name in sorted(there) if name not in found and name.partition("/")[2] in exact]
        gone = [name for name in gone if not any(os.path.exists(os.path.join(tree.root, name)) for tree in self._trees)]
        self._storage.delete_files(gone)
        for name in gone:
            self._sent.marks.pop(name, None)


class _Sent:
    """What of the files was put, and how they looked then; kept in a file, one line each."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: dict[str, Mark] = {}
        self.marks = _known_in(path)

    def is_due(self, name: str, mark: Mark, *, settled: bool) -> bool:
        """Whether a file that looks like that is to be put now. `settled`: nothing more is to come soon."""
        sent = self.marks.get(name)
        before, self._seen[name] = self._seen.get(name), mark
        if sent == mark:
            return False
        return settled or sent is None or mark[0] <= _SMALL or 10 * mark[0] >= 11 * sent[0] or before == mark

    def note(self, put: Iterable[tuple[str, Mark]]) -> None:
        """Keeps what was put, one by one as it comes."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            for name, mark in put:
                self.marks[name] = mark
                file.write(f"{mark[0]} {mark[1]} {mark[2]} {name}\n")

    def new(self, root: str, name: str) -> bytes | None:
        """What a file says, as it is before anything else is looked at; None where it says nothing new. Counts as put."""
        full = os.path.join(root, name)
        with contextlib.suppress(FileNotFoundError):
            mark = _mark(full)
            if self.marks.get(name) != mark:
                with open(full, "rb") as file:
                    self.marks[name] = mark
                    return file.read()
        return None


def _passed_over(name: str) -> bool:
    odd = any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in name)
    return odd or name.startswith(_HALF_WRITTEN) or name.endswith(_ASIDE)


def _mark(full: str) -> Mark:
    found = os.stat(full)
    return found.st_size, found.st_ino, found.st_mtime_ns


def _known_in(path: str) -> dict[str, Mark]:
    """What was written down; a torn line is passed over: its file is put again."""
    sent: dict[str, Mark] = {}
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            size, inode, changed, name = ([*line.rstrip("\n").split(" ", 3), "", "", "", ""])[:4]
            if line.endswith("\n") and name and (size + inode + changed).isdecimal():
                sent[name] = int(size), int(inode), int(changed)
    return sent
