"""`holdfast copy` and `holdfast rm`: a whole experiment at another place, or gone.

Both refuse an experiment whose driver is, or may be, at work. A copy is complete where it stands, or is not there; what is
removed is what the journal names, and nothing else.
"""

from __future__ import annotations

import os
import secrets
import shutil

import click

from holdfast import _journal
from holdfast._core.events import EpochStarted, TrialSuggested
from holdfast._core.experiment import ExperimentState
from holdfast._journal import Owner, open_journal, signs_of, wait_politely
from holdfast._journal.layout import BIRTH
from holdfast._journal.slots.slot import SLOTS
from holdfast._projection.history import load_state
from holdfast.cli import options
from holdfast.cli.carrying import fetch_experiment, send_experiment, sizes_of
from holdfast.cli.checking import all_problems
from holdfast.cli.places import driver_state, experiment_at, is_experiment, storage_at
from holdfast.cli.text import echo, size
from holdfast.clock import SystemClock
from holdfast.errors import JournalError, StorageError, TuneError
from holdfast.logger.cursor import NAME as TRIAL_FILES
from holdfast.storage.base import Storage
from holdfast.storage.local import LocalStorage
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.uri import bare, is_uri

__all__ = ["copy", "rm"]

# What holdfast writes into an experiment's directory beside the trials' directories; the journal, which names those, goes last.
_OURS = ("logs", "requests", TRIAL_FILES, "definitions", "journal")
_GONE = ".holdfast-removed"  # what the journal is called once the experiment is none any more


@click.command("copy", short_help="Copy an experiment.")
@click.argument("source", shell_complete=options.directories)
@click.argument("destination", shell_complete=options.directories)
def copy(source: str, destination: str) -> None:
    """Copy the experiment at SOURCE to DESTINATION, which must not exist yet: it is complete and verified, or not there.

    The copy is the same experiment and can be restored. Run only one of the two at a time on one machine: when a driver takes
    charge, it ends what an older driver of the same experiment has left running.
    """
    storage, target = experiment_at(source), storage_at(destination)
    if is_uri(target.uri):
        _copy_to_store(storage, target)
    else:
        _copy_here(storage, target.root)
    echo(f"{storage.root} -> {target.root}: {size(sum(sizes_of(target).values()))}, verified")


def _copy_to_store(storage: Storage, target: Storage) -> None:
    try:
        if target.names(""):
            raise click.UsageError(f"{target.root} is there already: give a name that is free.")
        if f"{bare(target.uri)}/".startswith(f"{bare(storage.uri)}/"):
            raise click.UsageError(f"{target.root} lies in the experiment itself.")
        _refuse_live(storage, "copied")
        send_experiment(storage, target)
        try:
            _refuse_changed(storage, target)
        except click.ClickException:
            target.delete_files([BIRTH])  # it is no experiment; the rest may lie there
            raise
    except StorageError as error:
        raise click.ClickException(f"{storage.root} cannot be copied to {target.root}: {error}") from error
    if not isinstance(storage, ObjectStorage) and not storage.exists(SLOTS):
        echo("It was begun on a file system: there it can be looked at, and it goes on when it is copied to a local directory.")


