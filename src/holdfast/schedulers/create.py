"""Schedulers by name, as configuration files and command lines give them."""

from __future__ import annotations

import warnings
from typing import Any

from holdfast.errors import ConfigError
from holdfast.schedulers.async_hyperband import AsyncHyperBandScheduler
from holdfast.schedulers.base import TrialScheduler
from holdfast.schedulers.fifo import FIFOScheduler
from holdfast.schedulers.hb_bohb import HyperBandForBOHB
from holdfast.schedulers.hyperband import HyperBandScheduler
from holdfast.schedulers.median_stopping_rule import MedianStoppingRule
from holdfast.schedulers.pb2 import PB2
from holdfast.schedulers.pbt import PopulationBasedTraining, PopulationBasedTrainingReplay
from holdfast.schedulers.resource_changing_scheduler import ResourceChangingScheduler

__all__ = ["create_scheduler"]

_NAMED: dict[str, type[TrialScheduler]] = {
    "asha": AsyncHyperBandScheduler,
    "async_hyperband": AsyncHyperBandScheduler,
    "asynchyperband": AsyncHyperBandScheduler,
    "fifo": FIFOScheduler,
    "pb2": PB2,
    "pbt": PopulationBasedTraining,
    "pbt_replay": PopulationBasedTrainingReplay,
    "resource_changing": ResourceChangingScheduler,
    "hb_bohb": HyperBandForBOHB,
    "hyperband": HyperBandScheduler,
    "median_stopping_rule": MedianStoppingRule,
    "medianstopping": MedianStoppingRule,
}


def create_scheduler(scheduler: str | TrialScheduler, **kwargs: Any) -> TrialScheduler:
    """The scheduler of a name.

    Args:
        scheduler: Its name, in any case; a scheduler is returned as it is.
        **kwargs: Its arguments. Those that it does not take are left out, with a warning.

    Raises:
        ConfigError: There is none of that name; lists those that there are.
    """
    if isinstance(scheduler, TrialScheduler):
        return scheduler
    kind = _NAMED.get(scheduler.lower()) if isinstance(scheduler, str) else None
    if kind is None:
        raise ConfigError(f"There is no scheduler {scheduler!r}. There are: {', '.join(sorted(_NAMED))}.")
    import inspect

    taken = inspect.signature(kind).parameters
    left = sorted(set(kwargs) - set(taken))
    if left:
        warnings.warn(f"create_scheduler({scheduler!r}): {kind.__name__} takes no {', '.join(left)}.", stacklevel=2)
    return kind(**{name: value for name, value in kwargs.items() if name in taken})
