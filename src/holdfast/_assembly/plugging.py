"""A job's plug-ins: scheduler, searcher and stop rules, told what the experiment is about, as submitted and as extended."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from holdfast import settings
from holdfast._assembly.searching import begin, given_twice
from holdfast._assembly.submission import JobSpec
from holdfast._core.events import ExperimentCreated
from holdfast._runtime.advice import Plugins, Renewed
from holdfast.callback import Callback
from holdfast.errors import ConfigError, InternalError
from holdfast.schedulers.base import TrialScheduler
from holdfast.schedulers.fifo import FIFOScheduler
from holdfast.search.base import Searcher
from holdfast.search.basic_variant import BasicVariantGenerator
from holdfast.space import constants
from holdfast.stopper.base import CombinedStopper, Stopper
from holdfast.stopper.function_stopper import FunctionStopper
from holdfast.storage.definitions import Definitions

__all__ = ["callbacks_of_environment", "constants_of", "job_at", "plugins_of", "renewal", "stop_rules"]


def plugins_of(created: ExperimentCreated, spec: JobSpec) -> tuple[Plugins, Searcher]:
    """The plug-ins of a job, told what the experiment is about.

    Raises:
        ConfigError: A metric, mode or space that is missing or given twice.
    """
    tune, run = spec.tune_config, spec.run_config
    scheduler = tune.scheduler or FIFOScheduler()
    searcher = tune.search_alg or BasicVariantGenerator()
    seed = created.seed
    if not scheduler.set_search_properties(tune.metric, tune.mode, seed=seed) and (tune.metric or tune.mode):
        raise given_twice(scheduler)
    begin(searcher, created, spec)
    return _with_rules(scheduler, run.stop, tune.metric or getattr(scheduler, "metric", None)), searcher


def callbacks_of_environment() -> list[Callback]:
    """One of each class that `RAY_TUNE_CALLBACKS` names.

    Raises:
        ConfigError: A name leads to no callback that can be made without arguments.
    """
    made = []
    for name in settings.callbacks():
        module, _, kind = name.rpartition(".")
        try:
            callback = getattr(importlib.import_module(module), kind)()
        except Exception as error:  # the border to the user's modules and classes
            raise ConfigError(
                f"RAY_TUNE_CALLBACKS names {name!r}, which cannot be made: {type(error).__name__}: {error}. "
                "Give module.Class of classes that take no arguments, separated by commas, or unset it."
            ) from error
        if not isinstance(callback, Callback):
            raise ConfigError(f"RAY_TUNE_CALLBACKS names {name!r}, which is no subclass of holdfast.Callback.")
        made.append(callback)
    return made


def stop_rules(stop: Any) -> tuple[Stopper | None, dict[str, Any]]:
    """`RunConfig(stop=...)` as a stopper, or as bounds: flattened key → bound."""
    if isinstance(stop, Mapping):
        return None, dict(stop)
    if stop is None or isinstance(stop, Stopper):
        return stop, {}
    return CombinedStopper(*stop) if isinstance(stop, (list, tuple)) else FunctionStopper(stop), {}


def constants_of(searcher: Searcher, param_space: dict[str, Any]) -> dict[str, Any]:
    """What suggestions are merged into; empty where the searcher resolves the whole space itself."""
    return {} if isinstance(searcher, BasicVariantGenerator) else constants(param_space)


def job_at(definitions: Definitions, sha: str) -> JobSpec:
    """A new copy of a job, as submitted or as extended.

    Raises:
        DefinitionError: This Python cannot load it.
    """
    spec = definitions.fresh(sha)
    if not isinstance(spec, JobSpec):
        raise InternalError(f"the definition {sha} is no job")
    return spec


def renewal(definitions: Definitions, searcher: Searcher) -> Callable[[Mapping[str, str]], Renewed]:
    """What `Plugins.renewed` is for a job whose extensions stand among the definitions."""

    def renewed(named: Mapping[str, str]) -> Renewed:
        spec = job_at(definitions, named["job"])
        return Renewed(*stop_rules(spec.run_config.stop), spec.param_space, constants_of(searcher, spec.param_space))

    return renewed


def _with_rules(scheduler: TrialScheduler, stop: Any, metric: str | None) -> Plugins:
    stopper, criteria = stop_rules(stop)
    idle = type(scheduler) is FIFOScheduler
    return Plugins(scheduler, stopper, criteria, None if idle and metric == "_metric" else metric, idle)
