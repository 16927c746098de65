"""The `holdfast` command.

`ls`, `show`, `watch`, `best`, `logs`, `export`, `diff`, `verify` look and change nothing. `stop`, `pause` and `resume` ask the
experiment's driver, which does it and puts it on record. `repair` and `rm` take charge like a driver. `run` starts drivers.

Exit codes: 0 all is well, 1 damage, a difference or something wrong was found, 2 the command cannot be carried out as given.
`run` has its script's.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Runs the command line. Ends the process with the exit code."""
    from holdfast.cli.verbs import holdfast

    holdfast(prog_name="holdfast")
