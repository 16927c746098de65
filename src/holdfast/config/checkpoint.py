"""`CheckpointConfig`: which checkpoints are kept."""

from __future__ import annotations

from typing import Literal

from holdfast.config.checks import Shown, whole
from holdfast.errors import ConfigError

__all__ = ["CheckpointConfig"]


class CheckpointConfig(Shown):
    """Which checkpoints of a trial are kept.

    The newest checkpoint is always kept, because the trial resumes from it.

    Args:
        num_to_keep: How many of the best; None keeps all.
        checkpoint_score_attribute: The metric by which they are ranked, nested ones as "a/b"; None ranks by age.
        checkpoint_score_order: "max" or "min".
        checkpoint_frequency: Of class trainables; 0 for functions.
        checkpoint_at_end: Of class trainables; None or False for functions.
        upload: "sync": `report` returns when the checkpoint is durable. "async": when its files are copied, so that they
            survive the death of any process on this machine; they become durable while the trial goes on, two at most at a
            time. A checkpoint that a power cut takes before that is as if it had not been reported; its row stands.
        max_total_bytes: What the checkpoints of all trials may take together, in bytes; None: any number. The oldest ones of the
            worst trials (by the score attribute, else by the job's metric) are given up first. What unfinished
            trials resume from and the best one stay in any case, so these alone may exceed it; `holdfast show` says so.

    Raises:
        ConfigError: A value that cannot be.
    """

    num_to_keep: int | None
    checkpoint_score_attribute: str | None
    checkpoint_score_order: str
    checkpoint_frequency: int
    checkpoint_at_end: bool | None
    upload: str = "sync"  # here too: jobs that were stored before there was such a choice are read back
    max_total_bytes: int | None = None

    def __init__(
        self,
        num_to_keep: int | None = None,
        checkpoint_score_attribute: str | None = None,
        checkpoint_score_order: str | None = "max",
        checkpoint_frequency: int | None = 0,
        checkpoint_at_end: bool | None = None,
        *,
        upload: Literal["sync", "async"] = "sync",
        max_total_bytes: int | None = None,
    ) -> None:
        keep = None if num_to_keep is None else whole(num_to_keep)
        if num_to_keep is not None and (keep is None or keep <= 0):
            raise ConfigError(f"CheckpointConfig(num_to_keep={num_to_keep!r}): a positive whole number, or None to keep all.")
        if checkpoint_score_order not in ("max", "min"):
            raise ConfigError(f"CheckpointConfig(checkpoint_score_order={checkpoint_score_order!r}): 'max' or 'min'.")
        if not (checkpoint_score_attribute is None or isinstance(checkpoint_score_attribute, str)):
            raise ConfigError(
                f"CheckpointConfig(checkpoint_score_attribute={checkpoint_score_attribute!r}): the name of a metric."
            )
        frequency = whole(checkpoint_frequency)
        if frequency is None or frequency < 0:
            raise ConfigError(f"CheckpointConfig(checkpoint_frequency={checkpoint_frequency!r}): 0 or a positive whole number.")
        if upload not in ("sync", "async"):
            raise ConfigError(f"CheckpointConfig(upload={upload!r}): 'sync' or 'async'.")
        budget = None if max_total_bytes is None else whole(max_total_bytes)
        if max_total_bytes is not None and (budget is None or budget <= 0):
            raise ConfigError(f"CheckpointConfig(max_total_bytes={max_total_bytes!r}): a positive whole number, or None.")
        self.upload = upload
        self.max_total_bytes = budget
        self.num_to_keep = keep
        self.checkpoint_score_attribute = checkpoint_score_attribute
        self.checkpoint_score_order = checkpoint_score_order
        self.checkpoint_frequency = frequency
        self.checkpoint_at_end = checkpoint_at_end
