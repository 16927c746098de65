"""Population based training: bad trials go on from good ones' checkpoints, with configurations nearby.

The algorithm is that of Jaderberg et al., "Population Based Training of Neural Networks", 2017 (Algorithm 1, with truncation
selection as in section 3 and appendix A). `PopulationBasedTrainingReplay` trains one trial along the schedule that a log of
it tells. Both know scores, times and configurations. They refuse to know files, but for the log that a replay reads, and
what a checkpoint holds.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.errors import ConfigError, WrongType
from holdfast.schedulers.fifo import FIFOScheduler
from holdfast.schedulers.judging import JudgingScheduler, number_of
from holdfast.schedulers.mutations import Config, Explorer, calls_user_code, check_mutations, copied, filled, perturbed_tag
from holdfast.schedulers.policy_log import read_policy
from holdfast.schedulers.population import Member, Population

__all__ = ["PopulationBasedTraining", "PopulationBasedTrainingReplay"]


class PopulationBasedTraining(JudgingScheduler):
    """Moves trials that do badly to the checkpoints of those that do well, and changes their hyperparameters on the way.

    Every `perturbation_interval` a trial is compared by its newest score with the scores that the others had at their last
    such step. One in the lowest `quantile_fraction` (never more than half) is paused; it goes on from the newest durable
    checkpoint of a trial drawn from the highest `quantile_fraction`, with that one's iteration and time counters and a
    configuration explored from that one's.

    While more trials live than there are places, they take turns: each is paused at its step, and the one that has come least far
    runs next. One that was found bad is moved when its next turn comes, unless it is among the best by then. The others have come
    as far, so it is not sent back to an earlier iteration.

    Trials need checkpoints. A function saves with `report(metrics, checkpoint=...)`, best at each step; a class trainable is
    asked to when it is among the best, and when it is paused. A trial without checkpoint or score gives nothing, an ended
    trial neither. NaN and the infinities count as worse than any number.

    All chance is the scheduler's own, seeded by the experiment; `custom_explore_fn` and functions in `hyperparam_mutations`
    find `random` and `numpy.random` seeded. After a crash everything goes on as if there had been none: a trial whose worker
    was lost has the next place.

    Args:
        time_attr: What a trial's progress is measured by; it should only grow.
        metric: What decides; None takes `TuneConfig`'s.
        mode: "min" or "max"; None takes `TuneConfig`'s.
        perturbation_interval: How much of `time_attr` lies between two steps of a trial.
        burn_in_period: No step before so much of `time_attr`.
        hyperparam_mutations: Per key of the configuration a list (a value moves to a neighbour), a domain or a function without
            arguments (a number is multiplied by one of `perturbation_factors`, a whole number stays one), or a dictionary of
            such for a nested key. A key that a new trial lacks is drawn from it. As in Ray Tune a multiplied value may leave the
            domain's bounds: `custom_explore_fn` can hold it within.
        quantile_fraction: Which part is bad, and which is good; 0 to 0.5. 0 never moves a trial.
        resample_probability: How likely a value is drawn anew instead of being moved.
        perturbation_factors: What numbers are multiplied by, each as likely.
        custom_explore_fn: Is given the explored configuration, and returns the one to use.
        log_config: Whether `pbt_global.txt` and `pbt_policy_<trial id>.txt` are written into the experiment's directory.
        require_attrs: Whether a row without `time_attr` or `metric` is refused, before it goes on record. Otherwise a row
            without `time_attr` is passed over, and one without `metric` leaves its trial without a score.
        synch: Whether all wait at each step until all have reached it; then all are compared at once. Trials that are
            created later are waited for as soon as they exist.

    Raises:
        ConfigError: An argument is out of bounds, or nothing says how to explore.
        WrongType: `hyperparam_mutations` or `custom_explore_fn` is of a type that means nothing.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        burn_in_period: float = 0.0,
        hyperparam_mutations: dict[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        perturbation_factors: tuple[float, float] = (1.2, 0.8),
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
    ) -> None:
        mutations = hyperparam_mutations or {}
        check_mutations(mutations)
        if not mutations and not custom_explore_fn:
            raise ConfigError(f"{type(self).__name__} explores nothing: give hyperparam_mutations or custom_explore_fn.")
        if custom_explore_fn is not None and not callable(custom_explore_fn):
            raise WrongType(f"custom_explore_fn is {custom_explore_fn!r}: give a function of the configuration.")
        _check_bounds(perturbation_interval, burn_in_period, quantile_fraction, resample_probability, perturbation_factors)
        super().__init__(time_attr, metric, mode)
        self.log_config = log_config
        self.own_chance = custom_explore_fn is None and not calls_user_code(mutations)
        self._interval = perturbation_interval
        self._burn_in = burn_in_period
        self._quantile = quantile_fraction
        self._explorer = Explorer(mutations, resample_probability, tuple(perturbation_factors))
        self._custom_explore = custom_explore_fn
        self._require_attrs = require_attrs
        self._synch = synch
        self._next_sync = max(perturbation_interval, burn_in_period)
        self._population = Population()
        self._chance = random.Random("population 0")
        self._num_perturbations = 0
        self._warned = False

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        taken = super().set_search_properties(metric, mode, **spec)
        self._chance = random.Random(f"population {int(spec.get('seed', 0))}")
        return taken

    @property
    def required(self) -> tuple[str, ...]:
        """The keys without which a row is refused."""
        return (self._time_attr, self._metric or "_metric") if self._require_attrs else ()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes a trial in, and draws what its configuration lacks.

        Raises:
            ConfigError: No metric or mode was given, here or in `TuneConfig`.
        """
        super().on_trial_add(tune_controller, trial)
        self._population.add(tune_controller, trial)
        config = filled(trial.config, self._explorer.mutations, self._chance)
        if config is not None:
            trial.set_config(config)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        population = self._population
        member = population.of(trial.trial_id) or population.add(tune_controller, trial)
        population.work(member)
        time = number_of(result.get(self._time_attr))
        if time is None:
            return self.CONTINUE
        due = time >= max(self._burn_in, member.perturbed + self._interval)
        if not (time >= self._next_sync if self._synch else due):
            return self.CONTINUE
        population.rate(member, self.score_of(result))
        self._observe(trial, time, member.score)
        member.time = time
        if self._synch:
            population.wait(member)
            return self.PAUSE
        member.perturbed = time
        standing = population.standing(member, self._quantile)
        if standing > 0:
            tune_controller.save_trial(trial)
        if population.anybody_else_waits(member) or _another_comes(tune_controller, trial):
            population.wait(member)
            member.moves = standing < 0
            return self.PAUSE
        return self.PAUSE if standing < 0 and self._exploit(tune_controller, member) else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._population.end(trial.trial_id)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._population.end(trial.trial_id)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._population.end(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that lost its worker; else of those that wait, the one that has come least far."""
        population, trials = self._population, tune_controller.get_trials()
        if self._synch:
            self._synchronize(tune_controller)

        def may_start(member: Member) -> bool:
            return bool(tune_controller.may_start(trials[member.index]))

        chosen = next(filter(may_start, population.working), None)
        chosen = chosen or population.first(self._next_sync if self._synch else math.inf, may_start)
        if chosen is None or (chosen.waits and chosen.time > 0 and tune_controller.awaits_suggestion):
            return None  # a new one is on its way, and has come less far
        if chosen.moves and population.standing(chosen, self._quantile) <= 0:
            self._exploit(tune_controller, chosen)
        population.work(chosen)
        return trials[chosen.index]

    def debug_string(self) -> str:
        return f"{type(self).__name__}: {self._num_perturbations} perturbs"

    def _observe(self, trial: Any, time: float, score: float | None) -> None:
        """Hears of a trial's step before it is perturbed."""

    def _explored(self, config: Config, trial_id: str, donor_id: str) -> Config:
        """What a bad trial runs with next, from a good one's configuration."""
        return self._explorer.explored(config, self._chance)

    def _exploit(self, tune_controller: Any, member: Member) -> bool:
        """Has a bad trial go on from a good one, where a good one has a checkpoint."""
        trials = tune_controller.get_trials()
        donor = self._donor(trials)
        if donor is None:
            return False
        config = self._explored(trials[donor.index].config, member.trial_id, donor.trial_id)
        if self._custom_explore is not None:
            config = self._custom_explore(copied(config))
            if not isinstance(config, dict):
                raise ConfigError(f"custom_explore_fn answered {config!r:.200}; it must return the configuration, a dictionary.")
        tag = perturbed_tag(member.tag, config, self._explorer.mutations)
        tune_controller.change_trial(trials[member.index], config, donor=trials[donor.index], tag=tag)
        member.perturbed, member.time = donor.perturbed, donor.time
        self._population.wait(member)
        self._num_perturbations += 1
        return True

    def _donor(self, trials: Any) -> Member | None:
        """One of the best that has something to give, each as likely."""
        pool: Sequence[Member] = self._population.best(self._quantile)
        scored = False
        while pool:
            donor = self._chance.choice(pool)
            good = donor.score is not None and donor.score > -math.inf
            if good and trials[donor.index].checkpoint is not None:
                return donor
            pool = [other for other in pool if other is not donor]
            scored = scored or good
        if scored and not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__}: none of the best trials has a checkpoint, so bad ones go on as they are. Save one at "
                "each perturbation step: report(metrics, checkpoint=...) in a function, save_checkpoint() in a class.",
                stacklevel=2,
            )
        return None

    def _synchronize(self, tune_controller: Any) -> None:
        """Compares all when all have reached the step and the last of them has saved and left its worker."""
        trials, members = tune_controller.get_trials(), list(self._population.live())
        if not members or any(member.time < self._next_sync for member in members) or tune_controller.awaits_suggestion:
            return
        if not all(tune_controller.may_start(trials[member.index]) for member in members):
            return
        for member in self._population.worst(self._quantile):
            self._exploit(tune_controller, member)
        behind = min(member.time for member in members)
        self._next_sync += self._interval * (math.floor((behind - self._next_sync) / self._interval) + 1)
        if self._next_sync <= behind:  # by a rounding error
            self._next_sync += self._interval


