"""PyTorch Lightning 2: callbacks that report what a trainer logs, and save its checkpoint."""

from __future__ import annotations

import os
from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    from pytorch_lightning import Callback, LightningModule, Trainer

from holdfast.errors import ConfigError
from holdfast.integration.reports import Metrics, chosen, report_with

__all__ = ["TuneReportCallback", "TuneReportCheckpointCallback"]


class TuneReportCheckpointCallback(Callback):  # type: ignore[misc] # the library has no types
    """Reports the trainer's `callback_metrics`, with the trainer's own checkpoint; not while Lightning checks its sanity.

    To go on after a crash, give `Trainer.fit(ckpt_path=...)` the file `filename` of `get_checkpoint()`. Training must stay in the
    trial's own process: no strategy that starts others.

    Args:
        metrics: Which, see `reports.chosen`.
        filename: Of the checkpoint.
        save_checkpoints: Whether there is one.
        on: When: the name of one of Lightning's hooks without its `on_`, or a list of them.

    Raises:
        ConfigError: Lightning has no such hook.
    """

    def __init__(
        self,
        metrics: Metrics = None,
        filename: str = "checkpoint",
        save_checkpoints: bool = True,
        on: str | list[str] = "validation_end",
    ) -> None:
        super().__init__()
        self._metrics, self._filename, self._saves = metrics, filename, save_checkpoints
        for event in [on] if isinstance(on, str) else on:
            if not hasattr(Callback, f"on_{event}"):
                raise ConfigError(f"on={event!r}: Lightning has no hook on_{event}.")
            setattr(self, f"on_{event}", self._report)

    def _report(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.sanity_checking:
            return
        told = {name: value.item() if hasattr(value, "item") else value for name, value in trainer.callback_metrics.items()}
        save = None
        if self._saves:
            save = lambda folder: trainer.save_checkpoint(os.path.join(folder, self._filename))  # noqa: E731
        report_with(chosen(self._metrics, told), save)


class TuneReportCallback(TuneReportCheckpointCallback):
    """Reports what a trainer logs, and saves nothing. Parameters as of `TuneReportCheckpointCallback`."""

    def __init__(self, metrics: Metrics = None, on: str | list[str] = "validation_end") -> None:
        super().__init__(metrics, save_checkpoints=False, on=on)
