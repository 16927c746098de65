"""Progress on the terminal.

What each level of `verbose` shows stands in one table, in docs/cli.md.

Screens hear records and read a fold of the journal; they decide nothing and cannot touch the driver. A notebook is a terminal
whose table is repainted in a cell's output. A `ProgressReporter` of the user's takes the console's place.
"""

from __future__ import annotations

from holdfast.console.base import Console, make_console
from holdfast.console.reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter

__all__ = ["CLIReporter", "Console", "JupyterNotebookReporter", "ProgressReporter", "make_console"]
