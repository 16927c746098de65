"""Which modules a server should hold before it forks, and how it loads them.

Only *installed* modules are loaded ahead: those of the standard library and of the `site-packages` on the path that the driver
has loaded and whose names stand in the pickled trainable. Code of the user's own, `__main__` or beside the script, is never
run here. Nothing here belongs to one engine: whoever forks after loading asks `fit_to_fork`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

__all__ = ["fit_to_fork", "load_all", "modules_needed"]

_SEARCHED = 1024 * 1024
_LOOKS = 10
_BEARS_A_FORK = {"jemalloc_bg_thd"}
"""jemalloc (pyarrow holds one, which pandas loads) waits before a fork until this thread of its own is at rest, and the child
goes on without it: what the thread did is then done where memory is taken and given back."""
_NAME = rb"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"


def modules_needed(pickled: bytes) -> list[str]:
    """Names of installed modules that the pickle names and this process has loaded; the start of a large pickle decides."""
    import re

    words = {word.decode() for word in re.findall(_NAME, pickled[:_SEARCHED])}
    roots = _roots()
    return sorted(name for name in words if name in sys.modules and _is_installed(name, roots))


def load_all(names: list[str], without: Collection[str] = ()) -> str:
    """Loads modules, up to one that makes this process unfit to fork.

    A module that cannot be loaded here is left to the worker, where the user sees why.

    Args:
        names: The modules.
        without: Packages that are left to the workers.

    Returns:
        The package of that one: whoever wants to hold the others begins anew without it. Empty where this process is as it was.
    """
    if not fit_to_fork():
        return ""
    for name in names:
        package = name.partition(".")[0]
        if package in without:
            continue
        with contextlib.suppress(Exception):  # the border to installed code: a worker that needs it raises it again
            importlib.import_module(name)
        if not fit_to_fork():
            return package
    return ""


def fit_to_fork() -> bool:
    """Whether no thread of this process would be missed after a fork, which takes only the one that calls it along.

    OpenBLAS ends its threads by itself before a fork and starts new ones when they are needed. Only a fork shows that: one is
    made where it matters, and its child is gone when this returns.
    """
    if not _missed_after_a_fork():
        return True
    pid = os.fork()
    if not pid:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):  # somebody in this process reaps all children
        os.waitpid(pid, 0)
    for _ in range(_LOOKS):  # a thread that has been waited for is listed until the kernel has put it away
        if not _missed_after_a_fork():
            return True
        time.sleep(0.01)
    return False


def _missed_after_a_fork() -> list[str]:
    """Names of the threads, native ones included, that are neither the one that asks nor known to bear a fork."""
    names = []
    for thread in os.listdir("/proc/self/task"):
        if int(thread) == threading.get_native_id():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            names.append(Path(f"/proc/self/task/{thread}/comm").read_text(errors="replace").rstrip("\n"))
    return [name for name in names if name not in _BEARS_A_FORK]


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

    paths = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    # The user's own, the system's below an environment, Debian's, another environment's: all are on the path by these names.
    paths += [path for path in sys.path if os.path.basename(os.path.normpath(path)) in ("site-packages", "dist-packages")]
    return tuple(os.path.join(path, "") for path in paths)
