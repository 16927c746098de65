"""How a further Python is started that finds what this one finds."""

from __future__ import annotations

import sys

__all__ = ["python_command"]


def python_command(sys_path: list[str], module: str, call: str) -> list[str]:
    """The command line of a Python that calls `call` of `module`, with the given search path and this one's flags."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    flags += ["-B"] if sys.flags.dont_write_bytecode else []
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    for option in sys.warnoptions:
        flags += ["-W", option]
    statement = f"import sys; sys.path[:] = {sys_path!r}; from {module} import {call.partition('(')[0]}; {call}"
    return [sys.executable, *flags, "-c", statement]
