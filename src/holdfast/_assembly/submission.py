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
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from holdfast import values
from holdfast._assembly.places import new_place
from holdfast._assembly.requests import Ask, asked_by
from holdfast._assembly.rules import policy_of
from holdfast._core.events import ExperimentCreated
from holdfast._journal import Owner, create, exists
from holdfast._projection.history import birth_of
from holdfast._runtime.chance import draw_seed
from holdfast.callback import Callback
from holdfast.config import CheckpointConfig, RunConfig, TuneConfig
from holdfast.errors import ConfigError, ExperimentExists, NotSerializable
from holdfast.objects import placed
from holdfast.resources import Request
from holdfast.schedulers.base import TrialScheduler
from holdfast.search.base import Searcher
from holdfast.search.concurrency_limiter import ConcurrencyLimiter
from holdfast.space import check_space, space_keys
from holdfast.stopper.base import Stopper
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.object_store import ObjectStorage
from holdfast.storage.probing import probe
from holdfast.trainable import Trainable as ClassTrainable
from holdfast.trainable import can_save

__all__ = [
    "Draft",
    "JobSpec",
    "More",
    "Submitted",
    "check_parts",
    "checked_space",
    "drafted",
    "give_birth",
    "pickled",
    "pickled_spec",
    "plain_name",
    "submit",
    "trainable_name",
    "versions",
]

Trainable = Callable[..., Any]


class JobSpec(NamedTuple):
    """What was submitted beside the trainable, as the user's own objects. Stored whole as the definition "job".

    Attributes:
        ask: Says what a trial is given, from its configuration; None where all are given the same (`Policy.request`).
        begin_from: A checkpoint's directory from which trials begin that have none of their own; empty: from scratch.
        export_formats: What a class trainable exports when its trial ends well.
    """

    param_space: dict[str, Any]
    tune_config: TuneConfig
    run_config: RunConfig
    ask: Ask | None = None
    begin_from: str = ""
    export_formats: tuple[str, ...] = ()


