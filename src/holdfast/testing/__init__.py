"""Tools for tests of experiments, plug-ins and adapters. Public; each name's module is loaded when it is first used.

Simulation, digest              whole experiments in virtual time, restored after any crash
SimulatedStorage, crash         a disk in memory, and the same disk as found after a crash
FakeClock                       a clock that stands still until it is told to go on
fail_at, hang_at, kill_at       a trainable that fails, hangs or is killed at an iteration; it is not changed for that
fit_until_killed                an experiment whose driver is killed after so many events; kill_driver_after, kill_driver_at
arm, disarm, POINTS             named crash points of the driver and its workers
check_history, Census           what must hold of an experiment after anything; what it left on the machine
StorageSuite, AppendingSuite,
EngineSuite                     conformance suites: subclass one and pytest tells whether an adapter keeps its port
ProcessSuite                    the same for engines that run trials in processes
ClassSuite, ClassProcessSuite   the same for class trainables
PendingSuite, OnDemandSuite     the same for checkpoints that become known after their row
validate_save_restore           whether a class trainable comes back from its checkpoint as if nothing had happened

Nothing in the library imports this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.engines.simulated import VirtualClock as FakeClock
    from holdfast.faults import POINTS, arm, disarm
    from holdfast.testing.census import Census
    from holdfast.testing.class_suite import ClassProcessSuite, ClassSuite
    from holdfast.testing.disk import SimulatedStorage, crash
    from holdfast.testing.engine_suite import EngineSuite
    from holdfast.testing.faulting import fail_at, fit_until_killed, hang_at, kill_at, kill_driver_after, kill_driver_at
    from holdfast.testing.history import check_history
    from holdfast.testing.process_suite import ProcessSuite
    from holdfast.testing.saving_suite import OnDemandSuite, PendingSuite
    from holdfast.testing.simulation import Simulation, digest
    from holdfast.testing.storage_suite import AppendingSuite, StorageSuite
    from holdfast.utils import validate_save_restore

__all__ = [
    "POINTS",
    "AppendingSuite",
    "Census",
    "ClassProcessSuite",
    "ClassSuite",
    "EngineSuite",
    "FakeClock",
    "OnDemandSuite",
    "PendingSuite",
    "ProcessSuite",
    "SimulatedStorage",
    "Simulation",
    "StorageSuite",
    "arm",
    "check_history",
    "crash",
    "digest",
    "disarm",
    "fail_at",
    "fit_until_killed",
    "hang_at",
    "kill_at",
    "kill_driver_after",
    "kill_driver_at",
    "validate_save_restore",
]

_HOME = {
    "POINTS": "holdfast.faults",
    "AppendingSuite": "holdfast.testing.storage_suite",
    "Census": "holdfast.testing.census",
    "ClassProcessSuite": "holdfast.testing.class_suite",
    "ClassSuite": "holdfast.testing.class_suite",
    "EngineSuite": "holdfast.testing.engine_suite",
    "FakeClock": "holdfast.engines.simulated",
    "OnDemandSuite": "holdfast.testing.saving_suite",
    "PendingSuite": "holdfast.testing.saving_suite",
    "ProcessSuite": "holdfast.testing.process_suite",
    "SimulatedStorage": "holdfast.testing.disk",
    "Simulation": "holdfast.testing.simulation",
    "StorageSuite": "holdfast.testing.storage_suite",
    "arm": "holdfast.faults",
    "check_history": "holdfast.testing.history",
    "crash": "holdfast.testing.disk",
    "digest": "holdfast.testing.simulation",
    "disarm": "holdfast.faults",
    "fail_at": "holdfast.testing.faulting",
    "fit_until_killed": "holdfast.testing.faulting",
    "hang_at": "holdfast.testing.faulting",
    "kill_at": "holdfast.testing.faulting",
    "kill_driver_after": "holdfast.testing.faulting",
    "kill_driver_at": "holdfast.testing.faulting",
    "validate_save_restore": "holdfast.utils",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'holdfast.testing' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), "VirtualClock" if name == "FakeClock" else name)
