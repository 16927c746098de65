"""`holdfast import`: what was tried elsewhere, as a file that a searcher can begin with. Reads there, writes one file here."""

from __future__ import annotations

import os

import click

from holdfast.cli.text import echo
from holdfast.errors import ConfigError
from holdfast.search.imported import Past

__all__ = ["import_"]


@click.command("import", short_help="Take over trials from Optuna or Ray Tune.")
@click.argument("source")
@click.argument("output", type=click.Path(dir_okay=False))
@click.option("--study", help="The name of the Optuna study, where there are several.")
@click.option("--metric", help="What the trials of a result directory are about: a key of their rows.")
@click.option("--mode", type=click.Choice(["min", "max"]), default="min", help="For a result directory; a study knows its own.")
def import_(source: str, output: str, study: str | None, metric: str | None, mode: str) -> None:
    """Write the trials of SOURCE to OUTPUT, for `holdfast.search.imported.Past.read`.

    SOURCE is an Optuna storage (sqlite:///study.db, or the path of a journal file), or a directory of results of Ray Tune.
    """
    if os.path.isdir(source) and not metric:
        raise click.UsageError("A directory of results needs --metric.")
    try:
        past = Past.of_results(source, metric, mode) if metric and os.path.isdir(source) else Past.of_optuna(source, study)
        past.write(output)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except FileExistsError:
        raise click.UsageError(f"{output} is there already: choose another name.") from None
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from error
    echo(f"{output}: {len(past.points)} trials")
