"""Where a driver and its trials work on this machine, and what becomes of the files there.

A local experiment works in its own directory. One in a cloud has a directory of this machine per epoch, below the cache's:

    <cache>/working/<experiment>-<place>/<epoch>/files      what the driver writes: the trials' files, callbacks' files
                                                 attempts   where attempts run: what they write, and their logs
                                                 sent       what of it the store has

A mirror puts it to the store. It is removed when all of it is there; what a killed driver left is taken up by the next one on
this machine. Nothing is decided by what lies there: another machine does without.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Sequence

from holdfast import settings
from holdfast._assembly.submission import JobSpec
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import FINAL
from holdfast._journal import Journal
from holdfast._worker.outgoing import outgoing
from holdfast.callback import Callback
from holdfast.config.sync import SyncConfig
from holdfast.logger.csv import CSVLoggerCallback
from holdfast.logger.cursor import NAME
from holdfast.logger.json import JsonLoggerCallback
from holdfast.storage.base import Storage
from holdfast.storage.mirror import Mirror, Tree
from holdfast.storage.uri import is_uri, place_key

__all__ = ["Working", "artifacts_s", "log_files", "working_of"]

_OURS = frozenset({"result.json", "progress.csv", "params.json", "params.pkl", "error.txt", "error.pkl"})


_BY_HAND = ((JsonLoggerCallback, "result.json"), (CSVLoggerCallback, "progress.csv"))
"""Files that a user's own logger goes on with; those that it leaves to the driver are written from the journal."""


class Working:
    """The directories of one epoch.

    Attributes:
        files: Below which the driver writes trials' files.
        attempts: Below which attempts run.
        mirror: What puts them to the store; None where they are the experiment's own directory.
    """

    def __init__(self, files: str, attempts: str, mirror: Mirror | None = None, home: str = "") -> None:
        self.files = files
        self.attempts = attempts
        self.mirror = mirror
        self._home = home
        self._abandoned = False

    def bring(self, storage: Storage, state: ExperimentState, callbacks: Sequence[Callback]) -> None:
        """Brings here what the user's own loggers go on with, where another machine has written it.

        Raises:
            StorageError: The store refuses.
        """
        names = [name for kind, name in _BY_HAND if any(isinstance(callback, kind) for callback in callbacks)]
        for trial in state.trials.values() if names and self.mirror is not None else ():
            for name in names if trial.attempt and trial.state not in FINAL else ():
                path = os.path.join(self.files, trial.dirname, name)
                if not os.path.exists(path):
                    with contextlib.suppress(FileNotFoundError):  # it had no row yet
                        data = storage.read(f"{trial.dirname}/{name}")
                        os.makedirs(os.path.dirname(path), exist_ok=True)
                        with open(path, "wb") as file:
                            file.write(data)

    def finish(self) -> None:
        """Puts all that is left to the store, and removes the directories.

        Raises:
            StorageError: The store refuses; they stay.
        """
        if self.mirror is not None and not self._abandoned:
            self.mirror.finish()
            self._abandoned = True
            if self.mirror.in_charge() and not _pending_in(self.attempts):  # else it put nothing, or somebody completes them
                shutil.rmtree(self._home, ignore_errors=True)
                with contextlib.suppress(OSError):  # an older driver's directory is still there
                    os.rmdir(os.path.dirname(self._home))

    def abandon(self) -> None:
        """Leaves all as it is, for the next driver on this machine: the store refuses, or somebody else is in charge."""
        self._abandoned = True
        if self.mirror is not None:
            self.mirror.abandon()


