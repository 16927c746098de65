"""Schedulers, by Ray Tune's names."""

from __future__ import annotations

from holdfast.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
from holdfast.schedulers.base import TrialScheduler
from holdfast.schedulers.create import create_scheduler
from holdfast.schedulers.fifo import FIFOScheduler
from holdfast.schedulers.hb_bohb import HyperBandForBOHB
from holdfast.schedulers.hyperband import HyperBandScheduler
from holdfast.schedulers.median_stopping_rule import MedianStoppingRule
from holdfast.schedulers.pbt import PopulationBasedTraining, PopulationBasedTrainingReplay
from holdfast.schedulers.resource_changing_scheduler import ResourceChangingScheduler

__all__ = [
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "FIFOScheduler",
    "HyperBandForBOHB",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PopulationBasedTraining",
    "PopulationBasedTrainingReplay",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]
