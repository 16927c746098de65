"""Repair: puts an experiment's directory in order without running anything.

Claims an epoch like any driver, so it never works beside one, and writes no record: the history stays as it is.
"""

from __future__ import annotations

import os
import tempfile

from holdfast._core.experiment import ExperimentState
from holdfast._journal import Journal, Owner, open_journal
from holdfast._projection.history import History, load_history
from holdfast._runtime.recovery import names_of, saves_in, sweep
from holdfast.clock import SystemClock
from holdfast.errors import Fenced, InternalError
from holdfast.logger.cursor import NAME
from holdfast.logger.files import TrialFiles
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.mirror import Mirror, Tree
from holdfast.storage.posix import PosixStorage
from holdfast.storage.uri import is_uri

__all__ = ["repair"]

_GO = frozenset({"error.txt", "error.pkl"})  # from the directory of a trial that the journal has no failure of


def repair(storage: Storage, takeover: bool) -> list[str]:
    """Removes what killed processes left, packs the journal, and writes the trials' files anew where they differ.

    Args:
        storage: The experiment's directory.
        takeover: Do so even if a driver seems to live; what that one does from then on is void.

    Returns:
        One line per thing done.

    Raises:
        ExperimentBusy: A driver is at work on the experiment.
        Fenced: Another took over meanwhile.
        JournalError: The journal is damaged where it was durable: nothing was changed.
        StorageError: The disk refuses.
    """
    load_history(storage)  # a damaged journal is refused before anything is claimed
    journal = open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock(), takeover=takeover)
    try:
        done = [f"cut {cut.size} bytes behind the last sync mark of {cut.file}, kept in journal/cut/" for cut in journal.cuts]
        state, history = load_history(storage)
        if state.created is None:
            raise InternalError("the journal begins without a birth record")
        saves = {trial.trial_id: saves_in(storage, trial.dirname) for trial in state.trials.values()}
        if not journal.in_charge():
            raise Fenced(storage.root, journal.epoch)
        for trial in state.trials.values():
            removed = sweep(storage, saves[trial.trial_id], names_of(trial))
            done += [f"removed {path}, which no record names" for path in removed]
        swept = storage.sweep_all() if isinstance(storage, PosixStorage) else 0
        done += [f"removed {swept} half-written files"] if swept else []
        packed = journal.compact()
        done += [f"packed {packed} segments of the journal"] if packed else []
        if is_uri(storage.uri) or os.access(storage.root, os.W_OK):
            _write_files(journal, history, state)
            done.append("compared the files of all trials with the journal")
        return done
    finally:
        journal.close()


def _write_files(journal: Journal, history: History, state: ExperimentState) -> None:
    """Writes the trials' files where they are not what the journal says; on a store all, and removes errors of no failure."""
    storage, created = journal.storage, state.created
    assert created is not None
    with tempfile.TemporaryDirectory(prefix="holdfast-repair-") as aside:
        folder = os.path.join(aside, "files") if is_uri(storage.uri) else storage.root
        os.makedirs(folder, exist_ok=True)
        files = TrialFiles(folder, created.experiment_id, load=Definitions(storage).load, in_charge=journal.in_charge)
        files.catch_up(history, state, everything=True)
        files.close()
        if is_uri(storage.uri):
            tree = Tree(folder, lambda name: name != NAME, exact=_GO)
            mirror = Mirror(storage, [tree], os.path.join(aside, "sent"), journal.in_charge)
            for trial in state.trials.values():
                mirror.look_at(trial.dirname, unsure=True)
            mirror.finish()
