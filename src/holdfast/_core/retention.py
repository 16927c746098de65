"""Which checkpoints of a trial are given up. Knows scores and order; refuses to know files."""

from __future__ import annotations

from holdfast._core.policy import Policy
from holdfast._core.trial import Kept, TrialState

__all__ = ["surplus"]


def surplus(trial: TrialState, policy: Policy) -> list[int]:
    """The indices of the checkpoints to drop, oldest first.

    Kept are the best `num_to_keep` by the score attribute (without one: the newest), and the newest in any case, because
    the trial resumes from it. A checkpoint without a comparable score (missing, NaN) ranks below all others.
    """
    count = policy.num_to_keep
    if not count or len(trial.kept) <= count:
        return []
    best = sorted(trial.kept, key=lambda kept: _rank(kept, policy), reverse=True)[:count]
    stay = {kept.saved.index for kept in best} | {trial.kept[-1].saved.index}
    return [kept.saved.index for kept in trial.kept if kept.saved.index not in stay]


def _rank(kept: Kept, policy: Policy) -> tuple[float, int]:
    if not policy.score_attribute:
        return 0.0, kept.saved.index
    score = kept.score
    if score is None or score != score:
        return float("-inf"), kept.saved.index
    return (score if policy.score_order == "max" else -score), kept.saved.index
