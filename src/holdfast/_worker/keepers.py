"""Which keeper a trial's checkpoints have."""

from __future__ import annotations

import os

from holdfast._worker.keeping import Keeper, LocalKeeper
from holdfast.clock import Clock

__all__ = ["keeper_of"]


def keeper_of(experiment_dir: str, storage: str, dirname: str, prefix: str = "", clock: Clock | None = None) -> Keeper:
    """What keeps the checkpoints of the trial with that directory's name; makes no request.

    Args:
        experiment_dir: Local, absolute: below it the trial works.
        storage: What `open_storage` takes for the place where checkpoints are kept; the same where that is local.
        dirname: The name of the trial's directory.
        prefix: How the names of staging directories begin.
        clock: Waits between tries.

    Raises:
        ConfigError: The place cannot be opened by this process.
    """
    trial_dir = os.path.join(experiment_dir, dirname)
    if storage in ("", experiment_dir):
        return LocalKeeper(trial_dir, prefix, clock)
    from holdfast._worker.shipping import StoreKeeper

    return StoreKeeper(LocalKeeper(trial_dir, prefix, clock), storage)
