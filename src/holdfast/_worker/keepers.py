"""Which keeper a trial's checkpoints have."""

from __future__ import annotations

import os

from holdfast._worker.keeping import Keeper, LocalKeeper

__all__ = ["keeper_of"]


def keeper_of(experiment_dir: str, storage: str, dirname: str, patience_s: float, prefix: str = "") -> Keeper:
    """What keeps the checkpoints of the trial with that directory's name; makes no request.

    Args:
        experiment_dir: Local, absolute: below it the trial works.
        storage: What `open_storage` takes for the place where checkpoints are kept; the same where that is local.
        dirname: The name of the trial's directory.
        patience_s: How long a store that fails is asked again, in each call.
        prefix: How the names of staging directories begin.

    Raises:
        ConfigError: The place cannot be opened by this process.
    """
    trial_dir = os.path.join(experiment_dir, dirname)
    if storage in ("", experiment_dir):
        return LocalKeeper(trial_dir, prefix)
    from holdfast._worker.shipping import StoreKeeper

    return StoreKeeper(LocalKeeper(trial_dir, prefix), storage, patience_s)
