"""`FailureConfig`: what a failed attempt costs, and when an attempt counts as failed."""

from __future__ import annotations

import datetime
from math import isfinite
from typing import Any, Literal

from holdfast.config.checks import Shown, seconds, whole
from holdfast.errors import ConfigError

__all__ = ["FailureConfig"]


class FailureConfig(Shown):
    """What a failed attempt costs.

    A trial's attempts fail in different ways: "code" (its exception), "worker" (its process died), "oom" (its memory ran out),
    "timeout" (it took too long, or made no progress), "storage" (the disk refused), "node" and "preempted" (its machine was
    lost or taken away). `max_failures` counts them all, save those that have a budget of their own here. A driver's death is no
    failure of a trial.

    Args:
        max_failures: Failed attempts that a trial survives: 3 is up to four attempts, 0 none, -1 any number.
        fail_fast: True ends the experiment at the first trial that failed for good; "raise" also raises its exception.
        max_preemptions: A budget of its own, counted as `max_failures`, for "node" and "preempted"; None: they count there.
        max_oom: Likewise for "oom".
        max_timeouts: Likewise for "timeout".
        trial_timeout_s: Seconds (or a `timedelta`) that one attempt may take; then it is killed. None: any number.
        no_progress_timeout_s: Seconds that an attempt may go without a row; then it is killed. None: any number.
        retry_delay_s: Seconds before a failed trial is tried again, doubled with each failure of it up to 64 times, and spread
            by up to a half, so that trials that failed together do not come back together. A restore waits for the rest.
        stop_after_failures: End the experiment, as `fail_fast=True` does, when so many attempts in a row have failed (1 or
            more), or when more than such a part of all attempts have (below 1; counted from the tenth on). None: never.
            What a driver before this one saw does not count.

    Raises:
        ConfigError: `fail_fast` together with `max_failures`, or a value that cannot be.
    """

    max_failures: int
    fail_fast: bool | str
    max_preemptions: int | None = None  # with a value here: jobs that were stored before there was such a choice are read back
    max_oom: int | None = None
    max_timeouts: int | None = None
    trial_timeout_s: float | None = None
    no_progress_timeout_s: float | None = None
    retry_delay_s: float = 0.0
    stop_after_failures: float | None = None

    def __init__(
        self,
        max_failures: int = 0,
        fail_fast: bool | Literal["raise"] = False,
        *,
        max_preemptions: int | None = None,
        max_oom: int | None = None,
        max_timeouts: int | None = None,
        trial_timeout_s: float | datetime.timedelta | None = None,
        no_progress_timeout_s: float | datetime.timedelta | None = None,
        retry_delay_s: float | datetime.timedelta = 0.0,
        stop_after_failures: float | None = None,
    ) -> None:
        self.max_failures = _budget("max_failures", max_failures)
        if fail_fast not in (True, False, "raise"):
            raise ConfigError(f"FailureConfig(fail_fast={fail_fast!r}): True, False or 'raise'.")
        if fail_fast and max_failures:
            raise ConfigError("FailureConfig: fail_fast and max_failures exclude each other; give one of them.")
        self.fail_fast = fail_fast
        self.max_preemptions = None if max_preemptions is None else _budget("max_preemptions", max_preemptions)
        self.max_oom = None if max_oom is None else _budget("max_oom", max_oom)
        self.max_timeouts = None if max_timeouts is None else _budget("max_timeouts", max_timeouts)
        self.trial_timeout_s = _bound("trial_timeout_s", trial_timeout_s)
        self.no_progress_timeout_s = _bound("no_progress_timeout_s", no_progress_timeout_s)
        self.retry_delay_s = seconds("FailureConfig(retry_delay_s)", retry_delay_s)
        self.stop_after_failures = _pattern(stop_after_failures)


def _budget(name: str, given: Any) -> int:
    budget = whole(given)
    if budget is None or budget < -1:
        raise ConfigError(f"FailureConfig({name}={given!r}): 0, a positive whole number, or -1 for no bound.")
    return budget


def _bound(name: str, given: Any) -> float | None:
    bound = None if given is None else seconds(f"FailureConfig({name})", given)
    if bound == 0:
        raise ConfigError(f"FailureConfig({name}={given!r}): more than 0 seconds, or None for any number.")
    return bound


def _pattern(given: Any) -> float | None:
    if given is None:
        return None
    number = isinstance(given, (int, float)) and not isinstance(given, bool) and isfinite(given) and given > 0
    if not number or (given > 1 and whole(given) is None):
        raise ConfigError(
            f"FailureConfig(stop_after_failures={given!r}): how many attempts in a row (1, 2, ...), or which part of all (0.5), "
            "or None."
        )
    return float(given)
