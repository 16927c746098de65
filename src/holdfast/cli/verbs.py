"""The verbs of the command line. Looking is harmless: no verb that only looks ever writes, locks or unpickles."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from click.shell_completion import get_completion_class

import holdfast as package
from holdfast import settings
from holdfast._projection.table import Told
from holdfast.cli import options
from holdfast.cli.asking import COMMANDS
from holdfast.cli.best import best
from holdfast.cli.checking import all_problems
from holdfast.cli.differing import diff
from holdfast.cli.doctor import doctor
from holdfast.cli.exporting import export
from holdfast.cli.importing import import_
from holdfast.cli.logs import logs
from holdfast.cli.moving import copy, rm
from holdfast.cli.places import driver_state, experiment_at, experiments_under, told_at, trial_meant
from holdfast.cli.running import run
from holdfast.cli.showing import show_experiment, show_trial
from holdfast.cli.text import ago, columns, echo, echo_json
from holdfast.cli.watching import watch
from holdfast.errors import JournalError, StorageError, TuneError
from holdfast.storage.base import Storage

__all__ = ["holdfast"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="holdfast")
def holdfast() -> None:
    """Run experiments, look at them, ask something of them, check and mend them."""


@click.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a SHELL complete verbs, options, paths and trials: eval "$(holdfast completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(holdfast, {}, "holdfast", "_HOLDFAST_COMPLETE").source())


for command in (run, watch, best, logs, export, import_, diff, copy, rm, doctor, completion, *COMMANDS):
    holdfast.add_command(command)


@holdfast.command("ls", short_help="List experiments.")
@click.argument("directory", default="")
@options.metric
@options.mode
@options.as_json
def list_experiments(directory: str, metric: str, mode: str, as_json: bool) -> None:
    """List the experiments under DIRECTORY (by default where experiments go)."""
    found = [_summary(storage, metric, mode) for storage in experiments_under(directory or settings.results_dir())]
    if as_json:
        echo_json(found)
    elif not found:
        echo(f"No experiments under {directory or settings.results_dir()}.")
    else:
        echo(columns(("path", "state", "trials", "best", "last change"), [_line(summary) for summary in found]))


def _summary(storage: Storage, metric: str, mode: str) -> dict[str, Any]:
    try:
        return _told(Told(storage), metric, mode)
    except (JournalError, StorageError) as error:
        return {"path": storage.uri, "state": "damaged", "problem": str(error)}


def _told(told: Told, metric: str, mode: str) -> dict[str, Any]:
    return {**told.experiment(metric, mode), "state": driver_state(told.state)}


def _line(summary: dict[str, Any]) -> tuple[str, ...]:
    if summary["state"] == "damaged":
        return summary["path"], "damaged", "-", "-", "see `holdfast verify`"
    counts = ", ".join(f"{count} {status}" for status, count in summary["trials"].items()) or "none"
    best = summary["best"]
    value = "-" if best is None else f"{best['metric']}={best['value']:.6g} ({best['trial_id']})"
    return summary["path"], summary["state"], counts, value, ago(summary["last_change"])


@holdfast.command("show", short_help="Show an experiment or a trial.")
@options.path
@options.trial
@click.option("--superseded", is_flag=True, help="Also the rows that were redone, cut or left behind by a restart.")
@options.metric
@options.mode
@options.as_json
def show(path: str, trial: str | None, superseded: bool, metric: str, mode: str, as_json: bool) -> None:
    """Show the experiment at PATH, or one TRIAL of it (its id, number or name)."""
    if superseded and trial is None:
        raise click.UsageError("--superseded shows the rows of one trial: name the TRIAL.")
    told = told_at(experiment_at(path))
    if trial is None:
        whole, lines = _told(told, metric, mode), told.trials()
        if as_json:
            echo_json({**whole, "trials_table": lines})
        else:
            show_experiment(whole, lines)
        return
    story = told.trial(trial_meant(told.state, trial).trial_id, superseded=superseded)
    if as_json:
        echo_json(story)
    else:
        show_trial(story)


@holdfast.command("verify", short_help="Check an experiment for damage.")
@options.path
@click.option(
    "--explain", is_flag=True, help="Also feed the record to fresh plug-ins and compare their answers. Runs the user's code."
)
@options.as_json
@click.pass_context
def verify(context: click.Context, path: str, explain: bool, as_json: bool) -> None:
    """Check the experiment at PATH: journal, definitions, checkpoints. Exit code 1 on damage."""
    storage = experiment_at(path)
    problems = all_problems(storage)
    damaged = any(problem.fatal for problem in problems)
    unexplained = _explained(storage) if explain and not damaged else []
    if as_json:
        told: dict[str, Any] = {
            "path": storage.uri,
            "damaged": damaged,
            "problems": [msgspec.to_builtins(problem) for problem in problems],
        }
        if explain:
            told["unexplained"] = unexplained if not damaged else None
        echo_json(told)
    else:
        for problem in problems:
            word = "damage" if problem.fatal else "note"
            echo(f"{word}: {problem.file} at byte {problem.offset}: {problem.problem}. {problem.remedy}")
        for line in unexplained:
            echo(f"unexplained: {line}")
        echo(f"{storage.root}: {_verdict(damaged, unexplained, explain)}")
    context.exit(1 if damaged or unexplained else 0)


def _explained(storage: Storage) -> list[str]:
    from holdfast._assembly.explaining import explain

    try:
        return explain(storage)
    except TuneError as error:
        raise click.ClickException(str(error)) from error


def _verdict(damaged: bool, unexplained: list[str], explain: bool) -> str:
    if damaged:
        return "damaged"
    if unexplained:
        return f"{len(unexplained)} answers on record do not follow from it"
    return "sound, and explains itself" if explain else "sound"


@holdfast.command("repair", short_help="Mend an experiment.")
@options.path
@click.option("--takeover", is_flag=True, help="Do not wait for a driver that may still be at work.")
@options.as_json
def repair(path: str, takeover: bool, as_json: bool) -> None:
    """Mend the experiment at PATH: sweep what no record names, compact the journal, write the trials' files anew."""
    from holdfast._assembly import repairing

    storage = experiment_at(path)
    try:
        done = repairing.repair(storage, takeover)
    except TuneError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        echo_json({"path": storage.uri, "done": done})
    else:
        for line in done:
            echo(line)
        echo(f"{storage.root}: in order")
