from __future__ import annotations

import datetime

import numpy as np
import pytest

from holdfast.config import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, SyncConfig, TuneConfig
from holdfast.errors import ConfigError, Deprecated, TuneError


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TuneConfig(mode="maximum"), "mode is 'min' or 'max'"),
        (lambda: TuneConfig(metric=""), "the name of one metric"),
        (lambda: TuneConfig(metric=["a", "b"]), "the name of one metric"),
        (lambda: TuneConfig(num_samples=0), "positive whole number"),
        (lambda: TuneConfig(num_samples=-2), "positive whole number"),
        (lambda: TuneConfig(num_samples=1.5), "positive whole number"),
        (lambda: TuneConfig(num_samples="many"), "positive whole number"),
        (lambda: TuneConfig(num_samples=None), "positive whole number"),
        (lambda: TuneConfig(max_concurrent_trials=-1), "whole number"),
        (lambda: TuneConfig(max_concurrent_trials=1.5), "whole number"),
        (lambda: TuneConfig(time_budget_s=0), "positive number of seconds"),
        (lambda: TuneConfig(time_budget_s="1h"), "positive number of seconds"),
        (lambda: TuneConfig(seed=1.5), "whole number"),
        (lambda: TuneConfig(seed=2**64), "64 bits"),
        (lambda: FailureConfig(max_failures=-2), "-1 for no bound"),
        (lambda: FailureConfig(max_failures=None), "-1 for no bound"),
        (lambda: FailureConfig(fail_fast="yes"), "True, False or 'raise'"),
        (lambda: FailureConfig(max_failures=1, fail_fast=True), "exclude each other"),
        (lambda: FailureConfig(max_failures=-1, fail_fast="raise"), "exclude each other"),
        (lambda: FailureConfig(max_oom=-2), "max_oom=-2"),
        (lambda: FailureConfig(max_timeouts=1.5), "max_timeouts=1.5"),
        (lambda: FailureConfig(max_preemptions="all"), "-1 for no bound"),
        (lambda: FailureConfig(trial_timeout_s=0), "more than 0 seconds"),
        (lambda: FailureConfig(no_progress_timeout_s=-1), "number of seconds"),
        (lambda: FailureConfig(no_progress_timeout_s=float("inf")), "number of seconds"),
        (lambda: FailureConfig(retry_delay_s=None), "number of seconds"),
        (lambda: FailureConfig(retry_delay_s="1h"), "number of seconds"),
        (lambda: FailureConfig(stop_after_failures=0), "which part of all"),
        (lambda: FailureConfig(stop_after_failures=1.5), "which part of all"),
        (lambda: FailureConfig(stop_after_failures=True), "which part of all"),
        (lambda: CheckpointConfig(num_to_keep=0), "None to keep all"),
        (lambda: CheckpointConfig(num_to_keep=2.5), "None to keep all"),
        (lambda: CheckpointConfig(checkpoint_score_order="best"), "'max' or 'min'"),
        (lambda: CheckpointConfig(checkpoint_score_attribute=3), "the name of a metric"),
        (lambda: CheckpointConfig(checkpoint_frequency=-1), "whole number"),
        (lambda: CheckpointConfig(upload="later"), "'sync' or 'async'"),
        (lambda: CheckpointConfig(max_total_bytes=0), "a positive whole number, or None"),
        (lambda: CheckpointConfig(max_total_bytes=1.5), "a positive whole number, or None"),
        (lambda: RunConfig(durability="always"), "'group' or 'strict'"),
        (lambda: RunConfig(if_exists="replace"), "'error', 'resume' or 'new'"),
        (lambda: RunConfig(if_exists="resume"), "needs name="),
        (lambda: RunConfig(log_to_file=("a",)), "pair of names"),
        (lambda: RunConfig(log_to_file=3), "pair of names"),
        (lambda: RunConfig(verbose=7), "0, 1, 2 or 3"),
        (lambda: RunConfig(sync_config=object()), "a holdfast.SyncConfig"),
        (lambda: RunConfig(storage_timeout_s=-1), "number of seconds"),
        (lambda: SyncConfig(sync_period="often"), "number of seconds"),
        (lambda: SyncConfig(sync_artifacts="yes"), "True or False"),
        (lambda: SyncConfig(upload_dir="s3://bucket"), "storage_path"),
        (lambda: RunConfig(storage_filesystem=object()), "give storage_path too"),
        (lambda: RunConfig(storage_path="x", storage_filesystem=object()), "two drivers cannot be kept apart"),
        (lambda: RunConfig(progress_reporter=object()), "subclass of holdfast.ProgressReporter"),
        (lambda: ResumeConfig(errored="again"), "ResumeConfig"),
    ],
)
def test_what_cannot_be_is_refused(make, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda: RunConfig(local_dir="x"), "storage_path"),
        (lambda: TuneConfig(chdir_to_trial_dir=False), "RAY_CHDIR_TO_TRIAL_DIR=0"),
    ],
)
def test_what_ray_tune_gave_up_raises_as_there_and_names_what_to_use(make, instead: str) -> None:
    with pytest.raises(DeprecationWarning) as caught:
        make()
    assert isinstance(caught.value, Deprecated)
    assert isinstance(caught.value, TuneError)
    assert instead in str(caught.value)


