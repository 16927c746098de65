"""Submission: what a user says becomes an experiment on disk, durable before any trial starts.

Everything that can be known to be wrong is refused here, with nothing written.
"""

from __future__ import annotations

import copy
import os
import platform
import re
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from holdfast import settings, values
from holdfast._assembly.places import new_directory
from holdfast._core.events import ExperimentCreated
from holdfast._core.policy import Policy
from holdfast._journal import Owner, create, exists
from holdfast._projection.history import birth_of
from holdfast._runtime.chance import draw_seed
from holdfast.callback import Callback
from holdfast.config import RunConfig, TuneConfig
from holdfast.errors import ConfigError, ExperimentExists, JobChanged, NotSerializable
from holdfast.schedulers.base import TrialScheduler
from holdfast.search.base import Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.space import check_space, space_keys
from holdfast.space.domains import Domain
from holdfast.stopper.base import Stopper
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage

__all__ = [
    "Draft",
    "JobSpec",
    "Submitted",
    "drafted",
    "give_birth",
    "pickled",
    "same_job",
    "submit",
    "trainable_name",
    "versions",
]

Trainable = Callable[..., Any]


class JobSpec(NamedTuple):
    """What was submitted beside the trainable, as the user's own objects. Stored whole as the definition "job"."""

    param_space: dict[str, Any]
    tune_config: TuneConfig
    run_config: RunConfig


class Submitted(NamedTuple):
    """An experiment on disk.

    Attributes:
        path: Its directory.
        created: Its birth record; where `taken`, the one that was not written.
        spec: The user's own objects; None once they were used, or in another process: then they come from the disk.
        taken: Whether the name belongs to an experiment that was there before.
    """

    path: str
    created: ExperimentCreated
    spec: JobSpec | None
    taken: bool = False


class Draft(NamedTuple):
    """A checked job that is not on disk yet: its birth record to be, its objects, and the pickles to store."""

    created: ExperimentCreated
    spec: JobSpec
    blobs: dict[str, bytes]


def submit(trainable: Trainable, param_space: Any, tune_config: TuneConfig, run_config: RunConfig) -> Submitted:
    """Checks a job and writes its birth: from then on it can be restored.

    Raises:
        ConfigError, SearchSpaceError: Something that cannot be; nothing was written.
        NotSerializable: Something that cannot be pickled, by name; nothing was written.
        ExperimentExists: The directory holds files that are no experiment.
        StorageError: The directory cannot be written to.
    """
    draft = drafted(trainable, param_space, tune_config, run_config)
    path = new_directory(run_config.storage_path, run_config.name, draft.created.trainable_name)
    storage = LocalStorage(path)
    taken = _is_taken(storage)
    created = msgspec.structs.replace(draft.created, name=os.path.basename(path))
    if not taken:
        born = give_birth(storage, draft._replace(created=created))
        taken = born is None
        created = born or created
    return Submitted(path, created, draft.spec, taken)


def drafted(trainable: Trainable, param_space: Any, tune_config: TuneConfig, run_config: RunConfig) -> Draft:
    """Checks a job; errors as in `submit`. Nothing is written."""
    for given, kind in ((tune_config, TuneConfig), (run_config, RunConfig)):
        if not isinstance(given, kind):
            raise ConfigError(f"Tuner was given {given!r} where a {kind.__name__} belongs.")
    name = trainable_name(trainable)
    spec = JobSpec(_checked_space(param_space), tune_config, run_config)
    _check_parts(spec)
    blobs = {"trainable": pickled("the trainable", trainable), "job": _pickled_spec(spec)}
    seed = tune_config.seed if tune_config.seed is not None else draw_seed()
    experiment_id = secrets.token_hex(16)
    created = ExperimentCreated(
        experiment_id=experiment_id,
        name=run_config.name or name,
        trainable_name=name,
        trial_prefix=experiment_id[:5],
        seed=seed,
        policy=_policy(spec, seed),
        definitions={},
        space_keys=space_keys(spec.param_space),
        versions=versions(),
        created_by=_creator(Owner.of_this_process()),
    )
    return Draft(created, spec, blobs)


def give_birth(storage: Storage, draft: Draft) -> ExperimentCreated | None:
    """Writes definitions and birth record, durably; returns the latter, or None where an experiment is there already."""
    definitions = Definitions(storage)
    named = {part: definitions.store(blob) for part, blob in draft.blobs.items()}
    created = msgspec.structs.replace(draft.created, definitions=named)
    return created if create(storage, created, time.time()) else None


