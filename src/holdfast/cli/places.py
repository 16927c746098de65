"""Where experiments are: finds them under a directory, and finds the trial that somebody means. Reads names only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from holdfast import _journal
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import TrialState
from holdfast._journal import Owner
from holdfast._projection.table import Told
from holdfast.errors import JournalError
from holdfast.storage.local import LocalStorage

__all__ = ["driver_state", "experiment_at", "experiments_under", "told_at", "trial_meant"]

_DEPTH = 3


def experiment_at(path: str) -> LocalStorage:
    """The experiment at a path; a usage error where there is none."""
    storage = LocalStorage(path)
    if not _journal.exists(storage):
        raise click.UsageError(f"There is no experiment at {storage.root}. `holdfast ls DIR` lists those under a directory.")
    return storage


def told_at(storage: LocalStorage) -> Told:
    """What the journal tells of an experiment; an error of the command where it is damaged."""
    try:
        return Told(storage)
    except JournalError as error:
        raise click.ClickException(str(error)) from error


def experiments_under(directory: str, depth: int = _DEPTH) -> Iterator[LocalStorage]:
    """The experiments at and below a directory, sorted by path; never looks inside one."""
    storage = LocalStorage(directory)
    if _journal.exists(storage):
        yield storage
        return
    try:
        below = sorted(entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        if depth == _DEPTH:
            raise click.UsageError(f"{directory} cannot be read: {error.strerror}.") from error
        return
    for path in below if depth else ():
        yield from experiments_under(path, depth - 1)


def trial_meant(state: ExperimentState, wanted: str) -> TrialState:
    """The trial of that id, number, directory, name or beginning of an id; a usage error unless there is exactly one."""
    if wanted in state.trials:
        return state.trials[wanted]
    if wanted.isdigit() and int(wanted) < len(state.by_index):
        return state.at(int(wanted))
    name = os.path.basename(wanted.rstrip("/"))
    for trial in state.trials.values():
        if name in (trial.dirname, trial.name):
            return trial
    begun = [trial for trial in state.trials.values() if wanted and trial.trial_id.startswith(wanted)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        few = ", ".join(trial.trial_id for trial in begun[:5])
        more = ", ..." if begun[5:] else ""
        raise click.UsageError(f"{wanted!r} begins the ids of {len(begun)} trials ({few}{more}): give more of it.")
    raise click.UsageError(f"There is no trial {wanted!r}: give an id, or a number from 0 to {len(state.trials) - 1}.")


def driver_state(state: ExperimentState) -> str:
    """What the newest driver does: how it ended, or whether it still runs as far as this machine can tell."""
    if state.ended:
        return state.ended
    epoch = state.epoch
    if epoch is None:
        return "never driven"
    owner = Owner(epoch.host, epoch.pid, epoch.boot_id, Owner.of_this_process().pid_namespace, epoch.start_ticks)
    if not owner.visible():
        return "open"
    return "running" if owner.alive() else "killed"
