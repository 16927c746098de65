"""Hugging Face Transformers: a callback for its `Trainer` that reports evaluations, and the trainer's checkpoints.

Ray Tune has no such callback of its own; the name is that of the other integrations.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast.checkpoint import Checkpoint
from holdfast.integration.reports import Metrics, chosen, report_with

__all__ = ["TuneReportCheckpointCallback"]


class TuneReportCheckpointCallback(TrainerCallback):  # type: ignore[misc] # the library has no types
    """Reports what the trainer has logged and evaluated since the last row.

    With `save_checkpoints` a row is reported whenever the trainer saves, with its checkpoint directory; give
    `Trainer.train(resume_from_checkpoint=...)` what `resume_from` returns. Without, whenever it evaluates.

    Args:
        metrics: Which, see `reports.chosen`; by default all, `epoch` too.
        save_checkpoints: See above; `TrainingArguments(save_strategy=...)` says when.
    """

    def __init__(self, metrics: Metrics = None, save_checkpoints: bool = True) -> None:
        self._metrics, self._saves = metrics, save_checkpoints
        self._told: dict[str, Any] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remembers what is logged; evaluations come this way too."""
        self._told |= logs or {}

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Reports an evaluation where nothing is saved."""
        self._told |= kwargs.get("metrics") or {}
        if not self._saves:
            self._report(None)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Reports a checkpoint."""
        if self._saves:
            name = f"checkpoint-{state.global_step}"
            source = os.path.join(args.output_dir, name)
            self._report(lambda folder: _copy(source, os.path.join(folder, name)))

    @staticmethod
    def resume_from(checkpoint: Checkpoint | None) -> str | None:
        """What `Trainer.train(resume_from_checkpoint=...)` takes, for `get_checkpoint()`.

        The files of the checkpoint that an attempt begins from are on its machine until it ends, results in a cloud or not.
        """
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            (name,) = [name for name in os.listdir(folder) if name.startswith("checkpoint-")]
            return os.path.join(folder, name)

    def _report(self, save: Any) -> None:
        told, self._told = self._told, {}
        report_with(chosen(self._metrics, told), save)


def _copy(source: str, target: str) -> None:
    shutil.copytree(source, target)
