"""holdfast: hyperparameter tuning whose experiments cannot be lost.

Kill it anywhere, restore it, and it ends as if nothing had happened. The names are Ray Tune's: `import holdfast as
tune` takes the place of `from ray import tune`.

    def train(config):                       # a trial: a function of its configuration
        tune.report({"loss": ...})           # when this returns, no kill of any process loses the row

    tune.Tuner(train, param_space={"lr": tune.loguniform(1e-4, 1e-1)}).fit()
    tune.Tuner.restore(path, train).fit()    # goes on, whatever ended it

Schedulers, searchers, stoppers, loggers and errors are in `holdfast.schedulers`, `.search`, `.stopper`, `.logger` and
`.errors`. Each name's module is loaded when the name is first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError("holdfast does not run on Windows; use it inside WSL (Windows Subsystem for Linux).")

from holdfast._aliases import AliasFinder

if TYPE_CHECKING:
    from holdfast.analysis import ExperimentAnalysis
    from holdfast.callback import Callback
    from holdfast.checkpoint import Checkpoint
    from holdfast.config import CheckpointConfig, FailureConfig, ResumeConfig, RunConfig, SyncConfig, TuneConfig
    from holdfast.console import CLIReporter, JupyterNotebookReporter, ProgressReporter
    from holdfast.errors import ExperimentInterrupted, TuneError
    from holdfast.experiment import Experiment
    from holdfast.objects import ObjectRef, get, put, with_parameters
    from holdfast.registry import register_env, register_trainable
    from holdfast.resources import PlacementGroupFactory, with_resources
    from holdfast.result import Result, ResultGrid
    from holdfast.run import run, run_experiments
    from holdfast.schedulers import create_scheduler
    from holdfast.search import create_searcher
    from holdfast.session import TuneContext, get_checkpoint, get_context, report
    from holdfast.space import (
        choice,
        grid_search,
        lograndint,
        loguniform,
        qlograndint,
        qloguniform,
        qrandint,
        qrandn,
        quniform,
        randint,
        randn,
        sample_from,
        uniform,
    )
    from holdfast.stopper import Stopper
    from holdfast.trainable import Trainable
    from holdfast.trial import Trial
    from holdfast.tuner import Tuner

__version__ = "0.1.0"

_ROOMS = {
    "analysis": ("ExperimentAnalysis",),
    "callback": ("Callback",),
    "checkpoint": ("Checkpoint",),
    "config": ("CheckpointConfig", "FailureConfig", "ResumeConfig", "RunConfig", "SyncConfig", "TuneConfig"),
    "console": ("CLIReporter", "JupyterNotebookReporter", "ProgressReporter"),
    "errors": ("ExperimentInterrupted", "TuneError"),
    "experiment": ("Experiment",),
    "objects": ("ObjectRef", "get", "put", "with_parameters"),
    "registry": ("register_env", "register_trainable"),
    "resources": ("PlacementGroupFactory", "with_resources"),
    "result": ("Result", "ResultGrid"),
    "run": ("run", "run_experiments"),
    "schedulers": ("create_scheduler",),
    "search": ("create_searcher",),
    "session": ("TuneContext", "get_checkpoint", "get_context", "report"),
    "space": (
        "choice",
        "grid_search",
        "lograndint",
        "loguniform",
        "qlograndint",
        "qloguniform",
        "qrandint",
        "qrandn",
        "quniform",
        "randint",
        "randn",
        "sample_from",
        "uniform",
    ),
    "stopper": ("Stopper",),
    "trainable": ("Trainable",),
    "trial": ("Trial",),
    "tuner": ("Tuner",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "CLIReporter",
    "Callback",
    "Checkpoint",
    "CheckpointConfig",
    "Experiment",
    "ExperimentAnalysis",
    "ExperimentInterrupted",
    "FailureConfig",
    "JupyterNotebookReporter",
    "ObjectRef",
    "PlacementGroupFactory",
    "ProgressReporter",
    "Result",
    "ResultGrid",
    "ResumeConfig",
    "RunConfig",
    "Stopper",
    "SyncConfig",
    "Trainable",
    "Trial",
    "TuneConfig",
    "TuneContext",
    "TuneError",
    "Tuner",
    "choice",
    "create_scheduler",
    "create_searcher",
    "get",
    "get_checkpoint",
    "get_context",
    "grid_search",
    "lograndint",
    "loguniform",
    "put",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "register_env",
    "register_trainable",
    "report",
    "run",
    "run_experiments",
    "sample_from",
    "uniform",
    "with_parameters",
    "with_resources",
]


sys.meta_path.append(AliasFinder())


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        value = getattr(import_module(f"holdfast.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in ("schedulers", "search", "stopper", "logger", "errors", "testing", "utils"):
        return import_module(f"holdfast.{name}")
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
