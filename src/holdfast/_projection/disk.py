"""What checkpoints take on disk, and why each is kept: plain dictionaries, JSON-able.

Knows what the records say of checkpoints and the job's rules about them. Refuses to know the files themselves.
"""

from __future__ import annotations

from typing import Any

from holdfast._core import retention
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast._core.policy import Policy
from holdfast._core.steering import pinned
from holdfast._core.trial import FINAL, Kept, TrialState

__all__ = ["checkpoints", "disk_use", "excess", "pending"]


def checkpoints(trial: TrialState, policy: Policy) -> list[dict[str, Any]]:
    """The checkpoints that are kept, oldest first, each with why."""
    return [{"name": checkpoint_name(kept.saved.index), **_facts(kept), "why": _why(kept, trial, policy)} for kept in trial.kept]


def pending(trial: TrialState) -> list[dict[str, Any]]:
    """The checkpoints that are staged and not durable yet, oldest first."""
    return [{"name": pending_name(kept.saved.index), **_facts(kept)} for kept in trial.pending]


def disk_use(state: ExperimentState) -> dict[str, Any]:
    """What all checkpoints take together, in bytes, beside what they may take."""
    trials = state.trials.values()
    return {
        "kept": sum(len(trial.kept) for trial in trials),
        "bytes": state.kept_bytes,
        "pending": sum(len(trial.pending) for trial in trials),
        "pending_bytes": sum(kept.saved.size for trial in trials for kept in trial.pending),
        "max_total_bytes": state.policy.max_total_bytes,
        "exceeded_by": max(0, state.kept_bytes - state.policy.max_total_bytes) if state.policy.max_total_bytes else 0,
        "exceeded_because": excess(state),
    }


def excess(state: ExperimentState) -> str:
    """Why the checkpoints take more than `max_total_bytes`; empty where they do not."""
    if not 0 < state.policy.max_total_bytes < state.kept_bytes:
        return ""
    if retention.over_budget(state.trials.values(), state.policy, set(), pinned(state)):
        return "the driver ended before it could give up those that are not needed; the next one does"
    resuming = sum(bool(trial.kept) and trial.state not in FINAL for trial in state.trials.values())
    if not resuming:
        return "the best one alone takes more"
    return f"unfinished trials ({resuming}) resume from their newest, and the best of all stays"


def _facts(kept: Kept) -> dict[str, Any]:
    return {"row": kept.number, "score": kept.score, "files": kept.saved.files, "bytes": kept.saved.size}


def _why(kept: Kept, trial: TrialState, policy: Policy) -> str:
    newest, count = kept is trial.kept[-1], policy.num_to_keep
    beside = f", beside the best {count}" if 0 < count < len(trial.kept) and policy.score_attribute else ""
    if newest and trial.state not in FINAL:
        return f"the trial resumes from it{beside}"
    if not count:
        return "max_total_bytes leaves room" if policy.max_total_bytes else "all are kept"
    if newest:
        return f"the newest{beside}"
    if policy.score_attribute:
        return f"among the best {count} by {policy.score_order} {policy.score_attribute}"
    return f"among the newest {count}"
