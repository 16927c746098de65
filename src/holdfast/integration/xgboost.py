"""XGBoost: a callback that reports each boosting round, and saves the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import xgboost
from xgboost.callback import TrainingCallback

from holdfast.checkpoint import Checkpoint
from holdfast.integration.reports import Metrics, chosen, report_with

__all__ = ["TuneReportCallback", "TuneReportCheckpointCallback"]

PostProcess = Callable[[dict[str, float]], dict[str, float]]


class TuneReportCheckpointCallback(TrainingCallback):  # type: ignore[misc] # the library has no types
    """Reports the newest value of each metric after each round, named `<data>-<metric>`.

    Args:
        metrics: Which, see `reports.chosen`.
        filename: Of the model in a checkpoint.
        frequency: A checkpoint every so many rounds; 0 for none.
        checkpoint_at_end: Whether the trained model is reported too, with the last round's metrics in a row of its own, unless
            the last round had a checkpoint.
        results_postprocessing_fn: Takes the metrics and returns what is to be reported.
    """

    CHECKPOINT_NAME = "model.ubj"

    def __init__(
        self,
        metrics: Metrics = None,
        filename: str = CHECKPOINT_NAME,
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: PostProcess | None = None,
    ) -> None:
        super().__init__()
        self._metrics, self._filename, self._frequency = metrics, filename, frequency
        self._at_end, self._postprocess = checkpoint_at_end, results_postprocessing_fn
        self._row: dict[str, Any] = {}
        self._saved = False

    def after_iteration(self, model: Any, epoch: int, evals_log: TrainingCallback.EvalsLog) -> bool:
        """Reports a round."""
        newest = {f"{data}-{name}": _plain(told[-1]) for data, values in evals_log.items() for name, told in values.items()}
        self._row = chosen(self._metrics, self._postprocess(newest) if self._postprocess else newest)
        self._saved = self._frequency > 0 and (epoch + 1) % self._frequency == 0
        report_with(self._row, self._save(model) if self._saved else None)
        return False

    def after_training(self, model: Any) -> Any:
        """Reports the trained model."""
        if self._at_end and not self._saved:
            report_with(self._row, self._save(model))
        return model

    @classmethod
    def get_model(cls, checkpoint: Checkpoint, filename: str = CHECKPOINT_NAME) -> Any:
        """The model in a checkpoint, as an `xgboost.Booster`."""
        with checkpoint.as_directory() as folder:
            booster = xgboost.Booster()
            booster.load_model(os.path.join(folder, filename))
        return booster

    def _save(self, model: Any) -> Callable[[str], None]:
        return lambda folder: model.save_model(os.path.join(folder, self._filename))


class TuneReportCallback(TuneReportCheckpointCallback):
    """Reports each round, and saves nothing. Parameters as of `TuneReportCheckpointCallback`."""

    def __init__(self, metrics: Metrics = None, results_postprocessing_fn: PostProcess | None = None) -> None:
        super().__init__(metrics, checkpoint_at_end=False, results_postprocessing_fn=results_postprocessing_fn)


def _plain(value: Any) -> float:
    """A metric's value; of a cross-validation's mean and deviation the mean."""
    return float(value[0] if isinstance(value, tuple) else value)
