"""Tools for tests of experiments, plug-ins and adapters. Public; each name's module is loaded when it is first used.

Simulation, digest              whole experiments in virtual time, restored after any crash
SimulatedStorage, crash         a disk in memory, and the same disk as found after a crash
FakeClock                       a clock that stands still until it is told to go on
arm, disarm, POINTS             named crash points of the driver and its workers
check_history, Census           what must hold of an experiment after anything; what it left on the machine
StorageSuite, EngineSuite       conformance suites: subclass one and pytest tells whether an adapter keeps its port

Nothing in the library imports this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.engines.simulated import VirtualClock as FakeClock
    from holdfast.faults import POINTS, arm, disarm
    from holdfast.testing.census import Census
    from holdfast.testing.disk import SimulatedStorage, crash
    from holdfast.testing.engine_suite import EngineSuite
    from holdfast.testing.history import check_history
    from holdfast.testing.simulation import Simulation, digest
    from holdfast.testing.storage_suite import StorageSuite

__all__ = [
    "POINTS",
    "Census",
    "EngineSuite",
    "FakeClock",
    "SimulatedStorage",
    "Simulation",
    "StorageSuite",
    "arm",
    "check_history",
    "crash",
    "digest",
    "disarm",
]

_HOME = {
    "POINTS": "holdfast.faults",
    "Census": "holdfast.testing.census",
    "EngineSuite": "holdfast.testing.engine_suite",
    "FakeClock": "holdfast.engines.simulated",
    "SimulatedStorage": "holdfast.testing.disk",
    "Simulation": "holdfast.testing.simulation",
    "StorageSuite": "holdfast.testing.storage_suite",
    "arm": "holdfast.faults",
    "check_history": "holdfast.testing.history",
    "crash": "holdfast.testing.disk",
    "digest": "holdfast.testing.simulation",
    "disarm": "holdfast.faults",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'holdfast.testing' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), "VirtualClock" if name == "FakeClock" else name)
