"""The median stopping rule: a trial whose best is worse than the others' average course ends.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2. This module knows the course of
every trial. It reads no clock, draws no chance, and keeps no trial: it names them by id and by number.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

from holdfast.errors import ConfigError
from holdfast.schedulers.judging import JudgingScheduler

__all__ = ["MedianStoppingRule"]


class MedianStoppingRule(JudgingScheduler):
    """Stops a trial at time t if its best score so far is worse than the median of the others' running averages at t.

    The others are all trials, ended ones too, that have come to t; a trial's running average at t is the mean of the scores
    that it reported from `grace_period` on up to t. NaN and the infinities enter no average; a trial that has reported
    nothing else is worse than any other. A row without the metric, or without a number in it, is not judged.

    Where too few others have come to t, a trial may yield its place to one that waits: it is paused, and goes on when those
    have had their turn, the one that has come least far first.

    A row costs time that grows with the number of trials' logarithm where `time_attr` is whole, as iterations are; for
    seconds, which no two trials share, with the number of trials.

    Args:
        time_attr: What a trial's progress is measured by; it should only grow.
        metric: What decides; None takes `TuneConfig`'s.
        mode: "min" or "max"; None takes `TuneConfig`'s.
        grace_period: From where on trials are judged, and averages taken, in units of `time_attr`.
        min_samples_required: How many other trials must have come so far before one is judged.
        min_time_slice: How long a trial runs at least before it yields, in units of `time_attr`.
        hard_stop: Whether a trial that is judged worse is stopped; otherwise it is paused, and runs on to its own end, judged no
            more, when no other trial waits.

    Raises:
        ConfigError: An argument is out of bounds.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        grace_period: float = 60.0,
        min_samples_required: int = 3,
        min_time_slice: float = 0,
        hard_stop: bool = True,
    ) -> None:
        if min_samples_required < 1:
            raise ConfigError(f"min_samples_required must be 1 or more, not {min_samples_required}.")
        if not min_time_slice >= 0:
            raise ConfigError(f"min_time_slice must be 0 or more, not {min_time_slice}.")
        super().__init__(time_attr, metric, mode)
        self._grace = grace_period
        self._least = min_samples_required
        self._slice = min_time_slice
        self._hard = hard_stop
        self._courses = _Courses()
        self._best: dict[str, float] = {}  # of the trials that are not over
        self._yielded_at: dict[str, float] = {}
        self._passed: dict[str, None] = {}  # paused as worse than the median, judged no more
        self._line = _Line()
        self._num_stopped = 0

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._forget(trial.trial_id)
        self._courses.drop(trial.trial_id)  # where somebody had it begin anew
        self._line.new(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        trial_id = trial.trial_id
        self._line.runs(trial_id)
        time, score = self.progress_of(result), self.score_of(result)
        if time is None or score is None or trial_id in self._passed:
            return self.CONTINUE
        self._best[trial_id] = max(self._best.get(trial_id, -math.inf), score)
        if time < self._grace or not self._courses.add(trial_id, time, score):
            return self.CONTINUE
        median = self._courses.median_of_others(trial_id, time, self._least)
        if median is None:
            return self._may_yield(tune_controller, trial_id, time)
        if not self._best[trial_id] < median:
            return self.CONTINUE
        self._num_stopped += 1
        if self._hard:
            self._forget(trial_id)
            return self.STOP
        self._passed[trial_id] = None
        self._line.rests(trial_id, math.inf)
        return self.PAUSE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        time, score = (self.progress_of(result), self.score_of(result)) if self._time_attr in (result or {}) else (None, None)
        if time is not None and score is not None and time >= self._grace and trial.trial_id not in self._passed:
            self._courses.add(trial.trial_id, time, score, again=False)
        self._forget(trial.trial_id)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._forget(trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._forget(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """New trials first, then those that yielded, then those judged worse."""
        trials = tune_controller.get_trials()
        for trial_id in self._line.standing(rested=not tune_controller.awaits_suggestion):
            trial = trials[_index(trial_id)]
            if tune_controller.may_start(trial):
                self._line.runs(trial_id)
                return trial
        return None

    def debug_string(self) -> str:
        return f"Using MedianStoppingRule: num_stopped={self._num_stopped}"

    def _may_yield(self, tune_controller: Any, trial_id: str, time: float) -> str:
        """There are not enough samples: the trial yields if it has run for long enough, and another waits or is being made."""
        others = self._line.others_wait() or tune_controller.awaits_suggestion
        if not others or not time - self._yielded_at.get(trial_id, 0.0) > self._slice:
            return self.CONTINUE
        self._yielded_at[trial_id] = time
        self._line.rests(trial_id, time)
        return self.PAUSE

    def _forget(self, trial_id: str) -> None:
        self._line.leave(trial_id)
        self._best.pop(trial_id, None)
        self._yielded_at.pop(trial_id, None)
        self._passed.pop(trial_id, None)


class _Courses:
    """How the running average of every trial has gone.

    For times that trials share, the averages of all that have come so far are kept in order, as long as that takes no more room
    than the courses themselves.
    """

    def __init__(self) -> None:
        self._times: dict[str, array[float]] = {}
        self._means: dict[str, array[float]] = {}  # beside the times; NaN before the first finite score
        self._counts: dict[str, int] = {}
        self._rows = 0
        self._shared: dict[float, array[float]] = {}  # time → the averages of all that have come so far, smallest first
        self._shared_times: list[float] = []
        self._room_taken = 0

    def add(self, trial_id: str, time: float, score: float, *, again: bool = True) -> bool:
        """A trial reported. False, and nothing is added, if it went back in time, or without `again` if it stood still."""
        times = self._times.setdefault(trial_id, array("d"))
        means = self._means.setdefault(trial_id, array("d"))
        since = times[-1] if times else -math.inf
        if time < since or (time == since and not again):
            return False
        before = means[-1] if means else math.nan
        mean = before
        if math.isfinite(score):
            count = self._counts[trial_id] = self._counts.get(trial_id, 0) + 1
            mean = score if count == 1 else before + (score - before) / count  # exact where all scores are equal
        if time == since:
            self._replace(time, before, mean)
        else:
            for passed in self._shared_times[bisect_right(self._shared_times, since) : bisect_right(self._shared_times, time)]:
                self._insert(self._shared[passed], mean if passed == time else before)
        times.append(time)
        means.append(mean)
        self._rows += 1
        return True

    def median_of_others(self, trial_id: str, time: float, least: int) -> float | None:
        """The median of the other trials' averages at a time; None where fewer than `least` have come so far."""
        own = self._mean(trial_id, time)
        averages = self._averages(time)
        others = len(averages) - (own is not None)
        if others < least:
            return None
        at = len(averages) if own is None else bisect_left(averages, own)
        low, high = (averages[k + (k >= at)] for k in ((others - 1) // 2, others // 2))
        return low + (high - low) / 2

    def drop(self, trial_id: str) -> None:
        """A trial's course counts no more."""
        times = self._times.pop(trial_id, None)
        self._means.pop(trial_id, None)
        self._counts.pop(trial_id, None)
        if times:
            self._rows -= len(times)
            self._shared.clear()
            self._shared_times.clear()
            self._room_taken = 0

    def _averages(self, time: float) -> array[float]:
        """The averages at a time of all that have come so far, in order."""
        kept = self._shared.get(time)
        if kept is not None:
            return kept
        found = (self._mean(trial_id, time) for trial_id, times in self._times.items() if times and times[-1] >= time)
        averages = array("d", sorted(mean for mean in found if mean is not None))
        if time.is_integer() and self._room_taken + len(averages) <= self._rows:
            self._shared[time] = averages
            insort(self._shared_times, time)
            self._room_taken += len(averages)
        return averages

    def _mean(self, trial_id: str, time: float) -> float | None:
        at = bisect_right(self._times[trial_id], time)
        mean = self._means[trial_id][at - 1] if at else math.nan
        return None if math.isnan(mean) else mean

    def _insert(self, averages: array[float], mean: float) -> None:
        if not math.isnan(mean):
            insort(averages, mean)
            self._room_taken += 1

    def _replace(self, time: float, before: float, mean: float) -> None:
        averages = self._shared.get(time)
        if averages is None:
            return
        if not math.isnan(before):
            del averages[bisect_left(averages, before)]
            self._room_taken -= 1
        self._insert(averages, mean)


class _Line:
    """Who is to run next: first what was running and lost its worker, then who never ran, then who rests."""

    def __init__(self) -> None:
        # Not plain dictionaries: those take longer and longer to find their first key when the first is removed again and again.
        self._running: OrderedDict[str, None] = OrderedDict()
        self._new: OrderedDict[str, None] = OrderedDict()
        self._resting: dict[str, float] = {}  # → how far it had come; infinite for those that go last
        self._heap: list[tuple[float, int, str]] = []  # of the resting ones, with some that do not rest any more

    def new(self, trial_id: str) -> None:
        self._new[trial_id] = None

    def runs(self, trial_id: str) -> None:
        if trial_id not in self._running:
            self.leave(trial_id)
            self._running[trial_id] = None

    def rests(self, trial_id: str, time: float) -> None:
        self.leave(trial_id)
        self._resting[trial_id] = time
        heappush(self._heap, (time, _index(trial_id), trial_id))

    def leave(self, trial_id: str) -> None:
        self._running.pop(trial_id, None)
        self._new.pop(trial_id, None)
        self._resting.pop(trial_id, None)

    def others_wait(self) -> bool:
        """Whether some trial is new or rests."""
        return bool(self._new or self._resting)

    def standing(self, *, rested: bool) -> Iterator[str]:
        """All in order; of those that rest only if `rested`."""
        yield from self._running
        yield from self._new
        if not rested:
            return
        while self._heap and self._resting.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        if self._heap:
            yield self._heap[0][2]
            yield from (trial_id for _, trial_id in sorted((time, one) for one, time in self._resting.items()))


def _index(trial_id: str) -> int:
    """A trial's number, which is also its place among all trials."""
    return int(trial_id.rpartition("_")[2])
