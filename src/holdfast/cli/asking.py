"""`stop`, `pause` and `resume`: what somebody asks of an experiment from another terminal.

Knows how to ask. The experiment's driver does what is asked, and puts it on record; these commands never write the journal.
"""

from __future__ import annotations

import click

from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import FINAL
from holdfast._projection.history import load_state
from holdfast._runtime.inbox import ask
from holdfast.cli import options
from holdfast.cli.places import driver_state, experiment_at, trial_meant
from holdfast.cli.text import echo
from holdfast.errors import JournalError, StorageError

__all__ = ["COMMANDS"]


@click.command("stop", short_help="End an experiment or a trial early.")
@options.path
@options.trial
def stop(path: str, trial: str | None) -> None:
    """End the experiment at PATH early, or one TRIAL of it: running trials end with their next row, others at once."""
    _ask(path, "stop", trial, "ends with its next row", "ends: running trials with their next row, others at once")


@click.command("pause", short_help="Pause an experiment or a trial.")
@options.path
@options.trial
def pause(path: str, trial: str | None) -> None:
    """Pause the experiment at PATH, or one TRIAL of it: it leaves its place with its next row, and waits."""
    _ask(path, "pause", trial, "is paused with its next row", "is paused: trials leave their places with their next rows")


@click.command("resume", short_help="Let what was paused go on.")
@options.path
@options.trial
def resume(path: str, trial: str | None) -> None:
    """Let the experiment at PATH, or one TRIAL of it, go on after `pause`."""
    _ask(path, "resume", trial, "goes on from its newest checkpoint", "goes on: trials from their newest checkpoints")


COMMANDS = (stop, pause, resume)


def _ask(path: str, verb: str, wanted: str | None, of_a_trial: str, of_all: str) -> None:
    storage = experiment_at(path)
    try:
        state = load_state(storage)
    except (JournalError, StorageError) as error:
        raise click.ClickException(str(error)) from error
    trial = None if wanted is None else trial_meant(state, wanted)
    if state.ended == "finished" or (trial is not None and trial.state in FINAL):
        what = f"Trial {trial.trial_id}" if trial else f"The experiment at {storage.root}"
        raise click.UsageError(f"{what} has ended: there is nothing to {verb}.")
    if verb == "resume":
        _check_paused(state, None if trial is None else trial.trial_id)
    try:
        ask(storage, verb, trial.trial_id if trial else "")
    except StorageError as error:
        raise click.ClickException(str(error)) from error
    told = f"Trial {trial.trial_id} {of_a_trial}" if trial else f"{storage.root} {of_all}"
    driver = driver_state(state)
    if driver == "running":
        echo(f"{told}.")
    elif driver == "open":
        echo(f"{told}, if its driver, on another machine, still lives; else when the next one has taken charge.")
    else:
        echo(f"No driver is at work. When the next one has taken charge: {told}.")


def _check_paused(state: ExperimentState, trial_id: str | None) -> None:
    """Refuses what would change nothing as far as the record goes; a request that is not on record yet may still wait."""
    if trial_id is not None and state.held and not state.trial(trial_id).held:
        raise click.UsageError("The whole experiment is paused: `holdfast resume PATH` lets it go on.")
