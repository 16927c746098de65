"""Every error that holdfast raises, drawn here as one tree.

    TuneError
    ├── ConfigError (ValueError)              the user's: an argument that cannot be
    │   ├── SearchSpaceError                  a search space that is empty, misspelt or contradictory
    │   ├── Deprecated (DeprecationWarning)   an argument that Ray Tune has given up
    │   ├── WrongType (TypeError)             an argument of a type that means nothing
    │   ├── MetricMissing                     a row without the metric that something needs
    │   ├── JobChanged                        a restore that asks for another job than the one submitted
    │   └── NothingToGoOnFrom                 an extension of trials that have no checkpoint
    ├── NotSerializable (TypeError)           the user's: something that cannot be pickled
    ├── ReportRefused (ValueError)            the user's: a row too large, or not a dictionary
    ├── ExperimentExists (ValueError)         the user's: a name already taken
    ├── ExperimentNotFound (FileNotFoundError, ValueError)  the user's: nothing to restore at that path
    ├── NotOnInstance (AttributeError)        the user's: `restore` asked of an instance
    ├── NotFitted (RuntimeError)              the user's: results asked for before fit
    ├── ExperimentBusy                        the world's: another driver is at work on the experiment
    ├── Fenced                                the world's: another driver has taken the experiment over
    ├── StorageError (OSError)                the world's: the disk or store refused
    ├── JournalError                          the world's: the journal is damaged where it was durable
    │   └── JournalTooNew                     written by a newer holdfast
    ├── DefinitionError                       the world's: a stored object that this Python cannot load
    ├── ObjectLost                            the world's: an object whose process, or whose last reference there, is gone
    ├── GpuNotFree (RuntimeError)             the world's: a GPU's memory stays taken, or nobody can tell
    ├── WorkerLost                            the world's: a trial's process died
    ├── TrialFailed                           the user's: a trial's own exception that could not be pickled
    ├── TrialsFailed                          the user's: `run` ended with trials that failed for good
    ├── RestoreDiffers (AssertionError)       the user's: a trainable that does not come back as it was saved
    └── InternalError                         ours: a state that must not be; please report it
        └── IllegalTransition                 an event that the state table does not allow

    ExperimentInterrupted                     Ctrl+C, SIGTERM or SIGUSR1 ended `fit()`; carries the results so far
      (KeyboardInterrupt, SystemExit)

Each carries fields, not only a sentence, and each sentence says what to do next.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConfigError",
    "DefinitionError",
    "Deprecated",
    "ExperimentBusy",
    "ExperimentExists",
    "ExperimentInterrupted",
    "ExperimentNotFound",
    "Fenced",
    "GpuNotFree",
    "IllegalTransition",
    "InternalError",
    "JobChanged",
    "JournalError",
    "JournalTooNew",
    "MetricMissing",
    "NotFitted",
    "NotOnInstance",
    "NotSerializable",
    "NothingToGoOnFrom",
    "ObjectLost",
    "ReportRefused",
    "RestoreDiffers",
    "SearchSpaceError",
    "StorageError",
    "TrialFailed",
    "TrialsFailed",
    "TuneError",
    "WorkerLost",
    "WrongType",
]


class TuneError(Exception):
    """Base of all that holdfast raises, but for `ExperimentInterrupted`."""


class ConfigError(TuneError, ValueError):
    """Raised when an argument cannot be as given. Nothing has been started; correct the call."""


class SearchSpaceError(ConfigError):
    """Raised when a search space is empty, misspelt or contradicts itself. Correct `param_space`."""


class Deprecated(ConfigError, DeprecationWarning):
    """Raised when an argument is given that Ray Tune has given up. The sentence names what takes its place."""


class WrongType(ConfigError, TypeError):
    """Raised when an argument is of a type that means nothing there. Nothing has been started; correct the call."""


class MetricMissing(ConfigError):
    """Raised when a reported row lacks a metric that the job needs.

    The row is not on record. Report the metric, or set `TUNE_DISABLE_STRICT_METRIC_CHECKING=1`, and restore.
    """

    def __init__(self, metric: str, reported: list[str]) -> None:
        self.metric = metric
        self.reported = reported
        super().__init__(
            f"A trial reported a row without the metric {metric!r}; the row has {reported}. "
            "Report that metric in every row, name another in TuneConfig(metric=...) or in the scheduler, "
            "or set TUNE_DISABLE_STRICT_METRIC_CHECKING=1. The experiment can be restored."
        )


class JobChanged(ConfigError):
    """Raised when a restore asks for another job than the one that was submitted. Restore with the same arguments."""


class NothingToGoOnFrom(ConfigError):
    """Raised when an extension is to have trials go on that have rows and no checkpoint, or none any more.

    Attributes:
        trial_ids: Which.
    """

    def __init__(self, trial_ids: list[str]) -> None:
        self.trial_ids = trial_ids
        shown = ", ".join(trial_ids[:5]) + (f" and {len(trial_ids) - 5} more" if len(trial_ids) > 5 else "")
        super().__init__(
            f"{shown} would go on under the new rules, and no checkpoint of theirs is left, or none was ever saved. Have them "
            "begin from scratch, their rows redone, with Tuner.extend(..., from_scratch_ok=True); or leave them as they are and "
            "extend by num_samples alone. Trials that save checkpoints can go on; num_to_keep keeps the newest one, "
            "max_total_bytes may not."
        )


class NotSerializable(TuneError, TypeError):
    """Raised when something that must travel to a worker or to disk cannot be pickled. Nothing has been started."""


class ReportRefused(TuneError, ValueError):
    """Raised inside a trial by `report` when a row cannot be taken: not a dictionary, too large, not picklable."""


class ExperimentExists(TuneError, ValueError):
    """Raised when a new experiment would land on an existing one, or in a foreign directory. Nothing was written."""


class ExperimentNotFound(TuneError, FileNotFoundError, ValueError):
    """Raised when a path holds no experiment. Nothing was written."""


class NotOnInstance(TuneError, AttributeError):
    """Raised when `restore` is asked of a Tuner that has a job already. Call it on the class."""


class NotFitted(TuneError, RuntimeError):
    """Raised when results are asked for before `fit()`, or no trial qualifies as the best one."""


class ExperimentBusy(TuneError):
    """Raised when another driver is at work on the experiment. Wait for it, end it, or restore with `takeover=True`."""

    def __init__(self, path: str, owner: str) -> None:
        self.path = path
        self.owner = owner
        super().__init__(
            f"The experiment at {path} is being driven by {owner}. Wait until that driver ends, end it, "
            "or restore with takeover=True: what it acknowledged is kept, what it does from then on is void."
        )


class Fenced(TuneError):
    """Raised in a driver whose experiment was taken over by a later one. All that it acknowledged is kept."""

    def __init__(self, path: str, epoch: int) -> None:
        self.path = path
        self.epoch = epoch
        super().__init__(
            f"Another driver has taken over the experiment at {path} (this one was epoch {epoch}). "
            "All that was acknowledged is on record; this driver stops without writing anything more."
        )


class StorageError(TuneError, OSError):
    """Raised when the disk or store refuses. What was acknowledged is kept; restore when the cause is mended."""


class JournalError(TuneError):
    """Raised when the journal is damaged where it was already durable. Nothing is changed on disk."""

    def __init__(self, file: str, offset: int, problem: str, remedy: str = "") -> None:
        self.file = file
        self.offset = offset
        self.problem = problem
        self.remedy = remedy or (
            "Bring that file back from a backup or a snapshot of the disk, then restore again. "
            "`holdfast verify PATH` lists all damage without changing anything."
        )
        super().__init__(f"{file} at byte {offset}: {problem}. {self.remedy}")


class JournalTooNew(JournalError):
    """Raised when an experiment was written by a newer holdfast than this one. Upgrade holdfast."""


class DefinitionError(TuneError):
    """Raised when a stored trainable, search space or object cannot be loaded by this Python."""


class ObjectLost(TuneError):
    """Raised by `get` when what `put` kept is gone: its process has ended, or has let the last reference go. Put it again."""


class GpuNotFree(TuneError, RuntimeError):
    """Raised by `wait_for_gpu` when the memory of a GPU stays taken, or `nvidia-smi` does not answer."""


class WorkerLost(TuneError):
    """Stands for a trial's process that died without a word or was ended (killed, crashed, out of memory, out of time)."""


