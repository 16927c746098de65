"""The job's rules that the controller itself applies. Part of the birth record; never changed after."""

from __future__ import annotations

import msgspec

__all__ = ["Placement", "Policy", "Resume"]


class Placement(msgspec.Struct, frozen=True, array_like=True):
    """How the resources of one trial lie together: a placement group.

    Attributes:
        bundles: The resources of each bundle; the trial itself runs in the first.
        strategy: "PACK", "SPREAD", "STRICT_PACK" or "STRICT_SPREAD".
    """

    bundles: list[dict[str, float]]
    strategy: str = "PACK"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers that bound an experiment.

    Attributes:
        num_samples: How many trials the searcher may be asked for; -1 means until it has no more.
        max_concurrent: Upper bound of trials running at once; 0 means as many as the resources hold.
        ahead: How many trials may wait for a place before the searcher is asked for another.
        request: Resources of one trial, such as `{"cpu": 1.0}`.
        max_failures: Failed attempts that a trial survives; -1 means without bound.
        fail_fast: Stop the experiment at the first trial that failed for good.
        time_budget_s: Seconds of experiment time after which everything stops; 0 means none.
        num_to_keep: Checkpoints kept per trial; 0 means all.
        score_attribute: The metric by which checkpoints are ranked; empty: the newest are kept.
        score_order: "max" or "min".
        reuse_workers: Whether a worker may run one trial after another.
        metric, mode: What the job is about, for those who look at it; empty where the job names none, or several.
        placement: How `request` lies together, where the user said so.
        end_checkpoint: Whether a trial that is told to stop owes a checkpoint of its last row (class trainables).
        max_total_bytes: Bytes that all checkpoints together may take; 0 means any number.
        max_preemptions, max_oom, max_timeouts: Budgets of their own for failures of these kinds, counted as `max_failures`;
            None: they count there.
        retry_delay_s: Seconds before a failed trial is tried again, doubled with each failure of it; 0: at once.
        trial_timeout_s: Seconds that one attempt may take; 0: any number.
        no_progress_timeout_s: Seconds that an attempt may go without a row; 0: any number.
        stop_after_failures: End when so many attempts in a row have failed (1 or more), or such a part of all (below 1);
            0: never.
        chooses: Whether the scheduler says which trial has a free place; else the earliest that waits, then the earliest
            paused one.
        cleans_up: Whether an attempt ends with a cleanup of the user's own, which is waited for (class trainables).
    """

    num_samples: int = 1
    max_concurrent: int = 0
    ahead: int = 1
    request: dict[str, float] = msgspec.field(default_factory=lambda: {"cpu": 1.0})
    max_failures: int = 0
    fail_fast: bool = False
    time_budget_s: float = 0.0
    num_to_keep: int = 0
    score_attribute: str = ""
    score_order: str = "max"
    reuse_workers: bool = False
    metric: str = ""
    mode: str = ""
    placement: Placement | None = None
    end_checkpoint: bool = False
    max_total_bytes: int = 0
    cleans_up: bool = False
    max_preemptions: int | None = None
    max_oom: int | None = None
    max_timeouts: int | None = None
    retry_delay_s: float = 0.0
    trial_timeout_s: float = 0.0
    no_progress_timeout_s: float = 0.0
    stop_after_failures: float = 0.0
    chooses: bool = False

    @property
    def scored_by(self) -> str:
        """The metric that checkpoints are scored by; empty where nobody asks."""
        return self.score_attribute or (self.metric if self.max_total_bytes else "")


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch does with the trials that it finds: "resume", "restart" or "skip", by their state."""

    finished: str = "skip"
    unfinished: str = "resume"
    errored: str = "skip"
