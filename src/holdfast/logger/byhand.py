"""What the two file-writing callbacks share: one growing file per trial, in the trial's own directory.

Knows callbacks and files. Refuses to know the journal: these loggers write what they are called with, also by hand.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast.logger.base import LoggerCallback
from holdfast.logger.rowfile import RowFile

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["FileLoggerCallback"]


class FileLoggerCallback(LoggerCallback):
    """Base of the callbacks that write a row per result into a trial's directory.

    A file that is there already is gone on with: a restored trial's rows follow those it reported before. When the
    driver's last call before a crash comes again, its row is not written twice.
    """

    def __init__(self) -> None:
        self._files: dict[Trial, RowFile] = {}

    def log_trial_start(self, trial: Trial) -> None:
        """Makes the trial's directory and opens its file."""
        os.makedirs(trial.local_path, exist_ok=True)
        if trial not in self._files:
            self._files[trial] = file = self._file(trial)
            file.adopt()

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Writes one row."""
        if trial not in self._files:
            self.log_trial_start(trial)
        self._files[trial].append([result])

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Lets the trial's file go."""
        file = self._files.pop(trial, None)
        if file is not None:
            file.close()

    def on_trial_result(self, iteration: int, trials: Sequence[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Calls `log_trial_result`, unless this is a call that comes again and its row was written."""
        if info.get("repeated"):
            if trial not in self._files:
                self.log_trial_start(trial)
            if self._files[trial].count >= result.get("training_iteration", 0):
                return
        self.log_trial_result(iteration, trial, result)

    def _file(self, trial: Trial) -> RowFile:
        """The file of a trial."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}  # open files stay in their process; another one opens them again
