"""Asking for more: what a user says to `Tuner.extend` becomes a job that follows from the one on record.

All that can be known to be wrong is refused here, with nothing written; the extension goes on record in `fit()`.
"""

from __future__ import annotations

import copy
import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from holdfast import values
from holdfast._assembly.again import same_rule
from holdfast._assembly.plugging import job_at, plugins_of, stop_rules
from holdfast._assembly.submission import JobSpec, check_parts, checked_space, pickled_spec
from holdfast._core.events import ExperimentCreated, JobExtended
from holdfast._core.experiment import ExperimentState
from holdfast._core.extension import in_the_way
from holdfast._core.trial import ERROR, TERMINATED
from holdfast._projection.history import load_state
from holdfast._runtime.extending import Extension, check_checkpoints, to_go_on
from holdfast._runtime.roll import Roll
from holdfast.config import TuneConfig
from holdfast.config.checks import whole
from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.objects import references_in
from holdfast.search.base import Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.space import space_keys
from holdfast.space.variables import grid_size
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions

__all__ = ["Asked", "Wish", "asked_for"]

_END = {
    "stop": "by stop=",
    "stopper": "by a stopper",
    "scheduler": "by the scheduler",
    "request": "by request",
    "budget": "by the budget of time",
}


class Wish(NamedTuple):
    """What a user says to `Tuner.extend`; see there."""

    num_samples: Any = 0
    stop: Any = None
    time_budget_s: Any = None
    new_space: Any = None
    from_scratch_ok: bool = False


class Asked(NamedTuple):
    """An extension that can be: what goes on record, and the pickle of the job that it names."""

    extension: Extension
    job: bytes


def asked_for(storage: Storage, created: ExperimentCreated, wish: Wish) -> Asked:
    """The extension that a wish means for the experiment as it stands.

    Raises:
        ConfigError: It asks for nothing, for less, or for what cannot be; says why, and what to do.
        SearchSpaceError: The new space is none, or has other keys.
        NothingToGoOnFrom: Trials that are to go on have no checkpoint.
        NotSerializable: A part of it that cannot be pickled.
    """
    state, definitions = load_state(storage), Definitions(storage)
    base = state.definitions["job"]
    before = job_at(definitions, base)
    samples = _samples(wish.num_samples, state)
    space = _space(wish.new_space, before, samples, state)
    after = _renewed(before, wish, samples, space)
    changed = dict(_changes(before, after, wish, state))
    if not changed:
        raise ConfigError(
            "Tuner.extend was asked for nothing that the job does not say already. Give num_samples=+n, stop=, time_budget_s= or "
            "new_space=; Tuner.restore goes on with the job as it is."
        )
    _refuse_what_is_in_the_way(state, changed)
    check_parts(after)
    per_sample = _check_searcher(created, job_at(definitions, base), samples, space)
    job = pickled_spec(after)
    total = state.policy.num_samples
    event = JobExtended(
        request=secrets.token_hex(16),
        changed=changed,
        samples=samples,
        num_samples=total if total < 0 else total + samples * per_sample,
        time_budget_s=float(after.tune_config.time_budget_s or 0.0),
        definitions={"job": hashlib.sha256(job).hexdigest()},
        revived=[],
    )
    extension = Extension(base, event, stop_rules(after.run_config.stop)[1], wish.from_scratch_ok)
    roll = Roll(created, state, storage.uri, definitions.load, references_in(before.param_space))
    going_on = to_go_on(state, changed, extension.criteria, lambda trial: values.flatten(roll.last_row(trial)))
    check_checkpoints(going_on, from_scratch_ok=wish.from_scratch_ok)
    if not going_on:
        _refuse_what_changes_nothing(state, changed)
    return Asked(extension, job)


def _samples(given: Any, state: ExperimentState) -> int:
    samples = whole(given)
    if samples is None or samples < 0 or isinstance(given, bool):
        raise ConfigError(f"Tuner.extend(num_samples={given!r}): how many samples more, a whole number.")
    if samples and state.policy.num_samples < 0:
        raise ConfigError("Tuner.extend(num_samples=...): the job has no bound of samples (-1), so there is none to extend.")
    return samples


