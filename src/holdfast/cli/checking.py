"""What `verify` looks at beyond the journal: the checkpoints and definitions that records name. Reads, never unpickles."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from holdfast import _journal
from holdfast._core.events import Saved
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import MANIFEST, checkpoint_name, pending_name
from holdfast._core.trial import Kept, TrialState
from holdfast._journal import Problem
from holdfast._projection.history import load_state
from holdfast.errors import DefinitionError, JournalError, StorageError
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.fetching import fetch_directory
from holdfast.storage.object_store import ObjectStorage
from holdfast.values import Opaque, decode

__all__ = ["all_problems"]


def all_problems(storage: Storage) -> list[Problem]:
    """All damage: in the journal, and where that can be read, in what its records name."""
    problems = _journal.verify(storage)
    if any(problem.fatal for problem in problems):
        return problems
    state = load_state(storage)
    return problems + list(_definitions(storage, state)) + list(_checkpoints(storage, state))


def _definitions(storage: Storage, state: ExperimentState) -> Iterator[Problem]:
    definitions = Definitions(storage)
    # Those of the job as it was submitted, and before it was extended again, are replayed too.
    jobs = [state.created, *state.extensions]
    named = dict.fromkeys([*state.definitions.values(), *(sha for job in jobs if job for sha in job.definitions.values())])
    for trial in state.trials.values():
        named.update(dict.fromkeys(_objects(decode(trial.config))))
    for sha in named:
        try:
            definitions.bytes_of(sha)
        except DefinitionError as error:
            yield Problem(f"definitions/{sha}.pkl", 0, str(error), "Bring it back from a copy of the experiment.", fatal=True)


def _objects(value: object) -> Iterator[str]:
    if isinstance(value, Opaque):
        yield value.sha
    elif isinstance(value, dict):
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _objects(item)


def _checkpoints(storage: Storage, state: ExperimentState) -> Iterator[Problem]:
    def verified(path: str, saved: Saved) -> str:
        return _of_files(storage, path, saved)

    found = []
    for trial in state.trials.values():
        for kept in trial.kept:
            problem = verified(f"{trial.dirname}/{checkpoint_name(kept.saved.index)}", kept.saved)
            if problem:
                found.append((trial, kept, problem))
        for kept in (
            trial.pending if not isinstance(storage, ObjectStorage) else ()
        ):  # else they lie on the machine that staged them
            problems = [
                verified(f"{trial.dirname}/{name(kept.saved.index)}", kept.saved) for name in (pending_name, checkpoint_name)
            ]
            if all(problems):
                found.append((trial, kept, f"pending, and neither staged nor complete: {problems[0]}"))
    if not found:
        return
    # A live driver may have given a checkpoint up since the journal was read: what it no longer names is no damage.
    try:
        now = load_state(storage)
    except JournalError:
        now = state
    for trial, kept, problem in found:
        if _still_kept(now, trial, kept):
            remedy = (
                "Bring it back from a copy; without it the trial resumes from the one before, or is an error if there is none."
            )
            yield Problem(f"{trial.dirname}/{checkpoint_name(kept.saved.index)}", 0, problem, remedy, fatal=True)


def _of_files(storage: Storage, path: str, saved: Saved) -> str:
    """What is wrong with a checkpoint's files; empty where nothing is. Those on a store are fetched for that."""
    from holdfast._worker.persist import verify

    if not isinstance(storage, ObjectStorage):
        return verify(os.path.join(storage.root, path), saved)
    with tempfile.TemporaryDirectory(prefix="holdfast-verify-") as aside:
        folder = os.path.join(aside, "checkpoint")
        try:
            fetch_directory(storage, path, folder)
            with open(os.path.join(folder, MANIFEST), "wb") as file:
                file.write(storage.read(f"{path}/{MANIFEST}"))
        except (FileNotFoundError, StorageError) as error:
            return str(error)
        return verify(folder, saved)


def _still_kept(state: ExperimentState, trial: TrialState, kept: Kept) -> bool:
    now = state.trials.get(trial.trial_id)
    return now is not None and now.dirname == trial.dirname and (kept in now.kept or kept in now.pending)
