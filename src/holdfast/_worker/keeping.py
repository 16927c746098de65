"""Where a trial's checkpoints are kept: the port, and the adapter for a file system. `shipping` has the one for stores.

Knows what an attempt, and a driver that completes what an attempt left, may ask for. It does not know rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from holdfast._core.events import Saved
from holdfast._core.ids import checkpoint_name
from holdfast._worker import persist
from holdfast._worker.patience import patiently
from holdfast.checkpoint import Checkpoint
from holdfast.clock import Clock, SystemClock

__all__ = ["Broken", "Keeper", "LocalKeeper", "Origin"]


class Origin(NamedTuple):
    """A checkpoint that an attempt goes on from.

    Attributes:
        checkpoint: Where it is kept.
        folder: Its files on this machine.
    """

    checkpoint: Checkpoint
    folder: str


class Broken(Exception):
    """A checkpoint is not what was saved; says in one line how. Stays inside the worker."""


class Keeper(Protocol):
    """Keeps one trial's checkpoints. What the disk or store may refuse for a moment is tried again before it is an error.

    Attributes:
        trial_dir: The trial's directory on this machine.
        staging: What the paths begin with of what goes when the attempt has ended, however it ends.
    """

    trial_dir: str
    staging: str

    def save(self, source: str, index: int, counters: Mapping[str, float]) -> Saved:
        """Keeps what lies in the directory `source` as checkpoint `index`; durable when it returns.

        A crash in the middle leaves files that no row names. `counters` are what the trial had counted by then.

        Raises:
            ReportRefused: `source` is no readable directory, or holds something that cannot be kept.
            StorageError: It could not be kept.
        """

    def stage(self, source: str, index: int, counters: Mapping[str, float]) -> Saved:
        """Copies `source` aside, on this machine, for `commit` to complete; errors as in `save`."""

    def commit(self, saved: Saved, *, check: bool) -> str:
        """Makes a staged checkpoint durable under its name. May be repeated, also by another process on this machine.

        Args:
            saved: What `stage` returned.
            check: Whether to look first at what is staged, and at what is under that name already: for one that another process
                staged.

        Returns:
            What is wrong with the files, in one line, where they are gone or damaged, and are removed; empty when it is done.

        Raises:
            OSError: The disk or store refuses. What was staged stays.
        """

    def checkpoint(self, index: int) -> Checkpoint:
        """A kept one, as users see it."""

    def origin(self, saved: Saved, dirname: str, held: ExitStack) -> Origin:
        """A kept checkpoint of the trial with that directory's name, compared byte for byte with what was saved.

        Its files stay on this machine until `held` is closed.

        Raises:
            Broken: It is gone or damaged.
            OSError: It cannot be looked at.
        """


class LocalKeeper:
    """Keeps them in the trial's directory.

    Args:
        trial_dir: Absolute.
        prefix: How the names of staging directories begin.
        clock: Waits between tries.
    """

    def __init__(self, trial_dir: str, prefix: str = "", clock: Clock | None = None) -> None:
        self.trial_dir = trial_dir
        self.staging = os.path.join(trial_dir, prefix)
        self._prefix = prefix
        self._clock = clock or SystemClock()

    def save(self, source: str, index: int, counters: Mapping[str, float]) -> Saved:
        """See `Keeper`."""
        staging = f"{self._prefix}{index}"
        return patiently(lambda _: persist.save(source, self.trial_dir, index, staging, counters), self._clock)

    def stage(self, source: str, index: int, counters: Mapping[str, float]) -> Saved:
        """See `Keeper`."""
        staging = f"{self._prefix}{index}"
        return patiently(lambda _: persist.stage(source, self.trial_dir, index, staging, counters), self._clock)

    def commit(self, saved: Saved, *, check: bool) -> str:
        """See `Keeper`. After an fsync that failed all is read back: it may have dropped what it should have written."""
        return patiently(lambda tries: persist.commit(self.trial_dir, saved, check=check or tries > 0), self._clock)

    def checkpoint(self, index: int) -> Checkpoint:
        """See `Keeper`."""
        return Checkpoint(os.path.join(self.trial_dir, checkpoint_name(index)))

    def origin(self, saved: Saved, dirname: str, held: ExitStack) -> Origin:
        """See `Keeper`."""
        path = os.path.join(os.path.dirname(self.trial_dir), dirname, checkpoint_name(saved.index))
        if problem := persist.verify(path, saved):
            raise Broken(problem)
        return Origin(Checkpoint(path), path)
