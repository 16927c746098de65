"""`SyncConfig`: what of a trial's working directory reaches an experiment in a cloud, and when."""

from __future__ import annotations

import datetime

from holdfast.config.checks import Shown, seconds
from holdfast.errors import ConfigError, Deprecated

__all__ = ["SyncConfig"]


class SyncConfig(Shown):
    """What of a trial's working directory reaches an experiment in a cloud, and when.

    Logs and what the driver writes (`result.json`, `progress.csv`, ...) always do. Where `storage_path` is local, a trial works
    in its directory there: all that it writes is where it belongs, and nothing here has an effect.

    Args:
        sync_period: Seconds from one look for changed artifacts to the next; longer where a look takes long.
        sync_timeout: Without effect: `RunConfig(storage_timeout_s=...)` bounds how long a store may fail.
        sync_artifacts: Whether files that trials write into their working directories are put to the store: in each period, when
            an attempt ends, and those that a killed driver left here when the experiment is restored on this machine.
        sync_artifacts_on_checkpoint: Whether that is done with each checkpoint too.
        upload_dir, syncer: Deprecated; raise.

    Raises:
        ConfigError: A value that cannot be.
    """

    sync_period: float
    sync_timeout: float
    sync_artifacts: bool
    sync_artifacts_on_checkpoint: bool

    def __init__(
        self,
        sync_period: float | datetime.timedelta = 300,
        sync_timeout: float | datetime.timedelta = 1800,
        sync_artifacts: bool = False,
        sync_artifacts_on_checkpoint: bool = True,
        upload_dir: str | None = None,
        syncer: object = None,
    ) -> None:
        for what, given in (("upload_dir", upload_dir), ("syncer", syncer)):
            if given is not None:
                raise Deprecated(f"SyncConfig({what}=...) is gone: use RunConfig(storage_path='s3://...').")
        for name, value in (("sync_artifacts", sync_artifacts), ("sync_artifacts_on_checkpoint", sync_artifacts_on_checkpoint)):
            if not isinstance(value, bool):
                raise ConfigError(f"SyncConfig({name}={value!r}): True or False.")
        self.sync_period = seconds("SyncConfig(sync_period=...)", sync_period)
        self.sync_timeout = seconds("SyncConfig(sync_timeout=...)", sync_timeout)
        self.sync_artifacts = sync_artifacts
        self.sync_artifacts_on_checkpoint = sync_artifacts_on_checkpoint
