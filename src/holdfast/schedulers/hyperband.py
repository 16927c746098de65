"""HyperBand: trials pause at milestones, and when all of a rung are there, the better part of it goes on.

Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18 (2018), Algorithm 1, for trials that
come one by one. This module knows brackets, rungs and scores. It reads no clock, draws no chance, and keeps no trial: it names
them by id and by number.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from holdfast.errors import ConfigError
from holdfast.schedulers.judging import JudgingScheduler

__all__ = ["HyperBandScheduler"]


class HyperBandScheduler(JudgingScheduler):
    """Runs synchronous successive halving in brackets.

    With R = `max_t`, η = `reduction_factor` and s_max = ⌊log_η R⌋, bracket s takes n = ⌈(s_max + 1) / (s + 1) · η^s⌉ trials
    and has rungs at R·η^-s, R·η^(1-s), ..., R. A trial that reaches its rung's milestone is paused. When all trials of the
    rung are there, the best ⌊n_i / η⌋ of the n_i that entered it (at least one) go on to the next, the others are stopped.

    Trials fill brackets as they come: s = 0 first (all run to R), then s = 1, to s_max, and from the beginning. Free
    places go to the oldest bracket that can use them, and there to the better trials first.

    * A trial that ends, fails or is stopped leaves its rung, and does not change how many go on.
    * What counts at a milestone is the last number that the trial has reported. NaN, the infinities and nothing at all are
      worse than any number; of equals the one that came first is better.
    * A row that jumps over milestones counts for the rung that the trial is in, with the score of that row.
    * A bracket that is not full when nothing runs and nothing more is to come is halved as it is: no trial stays paused.
    * A trial that somebody has paused by hand is waited for.

    After a crash all is as it was: paused trials rest at their milestones, and what was on the way there goes on first.

    Args:
        time_attr: What a trial's progress is measured by; it should only grow. One unit is the least that a trial is given.
        metric: What decides; None takes `TuneConfig`'s.
        mode: "min" or "max"; None takes `TuneConfig`'s.
        max_t: R, the most that a trial is given, in units of `time_attr`; it need not be whole.
        reduction_factor: η.
        stop_last_trials: Whether trials are stopped at `max_t`; otherwise those that come so far run to their own end.

    Raises:
        ConfigError: An argument is out of bounds.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: float = 81,
        reduction_factor: float = 3,
        stop_last_trials: bool = True,
    ) -> None:
        if not (max_t > 0 and math.isfinite(max_t)):
            raise ConfigError(f"max_t must be above 0 and finite, not {max_t}.")
        if not reduction_factor > 1:
            raise ConfigError(f"reduction_factor must be above 1, not {reduction_factor}.")
        super().__init__(time_attr, metric, mode)
        self._max_t = max_t
        self._eta = reduction_factor
        self._stop_last_trials = stop_last_trials
        self._s_max = 0
        while reduction_factor ** (self._s_max + 1) <= max_t * _ROUNDING:
            self._s_max += 1
        self._begun = 0  # brackets so far
        self._num_stopped = 0
        self._brackets: list[_Bracket] = []  # those that hold trials or wait for some, oldest first
        self._places: dict[str, _Place] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._leave(tune_controller, trial.trial_id)  # where it was before somebody had it begin anew
        if not self._brackets or self._brackets[-1].closed:
            self._brackets.append(_Bracket(self._next_s(), self._s_max, self._eta, self._max_t))
            self._begun += 1
        place = _Place(trial.trial_id, self._brackets[-1])
        self._places[trial.trial_id] = place
        place.bracket.join(place)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        time = self.progress_of(result)
        place = self._places.get(trial.trial_id)
        if place is None or time is None:
            return self.CONTINUE
        place.time = time
        place.score = self._newer(place.score, self.score_of(result))
        bracket = place.bracket
        if time >= self._max_t and self._stop_last_trials:
            self._num_stopped += 1
            self._leave(tune_controller, trial.trial_id)
            return self.STOP
        if bracket.last or time < bracket.milestone:
            return self.CONTINUE
        bracket.arrive(place)
        self._settle(tune_controller, bracket, trial.trial_id)
        if trial.trial_id not in self._places:
            return self.STOP
        if trial.trial_id in bracket.running:
            return self.CONTINUE
        self._rests(tune_controller, trial.trial_id)
        return self.PAUSE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._leave(tune_controller, trial.trial_id)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._leave(tune_controller, trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._leave(tune_controller, trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial, oldest bracket first, that is on its way to a milestone and has no worker."""
        trials = tune_controller.get_trials()
        while True:
            for bracket in self._brackets:
                for trial_id in bracket.running:
                    trial = trials[_index(trial_id)]
                    if tune_controller.may_start(trial):
                        return trial
            if tune_controller.awaits_suggestion or not self._give_up_waiting(tune_controller):
                return None

    def debug_string(self) -> str:
        lines = [
            f"Using HyperBand: num_stopped={self._num_stopped}, brackets={self._begun}, max_t={self._max_t}, eta={self._eta}"
        ]
        return "\n".join(lines + [bracket.debug_string() for bracket in self._brackets])

    def _next_s(self) -> int:
        """Which bracket is begun next."""
        return self._begun % (self._s_max + 1)

    def _rests(self, tune_controller: Any, trial_id: str) -> None:
        """A trial is about to be paused at its milestone."""

    def _goes_on(self, tune_controller: Any, trial_id: str) -> None:
        """A trial that rested is to run again."""

    def _newer(self, score: float, reported: float | None) -> float:
        return score if reported is None else reported

    def _leave(self, tune_controller: Any, trial_id: str) -> None:
        place = self._places.pop(trial_id, None)
        if place is not None:
            place.bracket.leave(trial_id)
            self._settle(tune_controller, place.bracket)

    def _settle(self, tune_controller: Any, bracket: _Bracket, now: str = "") -> None:
        """Halves the bracket's rung, and the next, as long as all trials of it are there.

        Args:
            tune_controller: The view.
            bracket: Which.
            now: The trial whose row is being decided; the answer tells it what becomes of it.
        """
        while bracket.complete:
            rested = [trial_id for trial_id in bracket.waiting if trial_id != now]
            for place in bracket.halve(now):
                del self._places[place.trial_id]
                self._num_stopped += 1
                if place.trial_id != now:
                    tune_controller.stop_trial(tune_controller.get_trials()[_index(place.trial_id)])
            for trial_id in rested:
                if trial_id in bracket.running:
                    self._goes_on(tune_controller, trial_id)
        if bracket.empty:
            self._brackets = [other for other in self._brackets if other is not bracket]

    def _give_up_waiting(self, tune_controller: Any) -> bool:
        """Halves the oldest bracket that waits for trials that will not come; whether there was one."""
        trials = tune_controller.get_trials()
        running = [trial_id for bracket in self._brackets for trial_id in bracket.running]
        over = [trial_id for trial_id in running if trials[_index(trial_id)].is_finished()]
        for trial_id in over:  # given up when the experiment was restored
            self._leave(tune_controller, trial_id)
        if over:
            return True
        if running or not self._brackets:
            return False
        bracket = self._brackets[0]  # it holds only trials that rest, and would have been halved if it were full
        bracket.closed = True
        self._settle(tune_controller, bracket)
        return True


_ROUNDING = 1 + 1e-12  # logarithms of whole powers must not lose a rung to floating point


class _Place:
    """Where a trial stands: its bracket, how far it has come, and the last score it reported."""

    __slots__ = ("bracket", "score", "time", "trial_id")

    def __init__(self, trial_id: str, bracket: _Bracket) -> None:
        self.trial_id = trial_id
        self.bracket = bracket
        self.time = -math.inf
        self.score = -math.inf


class _Bracket:
    """One run of successive halving.

    Attributes:
        closed: Whether no more trials come.
        running: Trials on their way to the milestone, in the order in which they are to run.
        waiting: Trials that have reached it, in the order of their arrival.
    """

    def __init__(self, s: int, s_max: int, eta: float, max_t: float) -> None:
        self.closed = False
        # No plain dictionary: that takes longer and longer to find its first key when the first is removed again and again.
        self.running: OrderedDict[str, _Place] = OrderedDict()
        self.waiting: dict[str, _Place] = {}
        self._s = s
        self._eta = eta
        self._max_t = max_t
        self._size = math.ceil((s_max + 1) / (s + 1) * eta**s / _ROUNDING)
        self._rung = 0
        self._entered = 0  # how many trials came into the present rung

    @property
    def milestone(self) -> float:
        """Where the present rung's trials wait for each other."""
        return self._max_t / self._eta ** (self._s - self._rung)

    @property
    def last(self) -> bool:
        """Whether the rung is the last one, in which nobody waits."""
        return self._rung == self._s

    @property
    def complete(self) -> bool:
        """Whether all trials of the rung are at its milestone, and some are."""
        return self.closed and not self.running and bool(self.waiting)

    @property
    def empty(self) -> bool:
        """Whether no trial is left, and none comes."""
        return self.closed and not self.running and not self.waiting

    def join(self, place: _Place) -> None:
        """A new trial."""
        self.running[place.trial_id] = place
        self._entered += 1
        self.closed = self._entered == self._size

    def leave(self, trial_id: str) -> None:
        """A trial is over."""
        self.running.pop(trial_id, None)
        self.waiting.pop(trial_id, None)

    def arrive(self, place: _Place) -> None:
        """A trial has reached the milestone."""
        self.running.pop(place.trial_id, None)
        self.waiting[place.trial_id] = place

    def halve(self, now: str) -> list[_Place]:
        """Lets the better trials go on to the next rung and returns the others. `now`, which runs already, stands first."""
        ranked = sorted(self.waiting.values(), key=lambda place: -place.score)
        most = max(1, math.floor(self._entered / self._eta * _ROUNDING))
        good, bad = ranked[:most], ranked[most:]
        self._rung += 1
        self._entered = len(good)
        self.waiting = {}
        for place in good:
            there = not self.last and place.time >= self.milestone
            (self.waiting if there else self.running)[place.trial_id] = place
        if now in self.running:
            self.running.move_to_end(now, last=False)
        return bad

    def debug_string(self) -> str:
        """Its kind, where it stands, and how many trials run and wait."""
        size = f"s={self._s}, n={self._size}, rung {self._rung + 1} of {self._s + 1}, milestone {self.milestone:g}"
        return f"Bracket({size}: {len(self.running)} on their way, {len(self.waiting)} there)"


def _index(trial_id: str) -> int:
    """A trial's number, which is also its place among all trials."""
    return int(trial_id.rpartition("_")[2])