def trainable_name(trainable: Any) -> str:
    """What a trainable is called: its `_name`, or its function's name.

    Raises:
        ConfigError: It is no function.
    """
    if isinstance(trainable, (type, str)) or not callable(trainable):
        raise ConfigError(
            f"The trainable is {trainable!r}: give a function of the config that calls holdfast.report. "
            "Class trainables and registered names are not supported yet."
        )
    inner = getattr(trainable, "func", trainable)
    name = getattr(trainable, "_name", None) or getattr(inner, "__name__", None) or type(trainable).__name__
    return "lambda" if name == "<lambda>" else re.sub(r"[^\w.+-]", "_", str(name))[:100].lstrip(".") or "trainable"


def same_job(given: Any, stored: JobSpec, created: ExperimentCreated) -> JobSpec:
    """The stored job with the objects of a re-given `param_space` in their places.

    Raises:
        ConfigError: It is no dictionary.
        JobChanged: Its keys, or plain values or domains in it, are not those that were submitted.
    """
    space = _checked_space(given)
    keys = space_keys(space)
    if keys != created.space_keys:
        more, fewer = sorted(set(keys) - set(created.space_keys)), sorted(set(created.space_keys) - set(keys))
        raise JobChanged(
            f"param_space on restore has other keys than the submitted one: added {more}, missing {fewer}. Restore "
            "completes the job that was submitted: give the same space or none."
        )
    before, now = values.flatten(stored.param_space), values.flatten(space)
    changed = sorted(key for key in before if key in now and not _same(before[key], now[key]))
    if changed:
        told = "; ".join(f"{key}: {before[key]!r} became {now[key]!r}" for key in changed[:5])
        raise JobChanged(f"param_space on restore differs from the submitted one at {told}. Give the same space or none.")
    return stored._replace(param_space=space)


def pickled(what: str, value: Any) -> bytes:
    """The value's pickle.

    Raises:
        NotSerializable: It has none.
    """
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:  # a user's object may raise anything while it is pickled
        raise NotSerializable(
            f"{what} is non-serializable: it cannot be pickled ({type(error).__name__}: {error}){_culprit(value)}. Locks, open "
            "files, connections and generators cannot travel to another process: create them inside the trainable."
        ) from error
    return data


def _culprit(value: Any) -> str:
    """Which variable of a function, or attribute of an object, has no pickle; empty where that cannot be told."""
    import inspect

    import cloudpickle

    inner = getattr(value, "func", value)
    if inspect.isfunction(inner):
        used = inspect.getclosurevars(inner)
        parts = {
            **{f"the global {key!r}": it for key, it in used.globals.items()},
            **{f"the variable {key!r}": it for key, it in used.nonlocals.items()},
        }
    else:
        parts = {f"its attribute {key!r}": it for key, it in getattr(value, "__dict__", {}).items()}
    for what, part in parts.items():
        try:
            cloudpickle.dumps(part)
        except Exception:  # noqa: BLE001 - as in `pickled`
            return f"; {what} is the part that spoils it"
    return ""


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are loaded and that pickles may depend on."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for library in ("holdfast", "numpy", "torch", "optuna", "sklearn"):
        version = getattr(sys.modules.get(library), "__version__", None)
        if isinstance(version, str):
            found[library] = str(version)  # torch's is a subclass of str, which no record takes
    return found


def _checked_space(space: Any) -> dict[str, Any]:
    if space is None:
        return {}
    if not isinstance(space, dict):
        raise ConfigError(f"param_space must be a dictionary, not {type(space).__name__}.")
    check_space(space)
    return space


def _check_parts(spec: JobSpec) -> None:
    tune, run = spec.tune_config, spec.run_config
    for number, callback in enumerate(run.callbacks):
        if not isinstance(callback, Callback):
            raise ConfigError(f"RunConfig(callbacks=...): number {number} is {callback!r}; give instances of holdfast.Callback.")
    for what, value, kind in (
        ("TuneConfig(scheduler=...)", tune.scheduler, TrialScheduler),
        ("TuneConfig(search_alg=...)", tune.search_alg, Searcher),
    ):
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{what} is {value!r}: give a holdfast {kind.__name__}.")
    _warn_of_choosers(tune.scheduler)
    stop = run.stop
    many = isinstance(stop, (list, tuple)) and all(isinstance(part, Stopper) for part in stop)
    if not (stop is None or many or isinstance(stop, (Mapping, Stopper)) or callable(stop)):
        raise ConfigError(
            f"RunConfig(stop={stop!r}): a dictionary of bounds, a function of (trial_id, result), a Stopper or a list of them."
        )
    if isinstance(stop, Mapping):
        bad = {key: bound for key, bound in stop.items() if isinstance(bound, (str, bytes)) or bound is None}
        if bad:
            raise ConfigError(f"RunConfig(stop={bad!r}): each bound is a number that the metric is to reach.")
    checkpoints = run.checkpoint_config
    if checkpoints.checkpoint_frequency or checkpoints.checkpoint_at_end:
        raise ConfigError(
            "checkpoint_frequency and checkpoint_at_end are for class trainables; a function decides itself: "
            "report(metrics, checkpoint=...)."
        )


