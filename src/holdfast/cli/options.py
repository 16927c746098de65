"""What several verbs take: options and arguments, with what a shell may complete them by. Reads names, writes nothing."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from holdfast._journal import exists
from holdfast._projection.best import MODES, SCOPES
from holdfast._projection.history import load_state
from holdfast.errors import TuneError
from holdfast.storage.opening import open_storage

__all__ = ["as_json", "directories", "metric", "mode", "one_trial", "path", "scope", "trial"]


_PATIENCE_S = 2.0


def _trials(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids of the trials of the experiment that was named before."""
    root = context.params.get("path")
    try:
        storage = open_storage(root, patience_s=_PATIENCE_S) if root else None
        state = load_state(storage) if storage is not None and exists(storage) else None
    except TuneError:  # a damaged journal, a store that does not answer: no place to say so while a shell completes a word
        state = None
    found = state.trials.values() if state is not None else ()
    return [CompletionItem(one.trial_id, help=one.state) for one in found if one.trial_id.startswith(incomplete)]


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Has the shell complete a directory's name."""
    return [CompletionItem(incomplete, type="dir")]


path = click.argument("path", shell_complete=directories)
trial = click.argument("trial", required=False, shell_complete=_trials)
one_trial = click.argument("trial", shell_complete=_trials)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON (NaN and infinities as null).")
metric = click.option("--metric", default="", help="What the best trial is chosen by; by default the job's metric.")
mode = click.option(
    "--mode", type=click.Choice(MODES), callback=lambda _context, _option, given: given or "", help="By default the job's mode."
)
scope = click.option(
    "--scope",
    default="last",
    type=click.Choice(SCOPES),
    show_default=True,
    help="What stands for a trial: its newest value, its best, or an average.",
)
