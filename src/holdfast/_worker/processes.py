"""The processes of this machine as `/proc` shows them, and how whole trees of them are ended.

This module knows pids and parents. It does not know what any process is for. It imports next to nothing, because the
guardian does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable

__all__ = [
    "become_subreaper",
    "descendants",
    "end_descendants",
    "end_with_token",
    "has_children",
    "most_memory",
    "parents",
    "prepare_subreaper",
    "reap",
]

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE_S = 0.001
_TOKEN = b"HOLDFAST_TOKEN="
_libc: list[object] = []


def prepare_subreaper() -> None:
    """Loads what `become_subreaper` needs, so that processes forked from here need not."""
    if not _libc:
        import ctypes

        _libc.append(ctypes.CDLL(None, use_errno=True).prctl)


def become_subreaper() -> None:
    """Makes orphans among this process's descendants its own children.

    Raises:
        OSError: The kernel refuses.
    """
    prepare_subreaper()
    prctl = _libc[0]
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:  # type: ignore[operator]
        raise OSError("this kernel does not let a process adopt orphans (prctl PR_SET_CHILD_SUBREAPER)")


def has_children() -> bool:
    """Whether this process has a child that lives or waits to be reaped; reaps the dead ones."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def reap() -> list[tuple[int, int, int]]:
    """Reaps all dead children; returns (pid, wait status, the most bytes of memory that it or one below it had) of each."""
    dead: list[tuple[int, int, int]] = []
    try:
        while True:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                return dead
            dead.append((pid, status, used.ru_maxrss * 1024))
    except ChildProcessError:
        return dead


def most_memory() -> int:
    """The most bytes of memory that this process had at once, or one below it that has ended, if that had more."""
    import resource

    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def parents() -> dict[int, int]:
    """Each living process's parent: dead ones that wait to be reaped are left out, not those whose main thread alone is dead."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()  # from the third on, as proc(5) numbers them
                state, parent, threads = fields[0], fields[1], fields[17]
                if state not in (b"Z", b"X") or int(threads) > 1:
                    found[int(name)] = int(parent)
    return found


def descendants(root: int, but: Iterable[int] = ()) -> list[int]:
    """All living processes below `root`, save those in `but` and what is below them."""
    return _below(parents(), [root], set(but))


def _below(tree: dict[int, int], roots: Iterable[int], but: set[int]) -> list[int]:
    """What is below processes in a tree of pid → parent, save `but` and what is below those."""
    children: dict[int, list[int]] = {}
    for pid, parent in tree.items():
        children.setdefault(parent, []).append(pid)
    found, pending = list[int](), list(roots)
    while pending:
        for pid in children.get(pending.pop(), ()):
            if pid not in but:
                found.append(pid)
                pending.append(pid)
    return found


def end_descendants(but: Iterable[int] = ()) -> list[tuple[int, int, int]]:
    """Kills what is below this process, save `but` and what is below those, until nothing is left.

    This process should be a sub-reaper: what has left its group or session is found all the same, because orphans
    come here. Returns what `reap` says of the children that were reaped, those in `but` included.
    """
    dead: list[tuple[int, int, int]] = []
    me, kept = os.getpid(), list(but)
    while True:
        found = descendants(me, kept)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        dead += reap()
        if not found:
            return dead
        time.sleep(_PAUSE_S)


def end_with_token(is_meant: Callable[[str], bool]) -> list[int]:
    """Kills this user's processes whose `HOLDFAST_TOKEN` is meant, and all below them, until none is left.

    This process and what it descends from are spared. Returns the pids that were killed.
    """
    ended = set[int]()
    while True:
        tree = parents()
        spared, pid = {os.getpid()}, os.getpid()
        while pid in tree and tree[pid] not in spared:
            pid = tree[pid]
            spared.add(pid)
        carriers = [pid for pid in tree if pid not in spared and is_meant(_token_of(pid))]
        found = {*carriers, *_below(tree, carriers, spared)}
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                ended.add(pid)
        if not found and not ended.intersection(tree):  # one that is dying shows no environment any more
            return sorted(ended)
        time.sleep(_PAUSE_S)


def _token_of(pid: int) -> str:
    """The token in a process's environment; empty where there is none, or it is another user's."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.getuid():
            return ""
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:  # it ended meanwhile, or is not ours to read
        return ""
    return next((it[len(_TOKEN) :].decode(errors="replace") for it in variables if it.startswith(_TOKEN)), "")
