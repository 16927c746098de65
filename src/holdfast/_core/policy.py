"""The job's rules that the controller itself applies. Part of the birth record; never changed after."""

from __future__ import annotations

import msgspec

__all__ = ["Policy", "Resume"]


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


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch does with the trials that it finds: "resume", "restart" or "skip", by their state."""

    finished: str = "skip"
    unfinished: str = "resume"
    errored: str = "skip"
