"""When a failed attempt is followed by another. Knows budgets; refuses to know why an attempt failed beyond its kind."""

from __future__ import annotations

from holdfast._core.events import Failure
from holdfast._core.policy import Policy
from holdfast._core.trial import TrialState

__all__ = ["allowed", "counts"]


def counts(failure: Failure) -> bool:
    """Whether a failure is spent from the trial's budget.

    A checkpoint that does not verify is not: the attempt never began, and the checkpoint before it is tried next.
    """
    return failure.kind != "checkpoint"


def allowed(trial: TrialState, failure: Failure, policy: Policy) -> bool:
    """Whether the trial gets another attempt after `failure`, which `trial.failures` already counts.

    When the last checkpoint of a trial is broken it does not silently begin again from nothing: that is an error, and
    `restart_errored` is how one asks for it.
    """
    if failure.kind == "checkpoint":
        return bool(trial.kept)
    return policy.max_failures < 0 or trial.failures <= policy.max_failures
