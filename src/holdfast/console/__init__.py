"""Progress on the terminal.

    verbose   on a terminal                              elsewhere (a file, a pipe): one line per event
    0         nothing                                    nothing
    1         a live table: running trials, counts,      trials that fail or end, drivers, the end
              the best so far, the time
    2         the same                                   also: trials and attempts that start, checkpoints given up
    3         the same, and the plain lines above it     also: every row

Screens hear records and read a fold of the journal; they decide nothing and cannot touch the driver.
"""

from __future__ import annotations

from holdfast.console.base import Console, make_console

__all__ = ["Console", "make_console"]
