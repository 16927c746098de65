"""What a user says of a job: `TuneConfig`, `RunConfig`, `FailureConfig`, `CheckpointConfig`, `ResumeConfig`, `SyncConfig`.

Plain values, checked when they are made. Each accepts Ray Tune's parameters; ours are keyword-only and at the end.
"""

from __future__ import annotations

from holdfast.config.checkpoint import CheckpointConfig
from holdfast.config.failure import FailureConfig
from holdfast.config.resume import ResumeConfig
from holdfast.config.run import RunConfig
from holdfast.config.sync import SyncConfig
from holdfast.config.tune import TuneConfig

__all__ = ["CheckpointConfig", "FailureConfig", "ResumeConfig", "RunConfig", "SyncConfig", "TuneConfig"]
