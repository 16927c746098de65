"""`Experiment`: one job as `run` and `run_experiments` take it, in one object.

Knows what may be said of a job. Refuses to know how it runs, and checks nothing that the configs check: `run` makes them of it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.errors import ConfigError
from holdfast.trial import Trial

if TYPE_CHECKING:
    from holdfast.checkpoint import Checkpoint
    from holdfast.config import CheckpointConfig

__all__ = ["Experiment", "Trial", "experiments_in"]
__path__: list[str] = []  # lets Python ask for the alias `holdfast.experiment.trial`


class Experiment:
    """A job by name.

    Args:
        name: The experiment's name and its directory's.
        run: The trainable: a function, a subclass of `holdfast.Trainable`, or a name that one is registered under.
        stop: When trials stop; see `RunConfig`.
        time_budget_s: Seconds that drivers may be in charge; see `TuneConfig`.
        config: The search space.
        resources_per_trial: As for `with_resources`.
        num_samples: How often the space is sampled.
        storage_path: The directory that holds the experiment's.
        storage_filesystem: As in `RunConfig`; the path then has no scheme.
        sync_config: As in `RunConfig`.
        checkpoint_config: Which checkpoints are kept.
        trial_name_creator: Gives a trial its display name.
        trial_dirname_creator: Gives a trial its directory's name.
        log_to_file: Where trials' output goes; see `RunConfig`.
        export_formats: Given to a class trainable's `export_model` when a trial ends well.
        max_failures: Failed attempts that a trial survives.
        restore: A checkpoint that each trial begins from.
        local_dir: Deprecated; use `storage_path`.

    Raises:
        ConfigError: There is no trainable.
    """

    def __init__(
        self,
        name: str | None,
        run: Callable[..., Any] | type | str,
        stop: Any = None,
        time_budget_s: float | datetime.timedelta | None = None,
        config: dict[str, Any] | None = None,
        resources_per_trial: Any = None,
        num_samples: int = 1,
        storage_path: str | os.PathLike[str] | None = None,
        storage_filesystem: Any = None,
        sync_config: Any = None,
        checkpoint_config: CheckpointConfig | None = None,
        trial_name_creator: Callable[[Trial], str] | None = None,
        trial_dirname_creator: Callable[[Trial], str] | None = None,
        log_to_file: bool | str | tuple[str, str] = False,
        export_formats: Sequence[str] | None = None,
        max_failures: int = 0,
        restore: str | os.PathLike[str] | Checkpoint | None = None,
        local_dir: str | None = None,
    ) -> None:
        if not (isinstance(run, str) or callable(run)):
            raise ConfigError(f"Experiment({name!r}, run={run!r}): a function, a class trainable or a registered name.")
        self.name = name
        self.run = run
        self.stop = stop
        self.time_budget_s = time_budget_s
        self.config = config
        self.resources_per_trial = resources_per_trial
        self.num_samples = num_samples
        self.storage_path = storage_path
        self.storage_filesystem = storage_filesystem
        self.sync_config = sync_config
        self.checkpoint_config = checkpoint_config
        self.trial_name_creator = trial_name_creator
        self.trial_dirname_creator = trial_dirname_creator
        self.log_to_file = log_to_file
        self.export_formats = export_formats
        self.max_failures = max_failures
        self.restore = restore
        self.local_dir = local_dir

    @classmethod
    def from_json(cls, name: str, spec: Mapping[str, Any]) -> Experiment:
        """The experiment of a dictionary with the parameters of this class; `run` must be among them.

        Raises:
            ConfigError: There is no `run`, or a key that is no parameter.
        """
        if not isinstance(spec, Mapping) or "run" not in spec:
            raise ConfigError(f"The experiment {name!r} is {spec!r}: give a dictionary with 'run', the trainable.")
        unknown = sorted(set(spec) - (set(cls.__init__.__annotations__) - {"name", "return"}))
        if unknown:
            raise ConfigError(f"The experiment {name!r} has keys that mean nothing: {unknown}.")
        return cls(name, **spec)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, run={self.run!r})"


def experiments_in(given: Any) -> list[Experiment]:
    """The experiments in what `run_experiments` is given: one, a list, or a dictionary of name → its parameters.

    Raises:
        ConfigError: It is none of them, or one of its dictionaries cannot be an experiment.
    """
    if isinstance(given, Experiment):
        return [given]
    if isinstance(given, Mapping):
        return [Experiment.from_json(name, spec) for name, spec in given.items()]
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, Experiment) for one in given):
        return list(given)
    raise ConfigError(f"{given!r}: give an Experiment, a list of them, or a dictionary {{name: {{'run': trainable, ...}}}}.")
