"""Which modules a server should hold before it forks, and how it loads them.

Only *installed* modules are loaded ahead: those of the standard library and of `site-packages` that the driver has loaded
and whose names stand in the pickled trainable. Code of the user's own, `__main__` or beside the script, is never run here.
"""

from __future__ import annotations

import importlib
import os
import sys

__all__ = ["load_all", "modules_needed", "threads"]

_SEARCHED = 1024 * 1024
_NAME = rb"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"


def modules_needed(pickled: bytes) -> list[str]:
    """Names of installed modules that the pickle names and this process has loaded; the start of a large pickle decides."""
    import re

    words = {word.decode() for word in re.findall(_NAME, pickled[:_SEARCHED])}
    roots = _roots()
    return sorted(name for name in words if name in sys.modules and _is_installed(name, roots))


def load_all(names: list[str]) -> bool:
    """Loads the modules; False as soon as one has started a thread, which makes this process unfit to fork.

    A module that cannot be loaded here is left to the worker, where the user sees why.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001, S112 - the border to installed code: a worker that needs it raises it again
            continue
        if threads() > 1:
            return False
    return True


def threads() -> int:
    """How many threads this process has, native ones included."""
    return len(os.listdir("/proc/self/task"))


def _is_installed(name: str, roots: tuple[str, ...]) -> bool:
    if name == "__main__" or name.partition(".")[0] in ("holdfast", "ray"):
        return False
    spec = getattr(sys.modules[name], "__spec__", None)
    origin = getattr(spec, "origin", None)
    if not isinstance(origin, str):
        return False
    return origin in ("built-in", "frozen") or origin.startswith(roots)


def _roots() -> tuple[str, ...]:
    import sysconfig

    paths = sysconfig.get_paths()
    return tuple(os.path.join(paths[key], "") for key in ("stdlib", "platstdlib", "purelib", "platlib"))
