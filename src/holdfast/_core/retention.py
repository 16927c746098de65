"""Which checkpoints are given up. Knows scores, sizes and order; refuses to know files."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from holdfast._core.policy import Policy
from holdfast._core.trial import FINAL, Kept, TrialState

__all__ = ["over_budget", "surplus"]

_WORST = float("-inf")


def surplus(trial: TrialState, policy: Policy, pinned: Collection[tuple[str, int]] = ()) -> list[int]:
    """The indices of the checkpoints to drop because the trial has more than `num_to_keep`, oldest first.

    Kept are the best `num_to_keep` by the score attribute (without one: the newest), the newest in any case, because
    the trial resumes from it, and those that are `pinned` (trial ids and indices): other trials go on from them. A
    checkpoint without a comparable score (missing, NaN) ranks below all others.
    """
    count = policy.num_to_keep
    if not count or len(trial.kept) <= count:
        return []
    best = sorted(trial.kept, key=lambda kept: _rank(kept, policy), reverse=True)[:count]
    stay = {kept.saved.index for kept in best} | {trial.kept[-1].saved.index}
    stay |= {index for trial_id, index in pinned if trial_id == trial.trial_id}
    return [kept.saved.index for kept in trial.kept if kept.saved.index not in stay]


def over_budget(
    trials: Iterable[TrialState], policy: Policy, given_up: set[tuple[str, int]], pinned: Collection[tuple[str, int]] = ()
) -> list[tuple[str, int]]:
    """What to drop so that all checkpoints together take at most `max_total_bytes`.

    The checkpoints of the worst trials go first, the oldest of a trial before its newer ones. Never dropped are the one that
    an unfinished trial resumes from, the best of all and the pinned: the budget may be exceeded by these.

    Args:
        trials: All trials, in order of creation.
        policy: The job's rules.
        given_up: Trial ids and indices of checkpoints that are dropped anyway.
        pinned: Trial ids and indices of checkpoints that other trials go on from.

    Returns:
        Trial ids and indices beside `given_up`.
    """
    there = [(trial, kept) for trial in trials for kept in trial.kept if (trial.trial_id, kept.saved.index) not in given_up]
    if not there:
        return []
    worth = {trial.trial_id: max(_value(kept, policy) for kept in trial.kept) for trial, _ in there}
    best_trial, best = max(there, key=lambda pair: (_value(pair[1], policy), pair[0].index, pair[1].saved.index))
    excess = sum(kept.saved.size for _, kept in there) - policy.max_total_bytes
    dropped = []
    for trial, kept in sorted(there, key=lambda pair: (worth[pair[0].trial_id], pair[0].index, pair[1].saved.index)):
        if excess <= 0:
            break
        needed = (kept is trial.kept[-1] and trial.state not in FINAL) or (trial.trial_id, kept.saved.index) in pinned
        if not needed and not (trial is best_trial and kept is best):
            dropped.append((trial.trial_id, kept.saved.index))
            excess -= kept.saved.size
    return dropped


def _rank(kept: Kept, policy: Policy) -> tuple[float, int]:
    return (_value(kept, policy) if policy.score_attribute else 0.0), kept.saved.index


def _value(kept: Kept, policy: Policy) -> float:
    """The score as a number of which more is better. Without a score attribute it is the metric, see `Policy.scored_by`."""
    score, order = kept.score, policy.score_order if policy.score_attribute else policy.mode
    if score is None or score != score:
        return _WORST
    return -score if order == "min" else score
