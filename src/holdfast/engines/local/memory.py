"""How much memory attempts use, and the end of those that use more than they were given.

Knows process trees and bytes as `/proc` shows them. Refuses to know what runs in them and what comes of their end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable
from typing import NamedTuple

from holdfast._worker.processes import parents

__all__ = ["MemoryWatch", "Use", "in_bytes", "memory_of"]

INTERVAL_S = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Use(NamedTuple):
    """What a tree was seen to use.

    Attributes:
        peak: The most bytes at once.
        limit: The bytes that it was given.
        over: The bytes for which it was killed; 0: it was not.
    """

    peak: int
    limit: int
    over: int


class _Tree:
    """A process, what is below it, and what they were seen to use."""

    def __init__(self, pid: int, limit: int) -> None:
        self.pid = pid
        self.limit = limit
        self.handle = os.pidfd_open(pid)  # another process that gets the same number later is never hit
        self.peak = 0
        self.over = 0


class MemoryWatch:
    """Looks at process trees five times a second, in a thread that lives while there are any, and kills those that use too much.

    What counts is memory in RAM of the process and of all below it. Pages that several processes share count for their part,
    so an array that many trials read counts once in all. Between two looks a tree may go over its limit.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._trees: dict[object, _Tree] = {}
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def watch(self, who: object, pid: int, limit: int) -> None:
        """Watches the tree of a process from now on; one that is gone already is not watched."""
        try:
            tree = _Tree(pid, limit)
        except ProcessLookupError:
            return
        with self._lock:
            self._trees[who] = tree
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="holdfast-memory", daemon=True)
                self._thread.start()

    def forget(self, who: object) -> Use | None:
        """What was seen of a tree, which is watched no more; None where it was not watched."""
        with self._lock:
            tree = self._trees.pop(who, None)
            if tree is None:
                return None
            os.close(tree.handle)
            if not self._trees:
                self._changed.set()
            return Use(tree.peak, tree.limit, tree.over)

    def close(self) -> None:
        """Watches nothing any more; returns when the thread is gone."""
        for who in list(self._trees):
            self.forget(who)
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.clear()
                trees = list(self._trees.items())
                if not trees:
                    self._thread = None
                    return
            below = _below(tree.pid for _, tree in trees)
            for who, tree in trees:
                used = memory_of(below[tree.pid], tree.limit)
                tree.peak = max(tree.peak, used)
                if used > tree.limit:
                    self._kill(who, tree, used)
            self._changed.wait(self._interval_s)

    def _kill(self, who: object, tree: _Tree, used: int) -> None:
        with self._lock:
            if self._trees.get(who) is tree and not tree.over:
                tree.over = used
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    signal.pidfd_send_signal(tree.handle, signal.SIGKILL)


def _below(roots: Iterable[int]) -> dict[int, list[int]]:
    """Each of those processes with all that is below it."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found = {}
    for root in roots:
        tree = found[root] = [root]
        for pid in tree:
            tree += children.get(pid, ())
    return found


def memory_of(pids: Iterable[int], limit: int) -> int:
    """Bytes that those processes have in RAM.

    Pages that they share, with each other or with others, count in full up to the limit, and for their part beyond it: telling
    them apart takes long.
    """
    pids = list(pids)
    resident = sum(map(_resident, pids))
    return resident if resident <= limit else sum(map(_proportional, pids))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):  # it has ended
        return 0


def _proportional(pid: int) -> int:
    """The process's memory, each shared page divided by the number of those that share it."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # it has ended, or is not ours to look into, or the kernel is older than 4.14
        return _resident(pid)
    return 0


def in_bytes(count: float) -> str:
    """An amount of memory for people, such as "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