def _warn_of_choosers(scheduler: TrialScheduler | None) -> None:
    for kind in type(scheduler).__mro__:
        if "choose_trial_to_run" in vars(kind):
            if not kind.__module__.startswith("holdfast."):
                warnings.warn(
                    f"{kind.__name__}.choose_trial_to_run is not asked so far: pending trials run in the order of "
                    "their creation, then paused ones.",
                    stacklevel=2,
                )
            return


def _pickled_spec(spec: JobSpec) -> bytes:
    """The spec's pickle; where it has none, the error names the part that spoils it."""
    stored = spec._replace(run_config=copy.copy(spec.run_config))
    stored.run_config.engine = None  # the engine is no part of the job
    try:
        return pickled("the job", stored)
    except NotSerializable:
        tune, run = spec.tune_config, stored.run_config
        parts = {f"param_space[{key!r}]": value for key, value in values.flatten(spec.param_space).items()}
        parts |= {f"TuneConfig.{key}": value for key, value in vars(tune).items()}
        parts |= {f"RunConfig.callbacks[{n}] ({type(c).__name__})": c for n, c in enumerate(run.callbacks)}
        parts |= {f"RunConfig.{key}": value for key, value in vars(run).items()}
        for what, value in parts.items():
            pickled(what, value)
        raise


def _policy(spec: JobSpec, seed: int) -> Policy:
    tune, run = spec.tune_config, spec.run_config
    total: int | None = tune.num_samples
    if tune.search_alg is None or isinstance(tune.search_alg, BasicVariantGenerator):
        probe = copy.deepcopy(tune.search_alg) if tune.search_alg else BasicVariantGenerator()
        probe.set_search_properties(tune.metric, tune.mode, spec.param_space, num_samples=tune.num_samples, seed=seed)
        total = probe.total
    checkpoints = run.checkpoint_config
    return Policy(
        num_samples=-1 if total is None else total,
        max_concurrent=tune.max_concurrent_trials or 0,
        ahead=settings.trials_ahead() or 1,
        max_failures=run.failure_config.max_failures,
        fail_fast=bool(run.failure_config.fail_fast),
        time_budget_s=float(tune.time_budget_s or 0.0),
        num_to_keep=checkpoints.num_to_keep or 0,
        score_attribute=checkpoints.checkpoint_score_attribute or "",
        score_order=checkpoints.checkpoint_score_order or "max",
        reuse_workers=tune.reuse_actors,
        metric=tune.metric or "",
        mode=tune.mode or "",
    )


def _is_taken(storage: LocalStorage) -> bool:
    """Whether an experiment lives here already. One that this process submitted and never ran makes room.

    Raises:
        ExperimentExists: The directory holds foreign files.
    """
    if exists(storage):
        if storage.names("journal/epochs") or birth_of(storage).created_by != _creator(Owner.of_this_process()):
            return True
        storage.delete("journal/birth")
        return False
    foreign = [name for name in sorted(os.listdir(storage.root)) if name != "definitions"]
    if foreign:
        raise ExperimentExists(
            f"{storage.root} is not empty and holds no experiment (it holds {foreign[:5]}). "
            "Nothing was written. Give another name or storage_path."
        )
    return False


def _creator(owner: Owner) -> str:
    return f"{owner.host}:{owner.pid}:{owner.start_ticks}"


def _same(before: Any, now: Any) -> bool:
    """Whether a value of the space may stand for the other: objects may, plain values and domains must be equal."""
    if isinstance(before, Domain) or isinstance(now, Domain):
        return type(before) is type(now) and repr(before) == repr(now)
    plain = (bool, int, float, str, bytes, type(None), list, tuple, dict)
    if isinstance(before, plain) or isinstance(now, plain):
        return type(before) is type(now) and values.encode(before, _sha) == values.encode(now, _sha)
    return True


def _sha(_: bytes) -> str:
    return "object"
