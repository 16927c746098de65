"""Politeness: whether the driver that claimed last may still be at work.

Knows processes and heartbeats. It refuses to know seals and records: safety is the fence's, and a wrong answer given here
costs a driver its tenure, never a record.
"""

from __future__ import annotations

import os
from typing import Protocol

import msgspec

from holdfast._journal import layout
from holdfast.clock import Clock
from holdfast.errors import ExperimentBusy
from holdfast.storage.base import Storage

__all__ = ["BEAT_PERIOD_S", "PATIENCE_S", "FileSigns", "Owner", "Signs", "wait_politely"]

BEAT_PERIOD_S = 5.0
PATIENCE_S = 3 * BEAT_PERIOD_S
_LOOK_EVERY_S = 0.5


class Owner(msgspec.Struct, frozen=True, array_like=True):
    """A process, named so that another on the same machine can tell whether it lives.

    Attributes:
        host: The machine's name, for people.
        pid: The process id in its own namespace.
        boot_id: Drawn by the kernel at each boot; empty where the system has none.
        pid_namespace: The inode of its pid namespace; 0 where the system has none.
        start_ticks: When it was started, in clock ticks since boot: tells it from a later process of the same id.
    """

    host: str
    pid: int
    boot_id: str
    pid_namespace: int
    start_ticks: int

    @classmethod
    def of_this_process(cls) -> Owner:
        """The calling process."""
        started = _started(os.getpid())
        return cls(
            host=os.uname().nodename,
            pid=os.getpid(),
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            start_ticks=started if started is not None else 0,
        )

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host}"

    def visible(self) -> bool:
        """Whether this process, where it lives, would be seen from here by its pid."""
        return bool(self.boot_id) and self.boot_id == _boot_id() and self.pid_namespace == _pid_namespace()

    def alive(self) -> bool:
        """Whether it lives; only to be asked where it is `visible`."""
        return _started(self.pid) == self.start_ticks


class Signs(Protocol):
    """What there is to see of a driver."""

    def beat(self) -> bytes:
        """Changes while it lives."""

    def over(self) -> bool:
        """Whether its epoch is sealed or another one claimed: the caller must look again."""


class FileSigns:
    """Signs of life of the driver of an epoch of a journal in files."""

    def __init__(self, storage: Storage, epoch: int) -> None:
        self._storage = storage
        self._epoch = epoch

    def beat(self) -> bytes:
        """How often its heart has beaten, as bytes."""
        try:
            return b"+" + self._storage.read(layout.beat_path(self._epoch))
        except FileNotFoundError:
            return b""

    def over(self) -> bool:
        """Whether there is its seal, or a later claim."""
        return any(map(self._storage.exists, (layout.seal_path(self._epoch), layout.claim_path(self._epoch + 1))))


def wait_politely(root: str, owner: Owner, clock: Clock, signs: Signs) -> None:
    """Returns when the driver of an epoch may be presumed dead, or its epoch is over.

    A visible owner is looked up: dead, this returns at once. Of another, the heartbeat's value is watched for 15 s on the
    caller's own clock; a seal or a later claim ends the wait, for the caller must look again.

    Raises:
        ExperimentBusy: It lives. Nothing was written.
    """
    if owner.visible():
        if owner.alive():
            raise ExperimentBusy(root, str(owner))
        return
    first = signs.beat()
    begin = clock.monotonic()
    while clock.monotonic() - begin < PATIENCE_S:
        clock.sleep(_LOOK_EVERY_S)
        if signs.over():
            return
        if signs.beat() != first:
            raise ExperimentBusy(root, str(owner))


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _started(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot; None where it is gone or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
