"""`RunConfig`: where and how an experiment runs."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from holdfast.config.checkpoint import CheckpointConfig
from holdfast.config.checks import Shown, seconds
from holdfast.config.failure import FailureConfig
from holdfast.config.sync import SyncConfig
from holdfast.errors import ConfigError, Deprecated

if TYPE_CHECKING:
    from holdfast.callback import Callback
    from holdfast.console import ProgressReporter
    from holdfast.engines.base import Engine
    from holdfast.stopper.base import Stopper

__all__ = ["RunConfig"]


class RunConfig(Shown):
    """Where and how an experiment runs.

    Args:
        name: The experiment's name and its directory's; by default the trainable's with the date.
        storage_path: The directory that holds it; by default `HOLDFAST_RESULTS_DIR` or `~/holdfast_results`. Or a place in a
            cloud (`s3://bucket/path`, `gs://`, `az://`): docs/storage.md.
        storage_filesystem: A `pyarrow.fs` or fsspec file system that `storage_path`, then without scheme, is a path of:
            docs/storage.md says which. The place is taken from it at once; the object is not kept.
        failure_config: What a failed attempt costs.
        checkpoint_config: Which checkpoints are kept.
        sync_config: What of trials' working directories reaches an experiment in a cloud.
        verbose: 0 prints nothing, 1 the progress, 2 and 3 more of it: docs/cli.md has the table.
        stop: When trials stop: a dictionary of bounds (`{"training_iteration": 10}`), a function of (trial_id,
            result), a `Stopper` or a list of them.
        callbacks: User code that hears what happens.
        progress_reporter: A `ProgressReporter` that takes the place of the usual screen; with `verbose=0` it is not asked.
        log_to_file: Where trials' output goes, below the trial's directory: True for `stdout` and `stderr`, a name,
            or a pair of names. False keeps it in the experiment's `logs/`.
        local_dir: Deprecated; use `storage_path`.
        engine: "local", or an engine object.
        durability: "group": acknowledged rows survive any kill, and a power cut loses at most 0.1 s; "strict": nothing.
        exit_on_preemption: Whether a script that does not catch `ExperimentInterrupted` exits with code 75 after SIGTERM or
            SIGUSR1, by which schedulers know that the job is to be queued again; else with 143 or 138. After Ctrl+C it is 130.
        if_exists: What a new `Tuner` does where its name belongs to an experiment. "error": `fit` raises. "resume": it goes on
            with that one as `Tuner.restore` would, so that one script starts and resumes; the job must be the same. "new":
            it takes the next free name, `<name>_1`, `<name>_2` and so on.
        unfenced: Take a store that cannot keep two drivers apart (it ignores conditional puts). Two drivers at once would then
            destroy the experiment: whoever says so must see to it that there is one.
        storage_timeout_s: How long a store that fails is asked again. Training goes on meanwhile while 64 MiB of records have
            room, then `report` waits; when the time is over the experiment stops and can be restored. Not for local paths.

    Raises:
        ConfigError: A value that cannot be.
    """

    name: str | None
    storage_path: str | None
    storage_filesystem: None
    failure_config: FailureConfig
    checkpoint_config: CheckpointConfig
    sync_config: SyncConfig | None
    verbose: int
    stop: Any
    callbacks: list[Callback]
    progress_reporter: ProgressReporter | None
    log_to_file: bool | str | tuple[str, str]
    local_dir: None
    engine: str | Engine | None
    durability: str
    exit_on_preemption: bool = False  # here too: jobs that were stored before there was such a choice are read back
    if_exists: str = "error"
    unfenced: bool = False
    storage_timeout_s: float = 1800.0

    def __init__(
        self,
        name: str | None = None,
        storage_path: str | os.PathLike[str] | None = None,
        storage_filesystem: Any = None,
        failure_config: FailureConfig | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        sync_config: Any = None,
        verbose: int | None = None,
        stop: Mapping[str, Any] | Stopper | Sequence[Stopper] | Callable[[str, Mapping[str, Any]], bool] | None = None,
        callbacks: Sequence[Callback] | None = None,
        progress_reporter: Any = None,
        log_to_file: bool | str | tuple[str, str] = False,
        local_dir: str | None = None,
        *,
        engine: str | Engine | None = None,
        durability: Literal["group", "strict"] = "group",
        exit_on_preemption: bool = False,
        if_exists: Literal["error", "resume", "new"] = "error",
        unfenced: bool = False,
        storage_timeout_s: float | datetime.timedelta = 1800.0,
    ) -> None:
        if local_dir is not None:
            raise Deprecated("RunConfig(local_dir=...) is gone: use RunConfig(storage_path=...).")
        _check_sync(sync_config)
        _check_choices(durability, if_exists, name)
        _check_reporter(progress_reporter)
        _check_log_files(log_to_file)
        if verbose is not None and verbose not in (0, 1, 2, 3):
            raise ConfigError(f"RunConfig(verbose={verbose!r}): 0, 1, 2 or 3.")
        self.name = name
        self.storage_path = _place(storage_path, storage_filesystem)
        self.storage_filesystem = None
        self.failure_config = failure_config or FailureConfig()
        self.checkpoint_config = checkpoint_config or CheckpointConfig()
        self.sync_config = sync_config
        self.verbose = 1 if verbose is None else verbose
        self.stop = stop
        self.callbacks = list(callbacks or [])
        self.progress_reporter = progress_reporter
        self.log_to_file = log_to_file
        self.local_dir = None
        self.engine = engine
        self.durability = durability
        self.exit_on_preemption = bool(exit_on_preemption)
        self.if_exists = if_exists
        self.unfenced = bool(unfenced)
        self.storage_timeout_s = seconds("RunConfig(storage_timeout_s=...)", storage_timeout_s)


def _place(storage_path: str | os.PathLike[str] | None, filesystem: Any) -> str | None:
    if filesystem is None:
        return None if storage_path is None else os.fspath(storage_path)
    if storage_path is None:
        raise ConfigError("RunConfig(storage_filesystem=...): give storage_path too, a path on that file system.")
    from holdfast.storage.filesystems import place_on

    return place_on(storage_path, filesystem)


def _check_sync(sync_config: object) -> None:
    if sync_config is not None and not isinstance(sync_config, SyncConfig):
        raise ConfigError(f"RunConfig(sync_config={sync_config!r}): a holdfast.SyncConfig.")


def _check_choices(durability: object, asked: object, name: str | None) -> None:
    if durability not in ("group", "strict"):
        raise ConfigError(f"RunConfig(durability={durability!r}): 'group' or 'strict'.")
    if asked not in ("error", "resume", "new"):
        raise ConfigError(f"RunConfig(if_exists={asked!r}): 'error', 'resume' or 'new'.")
    if asked == "resume" and not name:
        raise ConfigError("RunConfig(if_exists='resume') needs name=: without one each run gets a name of its own.")


def _check_reporter(given: object) -> None:
    if given is None:
        return
    from holdfast.console import ProgressReporter

    if not isinstance(given, ProgressReporter):
        raise ConfigError(f"RunConfig(progress_reporter={given!r}): an instance of a subclass of holdfast.ProgressReporter.")


def _check_log_files(asked: object) -> None:
    pair = isinstance(asked, (tuple, list)) and len(asked) == 2 and all(isinstance(name, str) for name in asked)
    if not (pair or isinstance(asked, (bool, str))):
        raise ConfigError(f"RunConfig(log_to_file={asked!r}): True, False, a file's name or a pair of names.")
