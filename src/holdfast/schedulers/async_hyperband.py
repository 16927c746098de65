"""Asynchronous successive halving: stop a trial when it is not among the best that came as far.

The rungs are those of Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, section 3: a trial is
judged when it reaches resource r·η^(k+s). Their algorithm pauses trials and promotes the best 1/η of a rung; this is the
variant that Ray Tune made known, which lets a trial run on or stops it, once per rung, by the (1 - 1/η) quantile of the
scores that the rung has seen before. It
knows scores and rungs; it reads no clock and draws no chance.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

from holdfast.errors import ConfigError
from holdfast.schedulers.fifo import FIFOScheduler
from holdfast.schedulers.judging import JudgingScheduler, number_of

__all__ = ["ASHAScheduler", "AsyncHyperBandScheduler"]


class AsyncHyperBandScheduler(JudgingScheduler, FIFOScheduler):
    """Stops trials early, without waiting for others.

    A row between rungs costs a comparison, one on a rung a step in a heap, however many trials there are. A running trial
    costs two small numbers, an ended one a float per rung it reached. A row without the metric, or with one that is no
    number, is not judged (only `max_t` counts for it). NaN and the infinities are judged as worse than any number and never
    enter a rung.

    With several brackets a trial's bracket is a function of the experiment's seed and the trial's own number, spread by
    the softmax of the brackets' numbers of rungs: the same after a crash, in whatever order trials are added.

    A row that jumps over rungs counts for the highest of them only.

    Args:
        time_attr: What a trial's progress is measured by; it should only grow.
        metric: What decides; None takes `TuneConfig`'s.
        mode: "min" or "max"; None takes `TuneConfig`'s.
        max_t: Where trials are stopped, in units of `time_attr`.
        grace_period: Where trials are first judged.
        reduction_factor: η: one in η goes on at each rung.
        brackets: How many brackets; bracket s is first judged at `grace_period`·η^s.
        stop_last_trials: Whether `max_t` stops trials.

    Raises:
        ConfigError: An argument is out of bounds.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 100,
        grace_period: int = 1,
        reduction_factor: float = 4,
        brackets: int = 1,
        stop_last_trials: bool = True,
    ) -> None:
        if not 0 < grace_period <= max_t:
            raise ConfigError(f"grace_period must be above 0 and not above max_t; it is {grace_period}, max_t is {max_t}.")
        if not reduction_factor > 1:
            raise ConfigError(f"reduction_factor must be above 1, not {reduction_factor}.")
        if brackets < 1:
            raise ConfigError(f"brackets must be 1 or more, not {brackets}.")
        super().__init__(time_attr, metric, mode)
        self._max_t = max_t
        self._stop_last_trials = stop_last_trials
        self._brackets = [_Bracket(grace_period, max_t, reduction_factor, s) for s in range(brackets)]
        self._seed = 0
        self._places: dict[str, list[int]] = {}  # trial → [its bracket, how many rungs it has passed]
        self._num_stopped = 0

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._seed = int(spec.get("seed", 0))
        return super().set_search_properties(metric, mode, **spec)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Gives the trial its bracket.

        Raises:
            ConfigError: No metric or mode was given, here or in `TuneConfig`.
        """
        super().on_trial_add(tune_controller, trial)
        if not trial.last_result:
            self._places.pop(trial.trial_id, None)
        self._place(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        time = number_of(result.get(self._time_attr))
        if time is None:
            return self.CONTINUE
        goes_on = self._judged(trial.trial_id, time, result)
        if goes_on and not (self._stop_last_trials and time >= self._max_t):
            return self.CONTINUE
        self._num_stopped += 1
        return self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        time = number_of(result.get(self._time_attr)) if result else None
        if time is not None:
            self._judged(trial.trial_id, time, result)  # its place stays: if it goes on, it is not judged there again

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._places.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._places.pop(trial.trial_id, None)

    def debug_string(self) -> str:
        lines = [f"Using AsyncHyperBand: num_stopped={self._num_stopped}"]
        return "\n".join(lines + [bracket.debug_string(-1.0 if self._mode == "min" else 1.0) for bracket in self._brackets])

    def _judged(self, trial_id: str, time: float, result: dict[str, Any]) -> bool:
        """Whether the trial goes on after a row; records its score where the row is the first on a rung."""
        score = number_of(result.get(self._metric or ""))
        if score is None:
            return True
        place = self._place(trial_id)
        return self._brackets[place[0]].judged(place, time, -score if self._mode == "min" else score)

    def _place(self, trial_id: str) -> list[int]:
        place = self._places.get(trial_id)
        if place is None:
            place = self._places[trial_id] = [self._bracket_of(trial_id), 0]
        return place

    def _bracket_of(self, trial_id: str) -> int:
        if len(self._brackets) == 1:
            return 0
        number = trial_id.rpartition("_")[2]
        digest = blake2b(f"{self._seed}:{number}".encode(), digest_size=8).digest()
        most = max(len(bracket.rungs) for bracket in self._brackets)
        weights = [math.exp(len(bracket.rungs) - most) for bracket in self._brackets]
        left = int.from_bytes(digest, "big") / 2**64 * math.fsum(weights)
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        return len(weights) - 1


class _Rung:
    """The scores that reached one place, parted at their quantile: adding one costs a logarithm, the cut nothing.

    `low` is a heap of the negated scores up to the quantile's lower neighbour, `high` a heap of the others.
    """

    def __init__(self, milestone: float, quantile: float) -> None:
        self.milestone = milestone
        self._quantile = quantile
        self._low: list[float] = []
        self._high: list[float] = []

    def add(self, score: float) -> None:
        if self._low and score < -self._low[0]:
            heappush(self._low, -score)
        else:
            heappush(self._high, score)
        wanted = int(self._quantile * (len(self._low) + len(self._high) - 1)) + 1
        while len(self._low) < wanted:
            heappush(self._low, -heappop(self._high))
        while len(self._low) > wanted:
            heappush(self._high, -heappop(self._low))

    def cutoff(self) -> float | None:
        """The quantile, linear between the two scores it falls between; None where there is no score."""
        if not self._low:
            return None
        low = -self._low[0]
        share = self._quantile * (len(self._low) + len(self._high) - 1) - (len(self._low) - 1)
        if share == 0 or not self._high:
            return low
        high = self._high[0]
        # The nearer end is the base, so that equal scores give that score exactly.
        return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


class _Bracket:
    """Rungs, lowest first."""

    def __init__(self, grace_period: float, max_t: float, reduction_factor: float, s: int) -> None:
        self.rungs: list[_Rung] = []
        milestone = grace_period * reduction_factor**s
        while milestone <= max_t:
            self.rungs.append(_Rung(milestone, 1 - 1 / reduction_factor))
            milestone = grace_period * reduction_factor ** (s + len(self.rungs))

    def judged(self, place: list[int], time: float, score: float) -> bool:
        """Whether a trial at `time` goes on. `place[1]` is moved above the rung that judged it."""
        reached = passed = place[1]
        while reached < len(self.rungs) and time >= self.rungs[reached].milestone:
            reached += 1
        if reached == passed:
            return True
        place[1] = reached
        rung = self.rungs[reached - 1]
        cutoff = rung.cutoff()
        if not math.isfinite(score):
            return cutoff is None
        rung.add(score)
        return cutoff is None or score >= cutoff

    def debug_string(self, sign: float) -> str:
        """Each rung's place and cutoff, in the metric's own sign."""
        parts = []
        for rung in reversed(self.rungs):
            cutoff = rung.cutoff()
            parts.append(f"Iter {rung.milestone:.3f}: {None if cutoff is None else sign * cutoff}")
        return "Bracket: " + " | ".join(parts)


ASHAScheduler = AsyncHyperBandScheduler