class Submitted(NamedTuple):
    """An experiment on disk.

    Attributes:
        path: Its place, as `open_storage` takes it.
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


class More(NamedTuple):
    """What may be said of a job beside the arguments of `Tuner`.

    Attributes:
        name: What the trainable is registered as; empty where it was given itself.
        begin_from, export_formats: See `JobSpec`.
    """

    name: str = ""
    begin_from: str = ""
    export_formats: tuple[str, ...] = ()


_NO_MORE = More()


def submit(
    trainable: Trainable, param_space: Any, tune_config: TuneConfig, run_config: RunConfig, more: More = _NO_MORE
) -> Submitted:
    """Checks a job and writes its birth: from then on it can be restored.

    Raises:
        ConfigError, SearchSpaceError: Something that cannot be; nothing was written.
        NotSerializable: Something that cannot be pickled, by name; nothing was written.
        ExperimentExists: The directory holds files that are no experiment.
        StorageError: The directory cannot be written to.
    """
    draft = drafted(trainable, param_space, tune_config, run_config, more)
    name = run_config.name
    another = run_config.if_exists == "new" or not name
    number = 0
    while True:
        storage = new_place(run_config.storage_path, name, draft.created.trainable_name, number)
        submission = _submitted(storage, draft, another=another)
        if not submission.taken or not another:
            return submission
        number += 1


def _submitted(storage: Storage, draft: Draft, *, another: bool) -> Submitted:
    """The draft as the experiment at a place, unless one is there; `another`: also where that one has never been run."""
    taken = (another and exists(storage)) or _is_taken(storage)
    created = msgspec.structs.replace(draft.created, name=os.path.basename(storage.root))
    if not taken:
        if isinstance(storage, ObjectStorage) and not draft.spec.run_config.unfenced:
            probe(storage, "journal")  # a store that cannot be written to, or trusted, is found before any trial starts
        born = give_birth(storage, draft._replace(created=created))
        taken = born is None
        created = born or created
    return Submitted(storage.uri, created, draft.spec, taken)


def drafted(
    trainable: Trainable, param_space: Any, tune_config: TuneConfig, run_config: RunConfig, more: More = _NO_MORE
) -> Draft:
    """Checks a job; errors as in `submit`. Nothing is written."""
    for given, kind in ((tune_config, TuneConfig), (run_config, RunConfig)):
        if not isinstance(given, kind):
            raise ConfigError(f"Tuner was given {given!r} where a {kind.__name__} belongs.")
    own_name = trainable_name(trainable)
    name = plain_name(more.name) if more.name else own_name
    asked = asked_by(trainable)
    same = asked if isinstance(asked, Request) else Request({})
    ask = None if isinstance(asked, Request) else asked
    spec = JobSpec(checked_space(param_space), tune_config, run_config, ask, more.begin_from, more.export_formats)
    check_parts(spec)
    _check_saving(trainable, run_config.checkpoint_config)
    blobs = {"trainable": pickled("the trainable", trainable), "job": pickled_spec(spec)}
    seed = _seed_of(tune_config)
    experiment_id = secrets.token_hex(16)
    created = ExperimentCreated(
        experiment_id=experiment_id,
        name=run_config.name or name,
        trainable_name=name,
        trial_prefix=experiment_id[:5],
        seed=seed,
        policy=policy_of(trainable, spec.param_space, tune_config, run_config, same, seed),
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
    """What a trainable is called: its `_name`, or its function's or class's name.

    Raises:
        ConfigError: It is no function and no subclass of `holdfast.Trainable`.
    """
    if isinstance(trainable, type) and not issubclass(trainable, ClassTrainable):
        raise ConfigError(
            f"The trainable is the class {trainable.__name__}, which does not derive from holdfast.Trainable: derive it, or give "
            "a function of the config that calls holdfast.report."
        )
    if isinstance(trainable, str) or not callable(trainable):
        raise ConfigError(
            f"The trainable is {trainable!r}: give a function of the config that calls holdfast.report, or a subclass of "
            "holdfast.Trainable."
        )
    inner = getattr(trainable, "func", trainable)
    name = getattr(trainable, "_name", None) or getattr(inner, "__name__", None) or type(trainable).__name__
    return "lambda" if name == "<lambda>" else plain_name(str(name))


def plain_name(name: str) -> str:
    """The name with what no directory should be called by replaced."""
    return re.sub(r"[^\w.+-]", "_", name)[:100].lstrip(".") or "trainable"


def pickled(what: str, value: Any, *, by_place: bool = False) -> bytes:
    """The value's pickle; `by_place` with no more of a reference than its place.

    Raises:
        NotSerializable: It has none.
    """
    import cloudpickle

    try:
        data: bytes = values.pickled(value) if by_place else cloudpickle.dumps(value)
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


def checked_space(space: Any) -> dict[str, Any]:
    """A `param_space` that can be one, its references with their places; errors as in `check_space` and `placed`."""
    if space is None:
        return {}
    if not isinstance(space, dict):
        raise ConfigError(f"param_space must be a dictionary, not {type(space).__name__}.")
    check_space(space)
    return placed(space)


def check_parts(spec: JobSpec) -> None:
    """Refuses plug-ins and stop rules that are none; a `ConfigError` says which."""
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
    wide = tune.search_alg.max_concurrent if isinstance(tune.search_alg, ConcurrencyLimiter) else tune.max_concurrent_trials
    if tune.max_concurrent_trials and wide != tune.max_concurrent_trials:
        raise ConfigError(
            f"TuneConfig(max_concurrent_trials={tune.max_concurrent_trials}) beside ConcurrencyLimiter(max_concurrent={wide}): "
            "leave one of them out, or give both the same number."
        )
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


def _check_saving(trainable: Any, checkpoints: CheckpointConfig) -> None:
    if not (checkpoints.checkpoint_frequency or checkpoints.checkpoint_at_end):
        return
    if not isinstance(trainable, type):
        raise ConfigError(
            "checkpoint_frequency and checkpoint_at_end are for class trainables; a function decides itself: "
            "report(metrics, checkpoint=...)."
        )
    if not can_save(trainable):
        raise ConfigError(
            f"checkpoint_frequency or checkpoint_at_end asks for checkpoints, and {trainable.__name__} has no save_checkpoint(): "
            "write that method, and load_checkpoint(), or leave both settings out."
        )


def pickled_spec(spec: JobSpec) -> bytes:
    """The spec's pickle; where it has none, the error names the part that spoils it."""
    stored = spec._replace(run_config=copy.copy(spec.run_config))
    stored.run_config.engine = None  # the engine is no part of the job
    try:
        return pickled("the job", stored, by_place=True)
    except NotSerializable:
        tune, run = spec.tune_config, stored.run_config
        parts = {f"param_space[{key!r}]": value for key, value in values.flatten(spec.param_space).items()}
        parts |= {f"TuneConfig.{key}": value for key, value in vars(tune).items()}
        parts |= {f"RunConfig.callbacks[{n}] ({type(c).__name__})": c for n, c in enumerate(run.callbacks)}
        parts |= {f"RunConfig.{key}": value for key, value in vars(run).items()}
        for what, value in parts.items():
            pickled(what, value, by_place=True)
        raise


def _is_taken(storage: Storage) -> bool:
    """Whether an experiment lives here already. One that this process submitted and never ran makes room.

    Raises:
        ExperimentExists: The directory holds foreign files.
    """
    if exists(storage):
        if any(map(storage.names, ("journal/epochs", "journal/slots"))) or birth_of(storage).created_by != _creator(
            Owner.of_this_process()
        ):
            return True
        storage.delete("journal/birth")
        return False
    foreign = [name for name in storage.names("") if name != "definitions"]
    if foreign:
        raise ExperimentExists(
            f"{storage.root} is not empty and holds no experiment (it holds {foreign[:5]}). "
            "Nothing was written. Give another name or storage_path."
        )
    return False


def _seed_of(tune: TuneConfig) -> int:
    """The experiment's seed: given, or the one that the searcher was given, or drawn."""
    own = getattr(tune.search_alg, "own_seed", None)
    if tune.seed is not None:
        return tune.seed
    return draw_seed() if own is None else own % 2**63


def _creator(owner: Owner) -> str:
    return f"{owner.host}:{owner.pid}:{owner.start_ticks}"