def _space(given: Any, before: JobSpec, samples: int, state: ExperimentState) -> dict[str, Any] | None:
    if given is None:
        return None
    space = checked_space(given)
    keys, known = space_keys(space), space_keys(before.param_space)
    if keys != known:
        more, fewer = sorted(set(keys) - set(known)), sorted(set(known) - set(keys))
        raise SearchSpaceError(
            f"new_space has other keys than the job's: added {more}, missing {fewer}. It changes domains and values; "
            "a space with other keys is another experiment."
        )
    if references_in(space) or references_in(before.param_space):
        raise SearchSpaceError("new_space is not for spaces with references (holdfast.put): begin another experiment for it.")
    if not samples and state.policy.num_samples >= 0:
        raise ConfigError("Tuner.extend(new_space=...) is where new samples come from: say how many, num_samples=+n.")
    return space


def _renewed(before: JobSpec, wish: Wish, samples: int, space: dict[str, Any] | None) -> JobSpec:
    """The job as it is from then on."""
    tune, run = copy.copy(before.tune_config), copy.copy(before.run_config)
    tune.num_samples += samples
    if wish.time_budget_s is not None:
        tune.time_budget_s = TuneConfig(time_budget_s=wish.time_budget_s).time_budget_s
    run.stop = run.stop if wish.stop is None else wish.stop
    return before._replace(param_space=before.param_space if space is None else space, tune_config=tune, run_config=run)


def _changes(before: JobSpec, after: JobSpec, wish: Wish, state: ExperimentState) -> Iterator[tuple[str, str]]:
    """What is another, and how, for people.

    Raises:
        ConfigError: It is less than before.
    """
    if after.tune_config.num_samples != before.tune_config.num_samples:
        yield "num_samples", f"{before.tune_config.num_samples} became {after.tune_config.num_samples}"
    old, new = before.tune_config.time_budget_s, after.tune_config.time_budget_s
    if new != old:
        if old is None:
            raise ConfigError("Tuner.extend(time_budget_s=...): the job has no budget of time, so there is none to extend.")
        if new is None or new <= max(old, state.time):
            raise ConfigError(
                f"Tuner.extend(time_budget_s={new}): it is the whole time that drivers may take. The job has {old:g} s, of which "
                f"{state.time:.1f} s are spent: give more than both."
            )
        yield "time_budget_s", f"{old:g} became {new:g}"
    if wish.stop is not None and not (isinstance(wish.stop, Mapping) and same_rule(before.run_config.stop, wish.stop)):
        yield "stop", f"{before.run_config.stop!r:.500} became {wish.stop!r:.500}"
    if wish.new_space is not None:
        yield "new_space", f"{after.param_space!r:.500}"


def _refuse_what_is_in_the_way(state: ExperimentState, changed: Mapping[str, str]) -> None:
    reason = in_the_way(state, changed)
    if reason == "budget":
        raise ConfigError(
            f"The experiment ended because its time budget of {state.policy.time_budget_s:g} s was spent: give time_budget_s= "
            f"too, more than the {state.time:.1f} s that it has taken."
        )
    if reason:
        raise ConfigError("The experiment ended because its Stopper said so: give stop= too, the rule that holds from now on.")


def _refuse_what_changes_nothing(state: ExperimentState, changed: Mapping[str, str]) -> None:
    """Refuses other rules where nothing is left that they could rule: all trials have ended, and none is to come."""
    limit = state.policy.num_samples
    to_come = not state.exhausted and (limit < 0 or len(state.trials) < limit)
    if to_come or state.unfinished or {"num_samples", "new_space"} & set(changed):
        return
    ends = Counter(_END.get(trial.stopped_by, "by themselves") for trial in state.trials.values() if trial.state == TERMINATED)
    ends["with an error"] = sum(trial.state == ERROR for trial in state.trials.values())
    how = ", ".join(f"{count} {end}" for end, count in ends.items() if count)
    raise ConfigError(
        f"Tuner.extend would change nothing: no trial goes on with other {' and '.join(sorted(changed))} (they ended: {how}), "
        "and no sample is to come. Give num_samples=+n for more. A function that returned goes on only where its own code has "
        "more to do: Tuner.restore(path, trainable, resume_config=ResumeConfig(finished=ResumeConfig.ResumeType.RESUME))."
    )


def _check_searcher(created: ExperimentCreated, spec: JobSpec, samples: int, space: dict[str, Any] | None) -> int:
    """Tries the extension on a searcher of its kind; returns how many trials come of one sample."""
    searcher: Searcher = plugins_of(created, spec)[1]
    if not searcher.extend(samples, space):
        raise ConfigError(
            f"{type(searcher).__name__} cannot be extended so: it has a space of its own, or cannot change the one that it "
            "models. Extend without new_space; or begin another experiment, with this one's best trials as points_to_evaluate."
        )
    if not isinstance(searcher, BasicVariantGenerator):
        return 1
    return grid_size(spec.param_space if space is None else space)
