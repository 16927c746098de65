"""`JsonLoggerCallback`: `result.json` and the params files, as a callback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.logger.byhand import FileLoggerCallback
from holdfast.logger.lines import json_object
from holdfast.logger.onetrial import write_params
from holdfast.logger.rowfile import JsonRows, RowFile

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["JsonLoggerCallback"]


class JsonLoggerCallback(FileLoggerCallback):
    """Writes `params.json`, `params.pkl` and `result.json` into each trial's directory.

    Experiments get these files anyway; with this callback in `RunConfig(callbacks=...)` it writes them instead: rows as they are
    reported, where the automatic file shows a row that was redone after a crash in the place of the first.
    """

    def log_trial_start(self, trial: Trial) -> None:
        """Writes the params files, and opens `result.json`."""
        super().log_trial_start(trial)
        write_params(trial.local_path, trial.config)

    def _file(self, trial: Trial) -> RowFile:
        return JsonRows(os.path.join(trial.local_path, "result.json"), json_object(trial.config))
