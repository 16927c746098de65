"""OptunaSearch: Optuna's samplers behind Ray Tune's name for them.

It knows Optuna's studies, and thinks on one in memory that is part of its pickle: told and asked the same in the same order
it answers the same, in this process or another. It refuses to know of any other storage (`holdfast.search.optuna_storage`
keeps a copy there) and of how a space is said (`holdfast.search.optuna_spaces`).
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from holdfast.errors import ConfigError, SearchSpaceError, WrongType
from holdfast.search.base import Metric, Searcher
from holdfast.search.libraries import load
from holdfast.search.optuna_spaces import NAME, Way, followed_by, way_of
from holdfast.search.optuna_storage import Copy
from holdfast.search.spaces import seed_of
from holdfast.space.variables import find_variables

__all__ = ["OptunaSearch"]

_GIVEN = "holdfast_given"  # the user attribute of trials that were evaluated elsewhere


class OptunaSearch(Searcher):
    """Asks a sampler of Optuna's (https://optuna.org) for configurations; needs `pip install 'holdfast[optuna]'`.

    Each trial is one of an Optuna study that lives in memory and is kept with the experiment: a restored experiment goes on
    exactly, with the same versions of Optuna and its sampler's libraries. Rows become intermediate values, a trial's last row
    its value, also where a scheduler stopped it early; a trial that failed, or whose last row has no number for each metric,
    counts as failed.

    Args:
        space: Tune's domains (nested, conditional by `choice` and `sample_from`), a flat dictionary of Optuna's
            distributions, or a function of Optuna's trial, which may return a dictionary of constants. None: the domains in
            `param_space`.
        metric: What is optimized; a list for several. Default: that of `TuneConfig`, else what a trainable returns.
        mode: "min" or "max"; a list of them for several metrics.
        points_to_evaluate: Configurations, whole or partial, to try first; what one leaves open the sampler chooses.
        sampler: An Optuna sampler, seeded or not as the user made it. Default: `TPESampler` with `seed`.
        study_name: Of the study in `storage`; default "optuna".
        storage: An Optuna storage, or its URL, which gets a copy of the study: each trial once, after any number of restores.
            Trials that other programs finished there before the first of ours are learned from.
        seed: Of the default sampler; default: the experiment's.
        evaluated_rewards: What `points_to_evaluate` were found to be worth: they are learned from and not run. A number each,
            or a list of numbers for several metrics.

    Attributes:
        last_evaluated: Flattened key → value of the last suggestion, without constants: what a trial's tag shows.

    Raises:
        ConfigError: Optuna is not installed, or an argument cannot be as given.
        SearchSpaceError: The space holds what cannot be searched, by name.
    """

    def __init__(
        self,
        space: Any = None,
        metric: Metric = None,
        mode: Metric = None,
        points_to_evaluate: list[dict[str, Any]] | None = None,
        sampler: Any = None,
        study_name: str | None = None,
        storage: Any = None,
        seed: int | None = None,
        evaluated_rewards: list[Any] | None = None,
    ) -> None:
        optuna = load("optuna", "optuna", NAME)
        super().__init__(metric, mode)
        if isinstance(mode, list) and "obs" in mode:
            raise ConfigError(f"{NAME}(mode={mode!r}): each mode is 'min' or 'max'. A metric to be watched only is left out.")
        if sampler is not None and not isinstance(sampler, optuna.samplers.BaseSampler):
            raise WrongType(f"{NAME}(sampler={sampler!r}): give an instance of an Optuna sampler, such as TPESampler(seed=1).")
        if not isinstance(storage, (str, optuna.storages.BaseStorage, type(None))):
            raise WrongType(f"{NAME}(storage={storage!r}): give an Optuna storage, or a URL such as 'sqlite:///study.db'.")
        self.last_evaluated: dict[str, Any] = {}
        self._way: Way | None = None if space is None else way_of(space)
        self._own_space = space is not None
        # The points to try, and those that were evaluated with what is known of them: `add_evaluated_point`'s arguments.
        self._points, self._given = _checked(points_to_evaluate, evaluated_rewards)
        self._sampler = sampler
        self._seed = seed
        self._run_seed = 0  # of what sample_from functions return as domains
        self._name = study_name or "optuna"
        self._copy = None if storage is None else Copy(storage, self._name)
        self._joined = False  # whether the study holds what stood in the storage before
        self._memory: Any = None
        self._study: Any = None
        self._study_id = -1
        self._templates: list[Any] = []  # of the points that are still in Optuna's queue
        self._running: dict[str, int] = {}
        self._exhausted = False
        # A sampler without a seed draws one here, so that the experiment's first pickle holds it.
        drawn = [int(copy.deepcopy(generator.rng).randint(2**31)) for generator in _generators(sampler)]
        self.own_seed = drawn[0] if seed is None and drawn else seed

    @property
    def own_chance(self) -> bool:  # type: ignore[override]  # a constant in most searchers
        """Whether no function or sampler of the user's is called, which may draw from the global generators."""
        return not (self._way is not None and self._way.calls_user) and _own_chance(self._sampler)

    @property
    def study(self) -> Any:
        """The Optuna study in memory, for plots and importances; None before the experiment has begun."""
        return self._study

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Takes metric, mode, the space and the experiment's `seed` (default 0), and begins the study unless it remembers one.

        Returns:
            False if it has a space of its own; metric and mode are taken all the same where it has none.

        Raises:
            ConfigError: No mode was given, or other ones here and to the searcher.
            SearchSpaceError: The space holds what cannot be searched, by name.
        """
        self._metric = _agreed("metric", self._metric, metric) or "_metric"
        self._mode = _agreed("mode", self._mode, mode)
        if not self._mode:
            raise ConfigError(f"{NAME} must know what is better: give mode='min' or 'max' to it, or to TuneConfig.")
        taken = not self._own_space
        if taken and (self._way is None or any(find_variables(config))):
            self._way = way_of(config)
        self._run_seed = int(spec.get("seed", 0))
        for trial_id in list(self._running):  # of an earlier experiment: nobody will tell of them
            self._give_up(trial_id)
        self._joined = False
        if self._study is None:
            self._begin(self._run_seed if self._seed is None else self._seed)
        return taken

    def extend(self, num_samples: int, space: dict[str, Any] | None) -> bool:
        """Goes on in the same study, which holds all that it knows; new bounds are taken, other kinds of domains are not.

        Raises:
            SearchSpaceError: A domain of the new space cannot follow the old one of its name in a study of Optuna's.
        """
        if space is None:
            return True
        if self._own_space:
            return False
        self._way = followed_by(self._way, way_of(space))
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        study, way = self._ready()
        if self._copy is not None and not self._joined:
            self._join(self._copy, trial_id.rpartition("_")[0])
        if self._exhausted:
            return self.FINISHED
        if trial_id in self._running:  # what was said the last time is not on record
            self._give_up(trial_id)
        template = self._templates.pop(0) if self._templates else None
        trial, made = way.ask(study, seed_of(self._run_seed, trial_id), template)
        number = self._memory.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
        self._running[trial_id] = number
        self.last_evaluated = made.evaluated
        if self._copy is not None:
            self._copy.begin(trial_id, self._memory.get_trial(number))
        return made.config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        number = self._running.get(trial_id)
        step = result.get("training_iteration")
        if number is None or isinstance(self._metric, list) or not isinstance(step, int):
            return
        value = _number(result.get(str(self._metric)))
        if value is not None and step >= 0:
            self._memory.set_trial_intermediate_value(number, step, value)
            if self._copy is not None:
                self._copy.report(trial_id, self._memory.get_trial(number), step, value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._running.pop(trial_id, None)
        if number is None:
            return
        states = load("optuna", "optuna", NAME).trial.TrialState
        values = None if error or not result else _values(self._metric, result)
        try:
            self._study.tell(
                self._memory.get_trial_number_from_id(number), values, states.FAIL if values is None else states.COMPLETE
            )
        except RuntimeError as stop:
            # So samplers that walk a finite space end a study; the trial is on Optuna's books by then.
            if "Study.stop" not in str(stop):
                raise
            self._exhausted = True
        if self._copy is not None:
            self._copy.end(trial_id, self._memory.get_trial(number))

    def adopt(self, trial_id: str, config: dict[str, Any]) -> None:
        """Takes a recorded configuration as the answer: Optuna is told of a running trial with those parameters."""
        _, way = self._ready()
        trial = load("optuna", "optuna", NAME).trial
        if trial_id in self._running:
            self._give_up(trial_id)
        told = way.parameters(config)
        running = trial.create_trial(state=trial.TrialState.RUNNING, params=told.parameters, distributions=told.distributions)
        self._running[trial_id] = self._memory.create_new_trial(self._study_id, running)
        self._exhausted = False

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: Any,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learns from a configuration that was tried elsewhere; with several metrics `value` is a list.

        What lies outside the space is left out of what is learned. One that failed or has NaN is kept as failed.
        """
        if self._study is None:
            self._given.append((parameters, value, error, pruned, intermediate_values))
            return
        _, way = self._ready()
        trial = load("optuna", "optuna", NAME).trial
        told = way.parameters(parameters)
        numbers = [_number(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
        if len(numbers) != len(self._study.directions):
            raise ConfigError(f"An evaluated point has the value {value!r}; {len(self._study.directions)} are needed.")
        failed = error or None in numbers
        state = trial.TrialState.FAIL if failed else trial.TrialState.PRUNED if pruned else trial.TrialState.COMPLETE
        self._memory.create_new_trial(
            self._study_id,
            trial.create_trial(
                state=state,
                values=None if failed else numbers,
                params=told.parameters,
                distributions=told.distributions,
                user_attrs={_GIVEN: True},
                intermediate_values=dict(enumerate(intermediate_values or [])),
            ),
        )

    def get_state(self) -> dict[str, Any]:
        """All that it remembers and was made with, pickled: a copy that later calls do not change."""
        import cloudpickle

        return {"pickled": cloudpickle.dumps(vars(self))}

    def set_state(self, state: dict[str, Any]) -> None:
        """Becomes the searcher whose `get_state` it was, its space, sampler and storage included."""
        vars(self).update(pickle.loads(state["pickled"]))

    def _begin(self, seed: int) -> None:
        """Makes the study: with what was evaluated elsewhere, and the points to try in its queue."""
        optuna = load("optuna", "optuna", NAME)
        assert self._way is not None and self._mode is not None
        modes = self._mode if isinstance(self._mode, list) else [self._mode]
        directions = [
            optuna.study.StudyDirection.MINIMIZE if mode == "min" else optuna.study.StudyDirection.MAXIMIZE for mode in modes
        ]
        sampler = self._sampler or optuna.samplers.TPESampler(seed=seed % 2**32)
        self._memory = optuna.storages.InMemoryStorage()
        with _hushed("optuna.storages._in_memory"):
            self._study_id = self._memory.create_new_study(directions, self._name)
        self._study = optuna.study.Study(self._name, self._memory, sampler, optuna.pruners.NopPruner())
        if self._copy is not None:
            self._copy.directions = directions
        for point in self._points:
            parameters, template = self._way.point(point)
            self._study.enqueue_trial(parameters)
            self._templates.append(template)
        for given in self._given:
            self.add_evaluated_point(*given)
        self._given.clear()

    def _join(self, copy: Copy, experiment: str) -> None:
        """Has the study begin with what stands in the storage, and the storage with what was evaluated elsewhere."""
        for frozen in self._study.get_trials(deepcopy=False):
            if _GIVEN in frozen.user_attrs:
                copy.add(f"given_{frozen.number}", frozen)
        for frozen in copy.earlier(experiment):
            self._memory.create_new_trial(self._study_id, frozen)
        self._joined = True

    def _give_up(self, trial_id: str) -> None:
        """Closes the trial of an answer that does not stand; the copy waits for the one that does."""
        self._memory.set_trial_state_values(self._running.pop(trial_id), load("optuna", "optuna", NAME).trial.TrialState.FAIL)

    def _ready(self) -> tuple[Any, Way]:
        if self._study is None or self._way is None:
            raise SearchSpaceError(
                f"{NAME} has no search space yet: call set_search_properties(metric, mode, param_space) first."
            )
        return self._study, self._way


def _agreed(what: str, own: Metric, given: str | None) -> Metric:
    if own and given and own != given:
        raise ConfigError(f"{NAME} has {what}={own!r}, TuneConfig has {what}={given!r}. Leave it out of one of the two.")
    return own or given


def _values(metric: Metric, result: dict[str, Any]) -> list[float] | None:
    """The metrics of a row; None if one is missing or no number."""
    names = metric if isinstance(metric, list) else [metric]
    numbers = [number for name in names if (number := _number(result.get(str(name)))) is not None]
    return numbers if len(numbers) == len(names) else None


def _number(value: Any) -> float | None:
    """A metric as Optuna takes it; None for NaN and what is no number."""
    if isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if number != number else number


def _checked(points: Any, rewards: Any) -> tuple[list[Any], list[Any]]:
    """The points to try, and those that were evaluated with what they were worth."""
    points = [] if points is None else points
    if not isinstance(points, Sequence) or not all(isinstance(point, dict) for point in points):
        raise SearchSpaceError(
            f"{NAME}(points_to_evaluate=...) must be a list of dictionaries, each a configuration or a part of one."
        )
    if rewards is None:
        return list(points), []
    if not isinstance(rewards, Sequence) or len(rewards) != len(points):
        raise ConfigError(f"{NAME}(evaluated_rewards=...) must be a list with one entry for each of the {len(points)} points.")
    return [], list(zip(points, rewards, strict=True))


def _parts(sampler: Any) -> Iterator[Any]:
    """A sampler, and what it is made of that is Optuna's or a sampler."""
    base = load("optuna", "optuna", NAME).samplers.BaseSampler
    yield sampler
    for part in vars(sampler).values():
        if isinstance(part, base):
            yield from _parts(part)
        elif _is_optunas(part):
            yield part


def _generators(sampler: Any) -> Iterator[Any]:
    """The generators of Optuna's own samplers, which seed themselves when their first number is asked for."""
    if _is_optunas(sampler):
        yield from (part for part in _parts(sampler) if hasattr(type(part), "rng"))


def _is_optunas(part: Any) -> bool:
    return type(part).__module__.startswith("optuna.")


def _own_chance(sampler: Any) -> bool:
    """Whether a sampler draws from generators of its own, as all of Optuna's do; None stands for the default one."""
    return sampler is None or all(map(_is_optunas, _parts(sampler)))


@contextmanager
def _hushed(logger: str) -> Iterator[None]:
    """Keeps what this thread would log there to itself; the user's own settings stay as they are."""
    import logging
    import threading

    here = threading.get_ident()

    def is_anothers(record: logging.LogRecord) -> bool:
        return record.thread != here

    log = logging.getLogger(logger)
    log.addFilter(is_anothers)
    try:
        yield
    finally:
        log.removeFilter(is_anothers)