def _copy_here(storage: Storage, target: str) -> None:
    parent = os.path.dirname(target)
    if os.path.lexists(target):
        raise click.UsageError(f"{target} is there already: give a name that is free.")
    if not os.path.isdir(parent):
        raise click.UsageError(f"There is no directory {parent}.")
    if os.path.join(os.path.realpath(parent), "").startswith(os.path.join(os.path.realpath(storage.root), "")):
        raise click.UsageError(f"{target} lies in the experiment itself.")
    _refuse_live(storage, "copied")
    staged = os.path.join(parent, f".{os.path.basename(target)}.tmp-{secrets.token_hex(4)}")
    try:
        if isinstance(storage, ObjectStorage):
            fetch_experiment(storage, staged)
        else:
            _copy(storage.root, staged)
        _sync_below(staged)
        _refuse_changed(storage, LocalStorage(staged))
        os.rename(staged, target)
        _sync(parent)
    except OSError as error:
        raise click.ClickException(f"{storage.root} cannot be copied to {target}: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _copy(root: str, staged: str) -> None:
    """Copies all but what is only half written and what was asked of a driver. Follows no link."""
    half_written = {os.path.join(root, name) for name in ("journal", "definitions")}

    def left_out(folder: str, names: list[str]) -> list[str]:
        if folder == root:
            return ["requests"]
        return [name for name in names if name.startswith(".tmp-")] if folder.startswith((*half_written,)) else []

    shutil.copytree(root, staged, symlinks=True, ignore=left_out)


def _sync_below(staged: str) -> None:
    for folder, _, names in os.walk(staged):
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                _sync(os.path.join(folder, name))
        _sync(folder)


def _refuse_changed(storage: Storage, made: Storage) -> None:
    """Refuses a copy that does not verify, or whose source was taken up meanwhile."""
    damage = [problem for problem in all_problems(made) if problem.fatal]
    try:
        same = load_state(storage).position == load_state(made).position
    except JournalError as error:
        raise click.ClickException(f"{error}. `holdfast verify {storage.root}` says more; nothing was copied.") from error
    if damage:
        first = damage[0]
        raise click.ClickException(
            f"{first.file}: {first.problem}. `holdfast verify {storage.root}` says more; nothing was copied."
        )
    if not same:
        raise click.ClickException(f"A driver took {storage.root} up while it was copied; nothing was copied.")


@click.command("rm", short_help="Remove experiments.")
@click.argument("paths", nargs=-1, required=True, shell_complete=options.directories)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(paths: tuple[str, ...], yes: bool) -> None:
    """Remove the experiments at PATHS: journals, trials, checkpoints, logs. Asks first.

    What holdfast did not put there stays, and so does the directory then.
    """
    for path in paths:
        storage = storage_at(path)
        if not is_experiment(storage) and storage.exists(_gone(storage)):  # an earlier command ended half-way
            _finish(storage)
            continue
        storage = experiment_at(path)
        _refuse_live(storage, "removed")
        try:
            state, directories = _directories_of(storage)
        except TuneError as error:
            raise click.ClickException(
                f"{error}. What belongs to the experiment cannot be told: remove {storage.root} yourself."
            ) from error
        what = f"{storage.root}: {len(state.trials)} trials, {size(sum(sizes_of(storage).values()))}, {driver_state(state)}"
        if not yes and not click.confirm(f"Remove {what}?", err=True):
            echo(f"{storage.root} stays.")
            continue
        try:
            left = _remove(storage, directories)
        except TuneError as error:
            raise click.ClickException(str(error)) from error
        echo(
            f"{storage.root} is removed."
            if not left
            else f"{storage.root} is removed, but for what is not holdfast's: {', '.join(left)}"
        )


def _directories_of(storage: Storage) -> tuple[ExperimentState, list[str]]:
    """The state, and the directories that trials have ever had: a restart gives a trial another one."""
    state = ExperimentState()
    found: dict[str, None] = {}
    for record in _journal.read(storage):
        state.fold(record)
        if isinstance(record.event, (TrialSuggested, EpochStarted)):  # these alone give a trial a directory
            found.update(dict.fromkeys(trial.dirname for trial in state.trials.values()))
    # A name that would lead elsewhere was never given by holdfast.
    return state, [name for name in found if os.path.basename(name) == name and name not in (".", "..", *_OURS)]


def _remove(storage: Storage, directories: list[str]) -> list[str]:
    """Removes what is holdfast's; returns what else was there. Takes charge first, so that no driver can meanwhile.

    After a crash in the middle the journal is still there, and the command may be given again.
    """
    journal = open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock())
    try:
        for name in (*directories, *_policy_logs(storage), *_OURS[:-1]):
            storage.delete(name)
        journal.close(seal=False)  # no later driver gets past this process as long as it lives
        # Renamed first: a journal is there whole, or there is none. On a store the birth alone makes it one.
        if is_uri(storage.uri):
            storage.delete_files([BIRTH])
        else:
            os.rename(os.path.join(storage.root, "journal"), os.path.join(storage.root, _GONE))
    finally:
        journal.close()
    return _finish(storage)


def _finish(storage: Storage) -> list[str]:
    """Removes the journal that counts no more, and the directory where nothing is left in it; returns what is."""
    storage.delete("journal" if is_uri(storage.uri) else _GONE)
    left = storage.names("")
    if not left and not is_uri(storage.uri):
        os.rmdir(storage.root)
    return left


def _gone(storage: Storage) -> str:
    """What is there of an experiment that is none any more."""
    return SLOTS if is_uri(storage.uri) else _GONE


def _policy_logs(storage: Storage) -> list[str]:
    names = storage.names("")
    return [name for name in names if name == "pbt_global.txt" or (name.startswith("pbt_policy_") and name.endswith(".txt"))]


def _refuse_live(storage: Storage, what: str) -> None:
    """Refuses an experiment whose driver lives; where that cannot be seen from here, its heartbeat is watched."""
    try:
        state = load_state(storage)
    except JournalError:
        return  # whoever is to do something with it says so
    now = driver_state(state)
    if now == "running":
        assert state.epoch is not None
        raise click.ClickException(
            f"{storage.root} is at work (pid {state.epoch.pid} on {state.epoch.host}), and not {what}: `holdfast stop` it first."
        )
    if now == "open" and state.epoch is not None:
        click.echo("holdfast: its driver may be at work on another machine; watching its heartbeat for 15 s.", err=True)
        epoch = state.epoch
        owner = Owner(epoch.host, epoch.pid, epoch.boot_id, -1, epoch.start_ticks)  # not to be seen from here
        try:
            wait_politely(storage.root, owner, SystemClock(), signs_of(storage, epoch.epoch))
        except TuneError as error:
            raise click.ClickException(f"{error} It is not {what}.") from error


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
