"""Ray Tune's documented import paths that are not rooms of ours, and what stands for each.

One table; no module is written for any of them. Knows names only: what an alias leads to is loaded when it is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["ALIASES", "RESULT_KEYS", "AliasFinder"]

# Path → the module that has its names; empty for a package that only holds others.
ALIASES = {
    "holdfast.error": "holdfast.errors",
    "holdfast.execution": "",
    "holdfast.execution.placement_groups": "holdfast.resources",
    "holdfast.experiment.trial": "holdfast.trial",
    "holdfast.logger.aim": "holdfast.integration.aim",
    "holdfast.logger.comet": "holdfast.integration.comet",
    "holdfast.logger.logger": "holdfast.logger",
    "holdfast.logger.mlflow": "holdfast.integration.mlflow",
    "holdfast.logger.tensorboardx": "holdfast.logger.tensorboard",
    "holdfast.logger.wandb": "holdfast.integration.wandb",
    "holdfast.progress_reporter": "holdfast.console",
    "holdfast.result_grid": "holdfast.result",
    "holdfast.schedulers.trial_scheduler": "holdfast.schedulers",
    "holdfast.search.search_algorithm": "holdfast.search",
    "holdfast.search.searcher": "holdfast.search",
    "holdfast.stopper.stopper": "holdfast.stopper",
    "holdfast.tune_config": "holdfast.config",
}

# The names of `ray.tune.result` for keys of rows and for files of a trial.
RESULT_KEYS = {
    "DEFAULT_METRIC": "_metric",
    "DONE": "done",
    "EPISODES_TOTAL": "episodes_total",
    "EXPR_PARAM_FILE": "params.json",
    "EXPR_PARAM_PICKLE_FILE": "params.pkl",
    "EXPR_PROGRESS_FILE": "progress.csv",
    "EXPR_RESULT_FILE": "result.json",
    "HOSTNAME": "hostname",
    "NODE_IP": "node_ip",
    "PID": "pid",
    "SHOULD_CHECKPOINT": "should_checkpoint",
    "TIMESTEPS_TOTAL": "timesteps_total",
    "TIME_THIS_ITER_S": "time_this_iter_s",
    "TIME_TOTAL_S": "time_total_s",
    "TRAINING_ITERATION": "training_iteration",
    "TRIAL_ID": "trial_id",
}


class AliasFinder:
    """Has Python's import find the aliases; stands behind its own finders, so that it can hide nothing."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """What the import system asks each finder."""
        if name not in ALIASES:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package=not ALIASES[name])  # type: ignore[arg-type] # it has the two methods

    def create_module(self, spec: Any) -> None:
        """Leaves the making of an empty module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Puts the real module in the place of the empty one."""
        real = ALIASES[module.__name__]
        if real:
            sys.modules[module.__name__] = import_module(real)
