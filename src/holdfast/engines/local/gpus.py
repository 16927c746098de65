"""The GPUs of this machine: which there are, and which attempt is given which.

Knows them by the names that `CUDA_VISIBLE_DEVICES` takes. Refuses to know what runs on them, and who may ask for how much.
"""

from __future__ import annotations

import functools
import importlib
import shutil
import subprocess
from collections.abc import Sequence
from math import ceil
from typing import Any

from holdfast import settings

__all__ = ["Gpus", "gpu_ids"]

_ROUNDING = 1e-9  # 0.1 + 0.2 must not lose a place to floating point
_PATIENCE_S = 20.0


class Gpus:
    """The book that is kept of them: a fraction lies on one GPU, beside others; a whole GPU is nobody else's.

    Args:
        amount: How many there are in all; of the last there may be a part.
        ids: Their names; where they are fewer than the amount, the rest are called by their numbers.
    """

    def __init__(self, amount: float, ids: Sequence[str]) -> None:
        names = [*ids, *(str(number) for number in range(len(ids), ceil(amount)))]
        self._free = {name: min(1.0, amount - number) for number, name in enumerate(names) if amount - number > _ROUNDING}
        self._taken: dict[object, tuple[tuple[str, ...], float]] = {}

    def take(self, who: object, amount: float) -> tuple[str, ...] | None:
        """Gives `amount` to somebody who has none; returns the names of the GPUs, or None where there is no room now.

        A fraction goes where the least is left, so that whole GPUs stay whole.
        """
        if amount <= 0:
            return ()
        if amount < 1:
            room = [name for name, free in self._free.items() if free + _ROUNDING >= amount]
            chosen, part = sorted(room, key=self._free.__getitem__)[:1], amount
        else:
            count, part = ceil(amount - _ROUNDING), 1.0
            chosen = [name for name, free in self._free.items() if free + _ROUNDING >= 1][:count]
            if len(chosen) < count:
                return None
        if not chosen:
            return None
        for name in chosen:
            self._free[name] -= part
        self._taken[who] = tuple(chosen), part
        return tuple(chosen)

    def give_back(self, who: object) -> None:
        """Frees what somebody was given; nothing happens where that was nothing."""
        chosen, part = self._taken.pop(who, ((), 0.0))
        for name in chosen:
            self._free[name] += part


def gpu_ids() -> tuple[str, ...]:
    """The names of the GPUs that this process may use: those in `CUDA_VISIBLE_DEVICES`, else all that the driver shows."""
    return _gpu_ids(settings.gpus_made_visible())


@functools.lru_cache(maxsize=4)
def _gpu_ids(visible: str | None) -> tuple[str, ...]:
    if visible is None:
        return tuple(str(number) for number in range(_counted()))
    names = []
    for name in map(str.strip, visible.split(",")):
        if not (name.isdecimal() or name.startswith(("GPU-", "MIG-"))):
            break  # as CUDA does: what stands behind a name that means nothing is not seen
        names.append(name)
    return tuple(names)


def _counted() -> int:
    """How many GPUs the driver shows: asked of NVML where `nvidia-ml-py` is installed, else of `nvidia-smi`; 0 without either."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return _listed()
    try:
        nvml.nvmlInit()
        try:
            return int(nvml.nvmlDeviceGetCount())
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:  # no driver, or no GPU
        return 0


def _listed() -> int:
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        told = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer has no GPU to give
        return 0
    return sum(line.startswith("GPU ") for line in told.stdout.splitlines())