def working_of(journal: Journal, experiment_id: str, spec: JobSpec) -> Working:
    """The directories of a driver that has just taken charge, with what the one before left in them on this machine.

    Raises:
        OSError: This machine's disk refuses.
        StorageError: The store does.
    """
    storage = journal.storage
    if not is_uri(storage.uri):
        return Working(storage.root, storage.root)
    kept = os.path.join(settings.cache_dir(), "working", f"{experiment_id}-{place_key(storage.uri)}")
    home = os.path.join(kept, f"{journal.epoch:08d}")
    trees = _trees(home, spec)
    olders = _take_up(kept, journal.epoch, storage, trees)
    files, attempts = (os.path.join(home, part) for part in ("files", "attempts"))
    for path in (files, attempts):
        os.makedirs(path, exist_ok=True)
    for older in olders:
        _bring_pending(os.path.join(older, "attempts"), attempts)
        shutil.rmtree(older, ignore_errors=True)
    if journal.previous is not None:
        _bring_cursor(storage, files)
    mirror = Mirror(storage, trees, os.path.join(home, "sent"), journal.in_charge, NAME)
    mirror.look_at("logs")
    return Working(files, attempts, mirror, home)


def _trees(home: str, spec: JobSpec) -> list[Tree]:
    files, attempts = (os.path.join(home, part) for part in ("files", "attempts"))
    return [Tree(files, lambda name: name != NAME, exact=_OURS), *outgoing(attempts, log_files(spec), artifacts_s(spec))]


def log_files(spec: JobSpec) -> tuple[str, str] | None:
    """The names of the files for stdout and stderr; None: each attempt has one log for both."""
    asked = spec.run_config.log_to_file
    if isinstance(asked, str):
        return asked, asked
    if isinstance(asked, bool):
        return ("stdout", "stderr") if asked else None
    return asked[0], asked[1]


def artifacts_s(spec: JobSpec) -> float | None:
    """How many seconds after a look at what trials write the next one follows; None: that stays on its machine."""
    sync = spec.run_config.sync_config or SyncConfig()
    return sync.sync_period if sync.sync_artifacts else None


def _take_up(kept: str, epoch: int, storage: Storage, trees: list[Tree]) -> list[str]:
    """Makes what the driver just before left on this machine this one's; of older ones puts what the store has nothing of.

    Returns:
        The directories of those older ones. They are to go.
    """
    try:
        left = sorted(name for name in os.listdir(kept) if name.isdecimal() and int(name) < epoch)
    except FileNotFoundError:
        return []
    olders = []
    for name in left:
        path = os.path.join(kept, name)
        if int(name) == epoch - 1 and not os.path.exists(os.path.join(kept, f"{epoch:08d}")):
            os.rename(path, os.path.join(kept, f"{epoch:08d}"))
            continue
        # Another driver has gone on elsewhere since: what it put is newer than what lies here.
        for tree in trees[1:]:
            older = tree._replace(root=os.path.join(path, os.path.basename(tree.root)))
            for relative, full, _ in older.found():
                if not storage.exists(relative):
                    with open(full, "rb") as file:
                        storage.put_if_absent(relative, file.read())
        olders.append(path)
    return olders


def _bring_pending(older: str, attempts: str) -> None:
    """Moves checkpoints that an older driver's attempts left pending to where this one's attempts stage theirs."""
    for trial, name in _pending_in(older):
        os.makedirs(os.path.join(attempts, trial), exist_ok=True)
        if not os.path.exists(os.path.join(attempts, trial, name)):
            os.rename(os.path.join(older, trial, name), os.path.join(attempts, trial, name))


def _pending_in(attempts: str) -> list[tuple[str, str]]:
    """The trials' directories and the checkpoints pending in them."""
    found = glob.glob("*/.pending-*", root_dir=attempts)
    return [(trial, name) for trial, _, name in (one.partition("/") for one in found)]


def _bring_cursor(storage: Storage, files: str) -> None:
    """The cursor as the store has it: of what this machine's own vouches for, not all may have been put."""
    path = os.path.join(files, NAME)
    try:
        data = storage.read(NAME)
    except FileNotFoundError:
        data = b""
    with open(path, "wb") as file:
        file.write(data)
