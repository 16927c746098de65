"""The `holdfast` command: `ls`, `show`, `logs`, `verify` look and change nothing; `repair` mends.

`stop`, `pause` and `resume` ask the experiment's driver, which does it and puts it on record.

Exit codes: 0 all is well, 1 damage was found, 2 the command cannot be carried out as given.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Runs the command line. Ends the process with the exit code."""
    from holdfast.cli.verbs import holdfast

    holdfast(prog_name="holdfast")
