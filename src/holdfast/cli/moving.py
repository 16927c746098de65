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
from holdfast._journal import FileSigns, Owner, open_journal, wait_politely
from holdfast._projection.history import load_state
from holdfast.cli import options
from holdfast.cli.checking import all_problems
from holdfast.cli.places import driver_state, experiment_at
from holdfast.cli.text import echo, size
from holdfast.clock import SystemClock
from holdfast.errors import JournalError, TuneError
from holdfast.logger.cursor import NAME as TRIAL_FILES
from holdfast.storage.local import LocalStorage

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
    storage = experiment_at(source)
    target = os.path.abspath(os.path.expanduser(destination))
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
        _copy(storage, staged)
        _refuse_changed(storage, staged)
        os.rename(staged, target)
        _sync(parent)
    except OSError as error:
        raise click.ClickException(f"{storage.root} cannot be copied to {target}: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    echo(f"{storage.root} -> {target}: {size(_bytes_below(target))}, verified")


def _copy(storage: LocalStorage, staged: str) -> None:
    """Copies all but what is only half written and what was asked of a driver; durable when it returns. Follows no link."""
    half_written = {os.path.join(storage.root, name) for name in ("journal", "definitions")}

    def left_out(folder: str, names: list[str]) -> list[str]:
        if folder == storage.root:
            return ["requests"]
        return [name for name in names if name.startswith(".tmp-")] if folder.startswith((*half_written,)) else []

    shutil.copytree(storage.root, staged, symlinks=True, ignore=left_out)
    for folder, _, names in os.walk(staged):
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                _sync(os.path.join(folder, name))
        _sync(folder)


def _refuse_changed(storage: LocalStorage, staged: str) -> None:
    """Refuses a copy that does not verify, or whose source was taken up meanwhile."""
    damage = [problem for problem in all_problems(LocalStorage(staged)) if problem.fatal]
    try:
        same = load_state(storage).position == load_state(LocalStorage(staged)).position
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
        storage = LocalStorage(path)
        if not _journal.exists(storage) and storage.exists(_GONE):  # an earlier command ended half-way
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
        what = f"{storage.root}: {len(state.trials)} trials, {size(_bytes_below(storage.root))}, {driver_state(state)}"
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


def _directories_of(storage: LocalStorage) -> tuple[ExperimentState, list[str]]:
    """The state, and the directories that trials have ever had: a restart gives a trial another one."""
    state = ExperimentState()
    found: dict[str, None] = {}
    for record in _journal.read(storage):
        state.fold(record)
        if isinstance(record.event, (TrialSuggested, EpochStarted)):  # these alone give a trial a directory
            found.update(dict.fromkeys(trial.dirname for trial in state.trials.values()))
    # A name that would lead elsewhere was never given by holdfast.
    return state, [name for name in found if os.path.basename(name) == name and name not in (".", "..", *_OURS)]


def _remove(storage: LocalStorage, directories: list[str]) -> list[str]:
    """Removes what is holdfast's; returns what else was there. Takes charge first, so that no driver can meanwhile.

    After a crash in the middle the journal is still there, and the command may be given again.
    """
    journal = open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock())
    try:
        for name in (*directories, *_policy_logs(storage.root), *_OURS[:-1]):
            storage.delete(name)
        journal.close(seal=False)  # no later driver gets past this process as long as it lives
        # Renamed first: a journal is there whole, or there is none.
        os.rename(os.path.join(storage.root, "journal"), os.path.join(storage.root, _GONE))
    finally:
        journal.close()
    return _finish(storage)


def _finish(storage: LocalStorage) -> list[str]:
    """Removes the journal that counts no more, and the directory where nothing is left in it; returns what is."""
    storage.delete(_GONE)
    left = sorted(os.listdir(storage.root))
    if not left:
        os.rmdir(storage.root)
    return left


def _policy_logs(root: str) -> list[str]:
    names = os.listdir(root)
    return [name for name in names if name == "pbt_global.txt" or (name.startswith("pbt_policy_") and name.endswith(".txt"))]


def _refuse_live(storage: LocalStorage, what: str) -> None:
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
            wait_politely(storage.root, owner, SystemClock(), FileSigns(storage, epoch.epoch))
        except TuneError as error:
            raise click.ClickException(f"{error} It is not {what}.") from error


def _bytes_below(root: str) -> int:
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(root) for name in names)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
