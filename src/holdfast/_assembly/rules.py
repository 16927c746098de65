"""The rules of a job: what the configs say, as the numbers that the core applies."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from holdfast import settings
from holdfast._core.policy import Policy
from holdfast.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from holdfast.resources import Request
from holdfast.schedulers.base import TrialScheduler
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.trainable import can_save

__all__ = ["policy_of"]


def policy_of(trainable: Any, param_space: dict[str, Any], tune: TuneConfig, run: RunConfig, same: Request, seed: int) -> Policy:
    """The rules of a job; `same` is what each trial is given that says nothing else."""
    policy = _policy(param_space, tune, run, same, seed)
    return _of_a_class(policy, trainable, run.checkpoint_config)


def _policy(param_space: dict[str, Any], tune: TuneConfig, run: RunConfig, same: Request, seed: int) -> Policy:
    total: int | None = tune.num_samples
    if tune.search_alg is None or isinstance(tune.search_alg, BasicVariantGenerator):
        probe = copy.deepcopy(tune.search_alg) if tune.search_alg else BasicVariantGenerator()
        probe.set_search_properties(tune.metric, tune.mode, param_space, num_samples=tune.num_samples, seed=seed)
        total = probe.total
    checkpoints = run.checkpoint_config
    return Policy(
        num_samples=-1 if total is None else total,
        max_concurrent=tune.max_concurrent_trials or 0,
        ahead=settings.trials_ahead() or 1,
        request=same.amounts,
        placement=same.placement,
        time_budget_s=float(tune.time_budget_s or 0.0),
        num_to_keep=checkpoints.num_to_keep or 0,
        score_attribute=checkpoints.checkpoint_score_attribute or "",
        score_order=checkpoints.checkpoint_score_order or "max",
        reuse_workers=tune.reuse_actors,
        metric=tune.metric or "",
        mode=tune.mode or "",
        max_total_bytes=checkpoints.max_total_bytes or 0,
        chooses=_chooses(tune.scheduler),
        **_failure_rules(run.failure_config),
    )


def _chooses(scheduler: TrialScheduler | None) -> bool:
    """Whether the scheduler has a say of its own in which trial runs next."""
    return scheduler is not None and type(scheduler).choose_trial_to_run is not TrialScheduler.choose_trial_to_run


def _failure_rules(failures: FailureConfig) -> dict[str, Any]:
    return {
        "max_failures": failures.max_failures,
        "fail_fast": bool(failures.fail_fast),
        "max_preemptions": failures.max_preemptions,
        "max_oom": failures.max_oom,
        "max_timeouts": failures.max_timeouts,
        "retry_delay_s": failures.retry_delay_s,
        "trial_timeout_s": failures.trial_timeout_s or 0.0,
        "no_progress_timeout_s": failures.no_progress_timeout_s or 0.0,
        "stop_after_failures": failures.stop_after_failures or 0.0,
    }


def _of_a_class(policy: Policy, trainable: Any, checkpoints: CheckpointConfig) -> Policy:
    """The policy with what a class trainable adds; its last row is saved unless the user says no."""
    if not isinstance(trainable, type):
        return policy
    at_end = can_save(trainable) and checkpoints.checkpoint_at_end is not False
    return msgspec.structs.replace(policy, cleans_up=True, end_checkpoint=at_end)
