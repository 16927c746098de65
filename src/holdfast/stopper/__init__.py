"""Stoppers, by Ray Tune's names."""

from __future__ import annotations

from holdfast.stopper.base import CombinedStopper, Stopper
from holdfast.stopper.experiment_plateau import ExperimentPlateauStopper
from holdfast.stopper.function_stopper import FunctionStopper
from holdfast.stopper.maximum_iteration import MaximumIterationStopper
from holdfast.stopper.noop import NoopStopper
from holdfast.stopper.timeout import TimeoutStopper
from holdfast.stopper.trial_plateau import TrialPlateauStopper

__all__ = [
    "CombinedStopper",
    "ExperimentPlateauStopper",
    "FunctionStopper",
    "MaximumIterationStopper",
    "NoopStopper",
    "Stopper",
    "TimeoutStopper",
    "TrialPlateauStopper",
]
