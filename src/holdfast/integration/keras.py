"""Keras 3, with any backend: a callback that reports what Keras logs, and saves the model.

Keras cannot be imported where it is left to take TensorFlow and there is none; then it is told to take JAX or PyTorch.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from holdfast import settings
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError
from holdfast.integration.reports import Metrics, chosen, report_with

if not settings.library("KERAS_BACKEND") and find_spec("tensorflow") is None:
    os.environ["KERAS_BACKEND"] = "jax" if find_spec("jax") else "torch"

import keras

__all__ = ["ReportCheckpointCallback"]

_EVENTS = frozenset(
    f"{what}_{when}" for what in ("epoch", "train_batch", "test_batch", "predict_batch") for when in ("begin", "end")
)
_EVENTS |= {f"{what}_{when}" for what in ("train", "test", "predict") for when in ("begin", "end")}


class ReportCheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc] # the library has no types
    """Reports Keras's logs, with the whole model as a checkpoint.

    Args:
        checkpoint_on: When a checkpoint is reported: "epoch_end", "train_batch_end", "train_end" and so on, one or a list.
        report_metrics_on: When metrics are reported. Where both fall together it is one row.
        metrics: Which, see `reports.chosen`.

    Raises:
        ConfigError: Keras knows no such event.
    """

    CHECKPOINT_NAME = "model.keras"

    def __init__(
        self,
        checkpoint_on: str | list[str] = "epoch_end",
        report_metrics_on: str | list[str] = "epoch_end",
        metrics: Metrics = None,
    ) -> None:
        super().__init__()
        self._checkpoint_on = {checkpoint_on} if isinstance(checkpoint_on, str) else set(checkpoint_on)
        self._report_on = {report_metrics_on} if isinstance(report_metrics_on, str) else set(report_metrics_on)
        self._metrics = metrics
        unknown = sorted((self._checkpoint_on | self._report_on) - _EVENTS)
        if unknown:
            raise ConfigError(
                f"ReportCheckpointCallback: Keras has no event {unknown[0]!r}; it has {', '.join(sorted(_EVENTS))}."
            )
        for event in self._checkpoint_on | self._report_on:
            setattr(self, f"on_{event}", self._hook(event))

    @classmethod
    def get_model(cls, checkpoint: Checkpoint) -> Any:
        """The model in a checkpoint, compiled as it was, with its optimizer's state."""
        with checkpoint.as_directory() as folder:
            return keras.saving.load_model(os.path.join(folder, cls.CHECKPOINT_NAME))

    def _hook(self, event: str) -> Any:
        def hook(*told: Any, logs: dict[str, Any] | None = None) -> None:
            """Keras gives the logs last, or by name; before them the number of an epoch or batch where there is one."""
            newest = told[-1] if logs is None and told and isinstance(told[-1], dict) else logs
            row = chosen(self._metrics, newest or {}) if event in self._report_on else {}
            report_with(row, self._save if event in self._checkpoint_on else None)

        return hook

    def _save(self, folder: str) -> None:
        self.model.save(os.path.join(folder, self.CHECKPOINT_NAME))