class TrialFailed(TuneError):
    """Stands for a trial's own exception whose class could not be brought back; carries its traceback."""


class TrialsFailed(TuneError):
    """Raised by `run` and `run_experiments` at their end when trials failed for good, unless `raise_on_failed_trial=False`.

    Attributes:
        trials: The ids of those trials.
        analysis: What `run` would have returned.
    """

    def __init__(self, trials: list[str], analysis: Any) -> None:
        self.trials = trials
        self.analysis = analysis
        super().__init__(
            f"{len(trials)} of {len(analysis.trials)} trials failed: {', '.join(trials[:10])}{' ...' * (len(trials) > 10)}. The "
            "results are in this error's `analysis`; resume='AUTO+ERRORED' goes on with these trials, "
            "raise_on_failed_trial=False returns the results instead."
        )


class RestoreDiffers(TuneError, AssertionError):
    """Raised by `validate_save_restore` when a restored trainable reports something else than the one that was saved.

    Save what is missing in `save_checkpoint`: generators of its own, schedules, position in the data.

    Attributes:
        iteration, key: Where.
        expected, found: What the one that went on reported, and what the restored one did.
    """

    def __init__(self, iteration: int, key: str, expected: Any, found: Any) -> None:
        self.iteration = iteration
        self.key = key
        self.expected = expected
        self.found = found
        super().__init__(
            f"In iteration {iteration} the restored trainable reports {key}={found!r}; without a restore it is {expected!r}. "
            "Something that step() needs is not in the checkpoint: save it in save_checkpoint(), load it in load_checkpoint()."
        )


class InternalError(TuneError):
    """A state that must not be. The fault is holdfast's: please report it with the message."""


class IllegalTransition(InternalError):
    """Raised when an event is not allowed in a trial's state. Nothing was changed."""

    def __init__(self, trial_id: str, state: str, signal: str, story: str) -> None:
        self.trial_id = trial_id
        self.state = state
        self.signal = signal
        super().__init__(f"Trial {trial_id} is {state}: {signal} is not allowed. Its story: {story}")


class ExperimentInterrupted(KeyboardInterrupt, SystemExit):
    """Raised by `fit()` after Ctrl+C, SIGTERM or SIGUSR1. The experiment is on disk and can be restored.

    It is a `KeyboardInterrupt` to those who catch it, and a `SystemExit` to Python: a script that does not catch it ends with
    `code` and without a traceback.

    Attributes:
        results: A `ResultGrid` of what there is so far.
        path: The experiment's directory.
        signal: The number of the signal that ended the run.
        code: 128 + `signal`, or 75 where `RunConfig(exit_on_preemption=True)` asks for that.
    """

    def __init__(self, path: str, signal: int, results: Any = None, code: int = 0) -> None:
        super().__init__(f"interrupted by signal {signal}; restore with Tuner.restore({path!r}, trainable)")
        self.path = path
        self.signal = signal
        self.results = results
        self.code = code or 128 + signal
