"""`CSVLoggerCallback`: `progress.csv`, as a callback."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.logger.byhand import FileLoggerCallback
from holdfast.logger.rowfile import CsvRows, RowFile

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["CSVLoggerCallback"]


class CSVLoggerCallback(FileLoggerCallback):
    """Writes `progress.csv` into each trial's directory: a line per row, nested keys as `a/b`, late keys as new columns.

    Experiments get this file anyway; with this callback in `RunConfig(callbacks=...)` it writes it instead: rows as they are
    reported, where the automatic file shows a row that was redone after a crash in the place of the first.
    """

    def _file(self, trial: Trial) -> RowFile:
        return CsvRows(os.path.join(trial.local_path, "progress.csv"))
