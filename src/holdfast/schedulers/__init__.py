"""Schedulers, by Ray Tune's names."""

from __future__ import annotations

from holdfast.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
from holdfast.schedulers.base import TrialScheduler
from holdfast.schedulers.create import create_scheduler
from holdfast.schedulers.fifo import FIFOScheduler

__all__ = ["ASHAScheduler", "AsyncHyperBandScheduler", "FIFOScheduler", "TrialScheduler", "create_scheduler"]
