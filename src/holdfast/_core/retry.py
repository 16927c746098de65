"""When a failed attempt is followed by another, and after how long.

Knows budgets; refuses to know why an attempt failed beyond its kind.
"""

from __future__ import annotations

import zlib

from holdfast._core.events import Failure
from holdfast._core.policy import Policy
from holdfast._core.trial import TrialState

__all__ = ["TOO_FEW", "allowed", "charge", "counts", "delay"]

TOO_FEW = 10
"""A part of all attempts says something when at least so many have ended."""

_DOUBLINGS = 6
_FREE = "checkpoint"


def counts(failure: Failure) -> bool:
    """Whether a failure is spent from any of the trial's budgets.

    A checkpoint that does not verify is not: the attempt never began, and the checkpoint before it is tried next.
    """
    return failure.kind != _FREE


def charge(trial: TrialState, failure: Failure, policy: Policy) -> None:
    """Spends a failure from the budget of its kind, where it has one of its own, else from `max_failures`."""
    if not counts(failure):
        return
    if _own_budget(failure, policy) is None:
        trial.failures += 1
    else:
        trial.spent = {**trial.spent, failure.kind: trial.spent.get(failure.kind, 0) + 1}


def allowed(trial: TrialState, failure: Failure, policy: Policy) -> bool:
    """Whether the trial gets another attempt after `failure`, which is charged already.

    When the last checkpoint of a trial is broken it does not silently begin again from nothing: that is an error, and
    `restart_errored` is how one asks for it.
    """
    if not counts(failure):
        return trial.resume_point() is not None
    budget = _own_budget(failure, policy)
    spent = trial.failures if budget is None else _spent_together(trial, failure)
    limit = policy.max_failures if budget is None else budget
    return limit < 0 or spent <= limit


def delay(trial: TrialState, policy: Policy, seed: int) -> float:
    """Seconds until the trial may be tried again: doubled with each failure, up to 64 times, and spread by up to a half.

    The spread keeps trials that failed together from coming back together. It is a function of seed, trial and failure, so a
    replay gives the same.
    """
    if not policy.retry_delay_s:
        return 0.0
    failures = trial.failures + sum(trial.spent.values())
    spread = zlib.crc32(f"{seed}/{trial.index}/{failures}".encode()) / 2**32
    return policy.retry_delay_s * 2.0 ** min(max(failures - 1, 0), _DOUBLINGS) * (1 + spread / 2)


def _own_budget(failure: Failure, policy: Policy) -> int | None:
    match failure.kind:
        case "node" | "preempted":
            return policy.max_preemptions
        case "oom":
            return policy.max_oom
        case "timeout":
            return policy.max_timeouts
        case _:
            return None


def _spent_together(trial: TrialState, failure: Failure) -> int:
    """What was spent from the failure's own budget, by kinds that share it."""
    kinds = ("node", "preempted") if failure.kind in ("node", "preempted") else (failure.kind,)
    return sum(trial.spent.get(kind, 0) for kind in kinds)
