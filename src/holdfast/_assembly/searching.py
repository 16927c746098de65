"""The job's searcher: what it is told before the first question, and what is kept of it after the last.

This module knows which of the job's parts may contradict the searcher's own. It refuses to know what is asked in between
(`holdfast._runtime.searching`).
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from holdfast._assembly.submission import JobSpec
from holdfast._core.events import ExperimentCreated
from holdfast.errors import ConfigError
from holdfast.search.base import Searcher, introduce
from holdfast.space.variables import find_variables, joined
from holdfast.storage.base import Storage

__all__ = ["begin", "given_twice", "keep_memory"]


def begin(searcher: Searcher, created: ExperimentCreated, spec: JobSpec) -> None:
    """Tells the searcher what the job is about.

    Raises:
        ConfigError: Metric, mode or space are missing, or other ones than the searcher's own.
    """
    tune, space = spec.tune_config, spec.param_space
    taken = introduce(searcher, tune.metric, tune.mode, space, num_samples=tune.num_samples, seed=created.seed)
    if not taken and tune.metric and searcher.metric not in (None, tune.metric):
        raise given_twice(searcher)
    still_open = [] if taken else [joined(found.path) for found in find_variables(space)]
    if still_open:
        raise ConfigError(
            f"param_space leaves {', '.join(map(repr, still_open))} open, and {type(searcher).__name__} has a space already, or "
            "takes none (its set_search_properties returned False). Give the whole space to one of the two; beside a "
            "searcher's own, param_space holds fixed values only."
        )


def given_twice(plugin: Any) -> ConfigError:
    """The error for a metric or mode that the job and a plug-in both have."""
    name = type(plugin).__name__
    return ConfigError(f"metric and mode are given both in TuneConfig and in {name}; leave them out of one of the two.")


def keep_memory(searcher: Searcher, storage: Storage) -> None:
    """Saves the searcher beside the journal, for its `restore_from_dir`. Recovery reads the journal and never this file."""
    with tempfile.TemporaryDirectory() as aside:
        try:
            searcher.save_to_dir(aside)
        except NotImplementedError:  # it does not say what it remembers
            return
        except Exception as error:  # noqa: BLE001 - a user's searcher may raise anything, and the experiment is on record
            name, what = type(searcher).__name__, f"{type(error).__name__}: {error}"
            warnings.warn(f"{name} could not be saved for restore_from_dir: {what}. The experiment is whole.", stacklevel=2)
            return
        for path in Path(aside).iterdir():
            storage.put(path.name, path.read_bytes())
