"""The live table at the bottom of a terminal, drawn with rich. Loaded only where there is a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from holdfast.console.picture import Picture, Subject

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["LiveTable"]


class LiveTable:
    """What stands at the bottom of the terminal.

    Args:
        out: The terminal.
        subject: What is shown.
    """

    def __init__(self, out: TextIO, subject: Subject) -> None:
        self._picture = Picture(subject)
        self._live = Live(console=Console(file=out), auto_refresh=False, transient=False)
        self._live.start()

    def draw(self, state: ExperimentState, changed: Iterable[str], idle_s: float | None) -> None:
        """Draws the state as it is; see `console.base.Painted`."""
        self._picture.look_at(state.trials[trial_id] for trial_id in changed)
        size = self._live.console.size
        self._live.update(self._picture.drawn(state, idle_s, size.width, size.height), refresh=True)

    def above(self, line: str) -> None:
        """Prints a line above the table."""
        self._live.console.print(Text(line))

    def close(self) -> None:
        """Leaves the last picture on the terminal."""
        self._live.stop()