def _another_comes(tune_controller: Any, trial: Any) -> bool:
    """Whether a trial is being suggested that will need this one's place: no other is free."""
    return bool(tune_controller.awaits_suggestion) and not tune_controller.has_resources_for_trial(trial)


class PopulationBasedTrainingReplay(FIFOScheduler):
    """Trains one trial along the schedule of configurations that a trial of population based training had.

    The trial begins with the first configuration of the log. When its `training_iteration` reaches the next recorded step it
    is paused and goes on from its own newest checkpoint with the next configuration; so it should save at those steps
    (class trainables do by themselves). Further trials are stopped with a warning: use `num_samples=1`. `param_space` may be
    empty; what it holds beside the log's keys is kept.

    Args:
        policy_file: A `pbt_policy_<trial id>.txt`, written by holdfast or by Ray Tune: per line a JSON list of the trial's
            tag, the tag of the trial that it went on from, their iterations, that one's configuration, and the new one. The
            file is read here, and not needed later.

    Raises:
        ConfigError: There is no such file, or it holds something else.
    """

    def __init__(self, policy_file: str) -> None:
        self._initial, self._steps = read_policy(policy_file)
        self._done = 0
        self._replayed = ""

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._metric = metric or self._metric or "_metric"
        return True

    @property
    def config(self) -> Config:
        """The configuration in force."""
        config: Config = copied(self._steps[self._done - 1].config if self._done else self._initial)
        return config

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if self._replayed not in ("", trial.trial_id):
            warnings.warn(
                f"PopulationBasedTrainingReplay trains one trial, {self._replayed}; {trial} is stopped. Use num_samples=1.",
                stacklevel=2,
            )
            tune_controller.stop_trial(trial)
            return
        self._replayed = trial.trial_id
        if not trial.last_result:
            self._done = 0
        trial.set_config({**trial.config, **self.config})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        iteration = number_of(result.get("training_iteration"))
        before = self._done
        while iteration is not None and self._done < len(self._steps) and self._steps[self._done].iteration <= iteration:
            self._done += 1
        if self._done == before:
            return self.CONTINUE
        trial.set_config({**trial.config, **self.config})
        return self.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that may start. Overridden so that it is asked: the configuration is given before the first start."""
        return super().choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return f"PopulationBasedTrainingReplay: step {self._done} of {len(self._steps)}"


def _check_bounds(interval: float, burn_in: float, quantile: float, resample: float, factors: Any) -> None:
    if not interval > 0:
        raise ConfigError(f"perturbation_interval must be above 0, not {interval!r}.")
    if not burn_in >= 0:
        raise ConfigError(f"burn_in_period must be 0 or more, not {burn_in!r}.")
    if not 0 <= quantile <= 0.5:
        raise ConfigError(f"quantile_fraction must lie between 0 and 0.5, not {quantile!r}.")
    if not 0 <= resample <= 1:
        raise ConfigError(f"resample_probability must lie between 0 and 1, not {resample!r}.")
    if not isinstance(factors, (list, tuple)) or not factors or any(number_of(factor) is None for factor in factors):
        raise ConfigError(f"perturbation_factors must be numbers such as (1.2, 0.8), not {factors!r}.")
