"""How many threads libraries use in a trial: as many as it has CPUs.

Knows the variables that numerical libraries look at when they are loaded, and how the loaded ones are told. It does not know
what they compute.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["VARIABLES", "bound_threads"]

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def bound_threads(variables: Iterable[str], cpus: float) -> None:
    """Has libraries use as many threads as there are CPUs, one at least.

    Those that are loaded from now on look at the variables. Of those that are loaded already, in the process that this one was
    forked from and with one thread, torch and OpenBLAS (NumPy, SciPy) are told; others go on with one.

    Args:
        variables: Those that are ours to set: what the user has set stands, and then loaded libraries are left alone.
        cpus: What the trial was given.
    """
    count = max(1, int(cpus))
    ours = list(variables)
    for name in ours:
        if os.environ.get(name) != str(count):  # a forked process pays for each page that it writes
            os.environ[name] = str(count)
    if "torch" in sys.modules and "OMP_NUM_THREADS" in ours:
        sys.modules["torch"].set_num_threads(count)
    if count > 1 and "OPENBLAS_NUM_THREADS" in ours and "numpy" in sys.modules:
        _tell_openblas(count)


def _tell_openblas(count: int) -> None:
    """Calls the setter of each OpenBLAS that this process has loaded; a library that calls it otherwise is left as it is."""
    import ctypes

    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        words = (line.split(maxsplit=5) for line in file)
        paths = {parts[5].rstrip("\n") for parts in words if len(parts) == 6 and "openblas" in parts[5].lower()}
    for path in paths:
        try:
            library = ctypes.CDLL(path)  # loaded already: this gives a handle on it
        except OSError:  # the file was replaced since: it goes on with one thread
            continue
        setter = next((getattr(library, name) for name in _SETTERS if hasattr(library, name)), None)
        if setter is not None:
            setter(count)
