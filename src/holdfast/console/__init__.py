"""Progress on the terminal.

    verbose   on a terminal                              elsewhere (a file, a pipe): one line per event
    0         nothing                                    nothing
    1         a live table: running trials, counts,      trials that fail or end, drivers, the end
              the best so far, the time
    2         the same                                   also: trials and attempts that start, checkpoints given up
    3         the same, and the plain lines above it     also: every row

Screens hear records and read a fold of the journal; they decide nothing and cannot touch the driver. A notebook is a terminal
whose table is repainted in a cell's output. A `ProgressReporter` of the user's takes the console's place.
"""

from __future__ import annotations

from holdfast.console.base import Console, make_console
from holdfast.console.reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter

__all__ = ["CLIReporter", "Console", "JupyterNotebookReporter", "ProgressReporter", "make_console"]
