"""`holdfast watch`: an experiment as it goes on, seen from another terminal.

Follows the journal, with the same screens as the driver's own; writes, locks and unpickles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from holdfast._core.experiment import ExperimentState
from holdfast._journal import Follower
from holdfast._projection.table import Told
from holdfast.cli import options
from holdfast.cli.places import driver_state, experiment_at
from holdfast.console import make_console
from holdfast.errors import JournalError, StorageError
from holdfast.storage.base import Storage
from holdfast.storage.uri import is_uri

__all__ = ["Watch", "watch"]

_PAUSE_S = 0.25
_STORE_PAUSE_S = 2.0  # each look is a request or two


class Watch:
    """One `holdfast watch`.

    Args:
        storage: The experiment.
        metric, mode: What "best" means; the job's where empty.
        verbose: As in `RunConfig`; 0 for JSON lines.
        pause: What is done between two looks; by default a quarter of a second passes, on a store two.
        once: Whether `show` shows the experiment as it is now, and ends.
    """

    def __init__(
        self,
        storage: Storage,
        metric: str = "",
        mode: str = "",
        verbose: int = 1,
        pause: Callable[[], object] | None = None,
        *,
        once: bool = False,
    ) -> None:
        self._storage = storage
        self._metric, self._mode = metric, mode
        self._verbose = verbose
        self._once = once
        pause_s = _STORE_PAUSE_S if is_uri(storage.uri) else _PAUSE_S
        self._pause = pause or (lambda: time.sleep(pause_s))
        self._follower = Follower(storage)
        self._said = ""
        self._begin()
        self._look()

    def show(self) -> None:
        """Shows what is on record, and (unless `once`) goes on until a driver has ended in good order, or nobody reads."""
        while True:
            self._tell()
            if self._once or self._told.state.ended or self._console.unheard:
                break
            self._pause()
            self._look()
        self._console.close()

    def close(self) -> None:
        """Leaves the last picture on the terminal."""
        self._console.close()

    def _begin(self) -> None:
        self._told = Told(self._storage, [])
        self._console: Any = None
        self._fresh = True

    def _look(self) -> None:
        """Takes in what is new in the journal."""
        try:
            reset, records = self._follower.poll()
        except (JournalError, StorageError) as error:
            raise click.ClickException(str(error)) from error
        if reset:
            self._console.close()
            self._begin()
        self._fresh = self._fresh or bool(records)
        for record in records:
            self._told.hear(record)
            if self._console is None:
                self._console = self._screen()
            self._console.hear(record, self._told.state)

    def _screen(self) -> Any:
        policy = self._told.state.policy
        return make_console(
            self._verbose,
            metric=self._metric or policy.metric,
            mode=self._mode or policy.mode,
            total=policy.num_samples,
            at_work=_at_work,
            picture=self._once,
        )

    def _tell(self) -> None:
        self._console.tick(time.monotonic())
        state = driver_state(self._told.state)
        if not self._verbose:
            if self._fresh or state != self._said:
                whole = {**self._told.experiment(self._metric, self._mode), "state": state}
                click.echo(msgspec.json.encode(whole).decode())
            self._fresh = False
        elif state != self._said and state in ("killed", "never driven"):
            self._console.say("no driver is at work on the experiment")
        self._said = state


def _at_work(state: ExperimentState) -> bool:
    return driver_state(state) in ("running", "open")


@click.command("watch", short_help="Show an experiment as it goes on.")
@options.path
@click.option("--once", is_flag=True, help="Show it as it is now, and end.")
@click.option("-v", "--verbose", type=click.IntRange(1, 3), default=1, show_default=True, help="As in RunConfig.")
@options.metric
@options.mode
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON each time that something has changed.")
@click.pass_context
def watch(context: click.Context, path: str, once: bool, verbose: int, metric: str, mode: str, as_json: bool) -> None:
    """Show the experiment at PATH as it goes on, until its driver ends in good order, or Ctrl+C.

    A live table on a terminal, else one line per event; with --once the table anywhere. Where a driver was killed it waits for
    the next one.
    """
    showing = Watch(experiment_at(path), metric, mode, 0 if as_json else verbose, once=once)
    try:
        showing.show()
    except KeyboardInterrupt:
        showing.close()
        context.exit(130)
