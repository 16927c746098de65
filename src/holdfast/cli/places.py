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
from holdfast.errors import ConfigError, JournalError, StorageError
from holdfast.storage.base import Storage
from holdfast.storage.opening import inside, open_storage
from holdfast.storage.uri import is_uri

__all__ = ["driver_state", "experiment_at", "experiments_under", "is_experiment", "storage_at", "told_at", "trial_meant"]

_DEPTH = 3
_PATIENCE_S = 15.0  # with a store that fails: somebody sits at a terminal


def storage_at(path: str) -> Storage:
    """The storage at a path or URI; a usage error where there can be none."""
    try:
        return open_storage(path, patience_s=_PATIENCE_S)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def is_experiment(storage: Storage) -> bool:
    """Whether an experiment is there; an error of the command where a store does not say."""
    try:
        return _journal.exists(storage)
    except StorageError as error:
        raise click.ClickException(str(error)) from error


def experiment_at(path: str) -> Storage:
    """The experiment at a path or URI; a usage error where there is none."""
    storage = storage_at(path)
    if not is_experiment(storage):
        raise click.UsageError(f"There is no experiment at {storage.root}. `holdfast ls DIR` lists those under a directory.")
    return storage


def told_at(storage: Storage) -> Told:
    """What the journal tells of an experiment; an error of the command where it is damaged or cannot be reached."""
    try:
        return Told(storage)
    except (JournalError, StorageError) as error:
        raise click.ClickException(str(error)) from error


def experiments_under(directory: str, depth: int = _DEPTH) -> Iterator[Storage]:
    """The experiments at and below a directory, sorted by path; never looks inside one. On a store only directly below."""
    storage = storage_at(directory)
    if is_experiment(storage):
        yield storage
        return
    if is_uri(storage.uri):
        try:
            names = storage.names("")
        except StorageError as error:
            raise click.ClickException(str(error)) from error
        yield from filter(is_experiment, (storage_at(inside(storage.uri, name)) for name in names))
        return
    try:
        below = sorted(entry.path for entry in os.scandir(storage.root) if entry.is_dir(follow_symlinks=False))
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
