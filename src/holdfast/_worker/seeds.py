"""Chance, given: the generators that a trial's code draws from begin at the same place in each attempt.

`random`, NumPy's and torch's global generators are seeded from (experiment's seed, trial's number), so that an attempt
that is done again draws the same numbers. A library that is not loaded yet is seeded when it is imported.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["seed_all"]


def seed_all(seed: int, index: int) -> None:
    """Seeds all generators for the trial with number `index`."""
    random.seed(f"{seed}.{index}")
    number = random.getrandbits(63)
    for name, action in _SEEDERS.items():
        module = sys.modules.get(name)
        if module is not None:
            action(module, number)
    _SeedOnImport.expect(number)


def _seed_numpy(module: ModuleType, number: int) -> None:
    module.seed(number % 2**32)


def _seed_torch(module: ModuleType, number: int) -> None:
    module.manual_seed(number)


_SEEDERS: dict[str, Callable[[Any, int], None]] = {"numpy.random": _seed_numpy, "torch": _seed_torch}


class _SeedOnImport:
    """A finder that finds nothing itself: it has the library's own loader seed the library once it is loaded."""

    number = 0

    @classmethod
    def expect(cls, number: int) -> None:
        """Seeds with `number` whatever of the libraries is imported from now on."""
        cls.number = number
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The library's own spec, its loader made to seed; None for all other modules."""
        if name not in _SEEDERS or name in sys.modules:
            return None
        spec = _found_by_others(cls, name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_seed(module: ModuleType) -> None:
                load(module)
                _SEEDERS[name](module, cls.number)

            spec.loader.exec_module = load_and_seed  # type: ignore[method-assign]
        return spec


def _found_by_others(me: object, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is not me:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None
