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

__all__ = ["kept_generators", "seed_all"]


def seed_all(seed: int, index: int) -> None:
    """Seeds all generators for the trial with number `index`."""
    random.seed(f"{seed}.{index}")
    number = random.getrandbits(63)
    for name, action in _SEEDERS.items():
        module = sys.modules.get(name)
        if module is not None:
            action(module, number)
    _SeedOnImport.expect(number)


def kept_generators() -> Callable[[], None]:
    """Keeps the state of all generators, for a process that is not a trial's alone; returns what puts it back.

    A library that is loaded meanwhile keeps what it has then.
    """
    python, expected = random.getstate(), _SeedOnImport.number if _SeedOnImport in sys.meta_path else None
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch.random")
    of_numpy = numpy.get_state() if numpy is not None else None
    of_torch = torch.get_rng_state() if torch is not None else None

    def put_back() -> None:
        random.setstate(python)
        if numpy is not None:
            numpy.set_state(of_numpy)
        if torch is not None:
            torch.set_rng_state(of_torch)
        if expected is not None:
            _SeedOnImport.expect(expected)
        elif _SeedOnImport in sys.meta_path:
            sys.meta_path.remove(_SeedOnImport)

    return put_back


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
