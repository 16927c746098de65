"""The live table in a notebook: one output that is repainted in place. Loaded only inside a notebook's kernel."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState
    from holdfast.console.picture import Subject

__all__ = ["NotebookTable", "Output"]

_WIDTH, _HEIGHT = 110, 40


class Output:
    """One output of a cell, painted again and again.

    Args:
        overwrite: Whether the next picture takes the place of the last; else it goes below.
    """

    def __init__(self, *, overwrite: bool = True) -> None:
        self._overwrite = overwrite
        self.begin()

    def begin(self) -> None:
        """Has the next picture go where the cell that runs now has its outputs."""
        self._name = f"holdfast-{secrets.token_hex(4)}"
        self._painted = False

    def paint(self, text: str, html: str) -> None:
        """Shows it: the text where there is no browser."""
        from IPython.display import display

        bundle: dict[str, Any] = {"text/plain": text, "text/html": html}
        if self._overwrite:
            display(bundle, raw=True, display_id=self._name, update=self._painted)
        else:
            display(bundle, raw=True)
        self._painted = True


class NotebookTable:
    """As `LiveTable`, in a cell's output."""

    def __init__(self, subject: Subject) -> None:
        from holdfast.console.picture import Picture

        self._picture = Picture(subject)
        self._output = Output()

    def draw(self, state: ExperimentState, changed: Iterable[str], idle_s: float | None) -> None:
        """Draws the state as it is; see `console.base.Painted`."""
        from rich.console import Console

        self._picture.look_at(state.trials[trial_id] for trial_id in changed)
        console = Console(file=io.StringIO(), record=True, width=_WIDTH, height=_HEIGHT, force_jupyter=False)
        console.print(self._picture.drawn(state, idle_s, _WIDTH, _HEIGHT))
        html = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>", clear=False)
        self._output.paint(console.export_text(), html)

    def above(self, line: str) -> None:
        """Prints a line to the cell's own output."""
        print(line)

    def close(self) -> None:
        """Leaves the last picture."""