def test_numbers_of_other_kinds_become_pythons() -> None:
    tune = TuneConfig(num_samples=np.int64(4), seed=np.int64(7), max_concurrent_trials=2.0)
    assert [(type(n), n) for n in (tune.num_samples, tune.seed, tune.max_concurrent_trials)] == [(int, 4), (int, 7), (int, 2)]
    assert TuneConfig(time_budget_s=datetime.timedelta(minutes=2)).time_budget_s == 120.0
    assert type(CheckpointConfig(num_to_keep=np.int32(3)).num_to_keep) is int


def test_times_of_failures_may_be_timedeltas() -> None:
    minute = datetime.timedelta(minutes=1)
    config = FailureConfig(trial_timeout_s=minute, no_progress_timeout_s=minute, retry_delay_s=minute, stop_after_failures=3)
    assert (config.trial_timeout_s, config.no_progress_timeout_s, config.retry_delay_s) == (60.0, 60.0, 60.0)
    assert (config.stop_after_failures, FailureConfig(stop_after_failures=0.5).stop_after_failures) == (3.0, 0.5)


def test_configs_compare_by_value_and_show_what_was_set() -> None:
    assert FailureConfig(max_failures=3) == FailureConfig(max_failures=3)
    assert FailureConfig(max_failures=3) != FailureConfig()
    assert FailureConfig() != CheckpointConfig()
    assert repr(ResumeConfig().unfinished) in repr(ResumeConfig())
    assert repr(FailureConfig(max_failures=3)) == "FailureConfig(max_failures=3, fail_fast=False, retry_delay_s=0.0)"


def test_defaults_are_ray_tunes() -> None:
    assert FailureConfig() == FailureConfig(max_failures=0, fail_fast=False)
    assert (RunConfig().if_exists, RunConfig().exit_on_preemption) == ("error", False)
    assert (TuneConfig().num_samples, TuneConfig().reuse_actors, TuneConfig().max_concurrent_trials) == (1, False, None)
    kind = ResumeConfig.ResumeType
    assert vars(ResumeConfig()) == {"finished": kind.SKIP, "unfinished": kind.RESUME, "errored": kind.SKIP}
    assert (RunConfig().callbacks, RunConfig().stop, RunConfig().log_to_file) == ([], None, False)


def test_a_config_that_was_stored_before_uploads_could_be_chosen_is_read_back():
    old = CheckpointConfig(num_to_keep=2)
    del old.upload, old.max_total_bytes
    assert (old.upload, old.max_total_bytes) == ("sync", None)


def test_a_config_that_was_stored_before_budgets_could_be_chosen_is_read_back_and_equal():
    old = FailureConfig(max_failures=2)
    for name in list(vars(old))[2:]:
        delattr(old, name)
    assert old == FailureConfig(max_failures=2)
    assert old.retry_delay_s == 0.0
