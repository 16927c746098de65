"""Repair: puts an experiment's directory in order without running anything.

Claims an epoch like any driver, so it never works beside one, and writes no record: the history stays as it is.
"""

from __future__ import annotations

import os

from holdfast._core.ids import checkpoint_name, pending_name
from holdfast._journal import Owner, open_journal
from holdfast._projection.history import load_history
from holdfast._runtime.recovery import sweep
from holdfast.clock import SystemClock
from holdfast.errors import InternalError
from holdfast.logger.files import TrialFiles
from holdfast.storage.definitions import Definitions
from holdfast.storage.kind import check_local
from holdfast.storage.local import LocalStorage

__all__ = ["repair"]


def repair(storage: LocalStorage, takeover: bool) -> list[str]:
    """Removes what killed processes left, packs the journal, and writes the trials' files anew where they differ.

    Args:
        storage: The experiment's directory.
        takeover: Do so even if a driver seems to live; what that one does from then on is void.

    Returns:
        One line per thing done.

    Raises:
        ExperimentBusy: A driver is at work on the experiment.
        JournalError: The journal is damaged where it was durable: nothing was changed.
        StorageError: The disk refuses.
    """
    check_local(storage.root)
    load_history(storage)  # a damaged journal is refused before anything is claimed
    journal = open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock(), takeover=takeover)
    try:
        done = [f"cut {cut.size} bytes behind the last sync mark of {cut.file}, kept in journal/cut/" for cut in journal.cuts]
        state, history = load_history(storage)
        if state.created is None:
            raise InternalError("the journal begins without a birth record")
        for trial in state.trials.values():
            named = {checkpoint_name(kept.saved.index) for kept in (*trial.kept, *trial.pending)}
            named |= {pending_name(kept.saved.index) for kept in trial.pending}
            done += [f"removed {path}, which no record names" for path in sweep(storage, trial.dirname, named)]
        swept = storage.sweep_all()
        done += [f"removed {swept} half-written files"] if swept else []
        packed = journal.compact()
        done += [f"packed {packed} segments of the journal"] if packed else []
        if os.access(storage.root, os.W_OK):
            files = TrialFiles(
                storage.root, state.created.experiment_id, load=Definitions(storage).load, in_charge=journal.in_charge
            )
            files.catch_up(history, state, everything=True)
            files.close()
            done.append("compared the files of all trials with the journal")
        return done
    finally:
        journal.close()
