"""LightGBM: a callback that reports each boosting round, and saves the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import lightgbm

from holdfast.checkpoint import Checkpoint
from holdfast.integration.reports import Metrics, chosen, report_with

__all__ = ["TuneReportCallback", "TuneReportCheckpointCallback"]

PostProcess = Callable[[dict[str, float]], dict[str, float]]


class TuneReportCheckpointCallback:
    """Reports each metric after each round, named `<data>-<metric>`; of `lightgbm.cv` with `-mean` and `-stdv` behind it.

    Args:
        metrics: Which, see `reports.chosen`.
        frequency: A checkpoint every so many rounds; 0 for none.
        checkpoint_at_end: Whether the last round has a checkpoint. A training that stops early does not know its last round.
        results_postprocessing_fn: Takes the metrics and returns what is to be reported.
    """

    CHECKPOINT_NAME = "model.txt"
    order = 20
    before_iteration = False

    def __init__(
        self,
        metrics: Metrics = None,
        frequency: int = 0,
        checkpoint_at_end: bool = True,
        results_postprocessing_fn: PostProcess | None = None,
    ) -> None:
        self._metrics, self._frequency = metrics, frequency
        self._at_end, self._postprocess = checkpoint_at_end, results_postprocessing_fn

    def __call__(self, env: lightgbm.callback.CallbackEnv) -> None:
        """Reports a round."""
        told: dict[str, float] = {}
        for data, name, value, _, *deviation in env.evaluation_result_list or []:
            key = f"{data}-{name}"
            told |= {f"{key}-mean": value, f"{key}-stdv": deviation[0]} if deviation else {key: value}
        row = chosen(self._metrics, self._postprocess(told) if self._postprocess else told)
        done = env.iteration + 1
        saves = (self._frequency > 0 and done % self._frequency == 0) or (self._at_end and done == env.end_iteration)
        report_with(row, (lambda folder: _save(env.model, os.path.join(folder, self.CHECKPOINT_NAME))) if saves else None)

    @classmethod
    def get_model(cls, checkpoint: Checkpoint) -> Any:
        """The model in a checkpoint, as a `lightgbm.Booster`."""
        with checkpoint.as_directory() as folder:
            return lightgbm.Booster(model_file=os.path.join(folder, cls.CHECKPOINT_NAME))


class TuneReportCallback(TuneReportCheckpointCallback):
    """Reports each round, and saves nothing. Parameters as of `TuneReportCheckpointCallback`."""

    def __init__(self, metrics: Metrics = None, results_postprocessing_fn: PostProcess | None = None) -> None:
        super().__init__(metrics, checkpoint_at_end=False, results_postprocessing_fn=results_postprocessing_fn)


def _save(model: Any, path: str) -> None:
    model.save_model(path)
