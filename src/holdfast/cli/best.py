"""`holdfast best`: the best trial, and where what it came to lies. Reads the journal's projection and writes nothing."""

from __future__ import annotations

from typing import Any

import click

from holdfast._core.ids import checkpoint_name
from holdfast._projection.table import Told, status
from holdfast.cli import options
from holdfast.cli.places import experiment_at, told_at
from holdfast.cli.text import echo, echo_json, pairs
from holdfast.storage.opening import inside

__all__ = ["best"]


@click.command("best", short_help="Show the best trial.")
@options.path
@options.metric
@options.mode
@options.scope
@options.as_json
def best(path: str, metric: str, mode: str, scope: str, as_json: bool) -> None:
    """Show the best trial of the experiment at PATH: its configuration, directory and newest checkpoint."""
    storage = experiment_at(path)
    told = told_at(storage)
    policy = told.state.policy
    metric, mode = metric or policy.metric, mode or policy.mode
    if not metric or not mode:
        missing = "no metric" if not metric else "no mode"
        raise click.UsageError(f"The job names {missing}: give --metric NAME --mode max|min.")
    found = told.best(metric, mode, scope)
    if found is None:
        raise click.ClickException(f"No trial of {storage.root} has a finite number as {metric!r}.")
    whole = {**found, "scope": scope, **_places(told, storage.uri, found["trial_id"])}
    if as_json:
        echo_json(whole)
        return
    echo(f"{whole['trial_id']}  {metric}={found['value']:.6g} ({mode}, {scope})  {whole['status']} after {whole['rows']} rows")
    echo(f"  config      {pairs(found['config'], 100)}")
    echo(f"  directory   {whole['directory']}")
    echo(f"  checkpoint  {whole['checkpoint'] or 'none is kept'}")


def _places(told: Told, uri: str, trial_id: str) -> dict[str, Any]:
    trial = told.state.trial(trial_id)
    directory = inside(uri, trial.dirname)
    kept = inside(directory, checkpoint_name(trial.kept[-1].saved.index)) if trial.kept else None
    return {
        "status": status(trial),
        "rows": len(told.history.rows(trial_id)),
        "directory": directory,
        "checkpoint": kept,
    }
