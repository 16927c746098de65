"""Class trainables: a trial written as an object that is asked for one iteration after another.

This module knows the object's life: it is set up, takes steps, saves, loads, gets another config, cleans up; all of it
also alone, without a `Tuner`. It refuses to know when a trial saves and stops, and how a row reaches the driver: who
runs trials asks the object through the functions at the end of this file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast import settings
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, ReportRefused
from holdfast.trainable.tally import Tally, counters_in, write_counters

if TYPE_CHECKING:
    from holdfast.resources import PlacementGroupFactory

__all__ = [
    "Seat",
    "Trainable",
    "TrainingResult",
    "can_save",
    "go_on_from",
    "load_from",
    "made",
    "reseated",
    "save_into",
    "stepped",
    "told",
]

_DICTIONARY = "_dict_checkpoint.pkl"


class TrainingResult(NamedTuple):
    """What `Trainable.save` gives: where the checkpoint is, and the newest result ({} before the first)."""

    checkpoint: Checkpoint
    metrics: dict[str, Any]


class Seat(NamedTuple):
    """Where an instance runs. One that runs alone has the seat of these defaults.

    Attributes:
        trial_id, trial_name: Of its trial.
        resources: Gives what the trial was given; None: nobody knows.
        logdir: The trial's directory; empty where none was made yet.
        base: Where an instance that runs alone makes its `logdir`; empty for the results directory.
    """

    trial_id: str = "default"
    trial_name: str = "default"
    resources: Callable[[], Any] | None = None
    logdir: str = ""
    base: str = ""


class Trainable:
    """A trial as an object. Derive from it, write `setup`, `step`, `save_checkpoint` and `load_checkpoint`.

    `Tuner(MyTrainable, ...)` runs one instance per trial, in a process of its own, and calls `step` until the trial is
    stopped or a result says `done`. The instance is gone on with from its newest checkpoint after a crash, a pause and a
    restore. Alone it works as well:

        trainable = MyTrainable({"lr": 0.1})
        trainable.train()
        saved = trainable.save()
        MyTrainable({"lr": 0.1}).restore(saved)

    Args:
        config: The configuration.
        storage: For an instance that runs alone: below which directory its `logdir` is made; by default where experiments go.

    Attributes:
        config: The configuration.
    """

    def __init__(self, config: dict[str, Any] | None = None, storage: str | os.PathLike[str] | None = None) -> None:
        self.config: dict[str, Any] = config or {}
        self._seat = _Next.seat or Seat(base="" if storage is None else os.fspath(storage))
        _Next.seat = None  # another instance that `setup` makes is none of the trial's
        self._iteration = 0
        self._time_total = 0.0
        self._time_this_iter = 0.0
        self._restored_at = (0, 0.0)
        self._tally = Tally()
        self._last_result: dict[str, Any] = {}
        self._stopped = False
        self.setup(_own(self.config))

    def setup(self, config: dict[str, Any]) -> None:
        """Write this: prepares the instance. Called once, with a copy of the config, before all else."""

    def step(self) -> dict[str, Any]:
        """Write this: trains one iteration and returns its metrics.

        `{"done": True}` ends the trial with this row, `{"should_checkpoint": True}` saves a checkpoint with it. In here,
        `self.iteration` is the number of iterations before this one.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step(): write it, returning a dictionary of metrics.")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | str | None:
        """Write this: saves all that `load_checkpoint` needs to go on as if nothing had happened.

        Returns:
            None or `checkpoint_dir` after writing files into it, or a dictionary, which is kept instead.
        """
        raise NotImplementedError(f"{type(self).__name__} has no save_checkpoint(): write it, and load_checkpoint().")

    def load_checkpoint(self, checkpoint: dict[str, Any] | str) -> None:
        """Write this: goes back to what was saved; called after `setup`.

        Args:
            checkpoint: The dictionary, where `save_checkpoint` returned one; else the directory, only to be read.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load_checkpoint(): write it, beside save_checkpoint().")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Write this for `TuneConfig(reuse_actors=True)`: makes the instance ready to begin another trial.

        Returns:
            Whether that worked. `self.config` still holds the old config in here, and the new one after.
        """
        return False

    def cleanup(self) -> None:
        """Write this: lets go of what `setup` took. Called at the end, whatever the end was, but for a killed process."""

    @classmethod
    def default_resource_request(
        cls,
        config: dict[str, Any],  # noqa: ARG003 - for those that override it
    ) -> PlacementGroupFactory | dict[str, float] | None:
        """What a trial with this config needs; None leaves that to `with_resources` and to one CPU."""
        return None

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:  # noqa: ARG003 - for those that override it
        """What to tell a user whose resources do not do; empty."""
        return ""

    def export_model(self, export_formats: Sequence[str] | str, export_dir: str | None = None) -> dict[str, str]:
        """Exports the model, as `_export_model` (write that) does; by default into `logdir`.

        Returns:
            Format → path; empty where there is nothing to export.
        """
        formats = [export_formats] if isinstance(export_formats, str) else list(export_formats)
        return self._export_model(formats, export_dir or self.logdir)

    def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
        return {}

    def log_result(self, result: dict[str, Any]) -> None:
        """Called with each full row before it is reported. Write it to keep rows elsewhere as well."""

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return self.config

    @property
    def iteration(self) -> int:
        """How many iterations are done; goes on from the checkpoint."""
        return self._iteration

    @property
    def training_iteration(self) -> int:
        """The same as `iteration`."""
        return self._iteration

    @property
    def logdir(self) -> str:
        """The trial's directory; one made when first asked for, where the instance runs alone."""
        if not self._seat.logdir:
            import tempfile

            base = os.path.abspath(self._seat.base or settings.results_dir())
            os.makedirs(base, exist_ok=True)
            self._seat = self._seat._replace(logdir=tempfile.mkdtemp(prefix=f"{type(self).__name__}_", dir=base))
        return self._seat.logdir

    @property
    def trial_id(self) -> str:
        """The trial's id; "default" alone."""
        return self._seat.trial_id

    @property
    def trial_name(self) -> str:
        """The trial's name; "default" alone."""
        return self._seat.trial_name

    @property
    def trial_resources(self) -> Any:
        """What the trial was given; "default" alone."""
        return "default" if self._seat.resources is None else self._seat.resources()

    def train(self) -> dict[str, Any]:
        """Takes one step; returns its metrics with the keys that are filled in.

        Raises:
            ReportRefused: `step` returned no dictionary.
        """
        result = stepped(self)
        self._tally = self._tally.plus(result)
        self._last_result = _full(self, self._tally.filled(result))
        self.log_result(self._last_result)
        return self._last_result

    def save(self, checkpoint_dir: str | os.PathLike[str] | None = None) -> TrainingResult:
        """Saves into a directory (made if missing; a new one below `logdir` by default), the counters too.

        Raises:
            ConfigError: `save_checkpoint` returned what it must not.
        """
        if checkpoint_dir is None:
            import tempfile

            checkpoint_dir = tempfile.mkdtemp(prefix=f"saved_{self._iteration:06d}_", dir=self.logdir)
        directory = os.path.abspath(os.fspath(checkpoint_dir))
        os.makedirs(directory, exist_ok=True)
        save_into(self, directory)
        write_counters(
            directory, {"training_iteration": self._iteration, "time_total_s": self._time_total, **self._tally.counters()}
        )
        return TrainingResult(Checkpoint(directory), self._last_result)

    def restore(self, checkpoint_path: str | os.PathLike[str] | Checkpoint | TrainingResult) -> None:
        """Goes back to a checkpoint: what `save` gave, or one that a trial reported. The counters go on from there.

        Raises:
            FileNotFoundError: There is none.
        """
        given = checkpoint_path.checkpoint if isinstance(checkpoint_path, TrainingResult) else checkpoint_path
        checkpoint = given if isinstance(given, Checkpoint) else Checkpoint(given)
        with checkpoint.as_directory() as directory:
            counters = counters_in(directory)
            go_on_from(self, int(counters.get("training_iteration", 0)), counters.get("time_total_s", 0.0))
            self._tally = Tally.of(counters)
            load_from(self, directory)

    def reset(self, new_config: dict[str, Any]) -> bool:
        """Gives an instance that runs alone another config to begin with, through `reset_config`; returns what that said."""
        return reseated(self, new_config, self._seat)

    def stop(self) -> None:
        """Ends the instance: calls `cleanup`, once."""
        if not self._stopped:
            self._stopped = True
            self.cleanup()


# What follows is for those who run trials: the worker, and `holdfast.utils`.


class _Next:
    """The seat of the instance that is being made: `__init__` belongs to the user's class, so it cannot be an argument."""

    seat: Seat | None = None


def can_save(trainable: type) -> bool:
    """Whether the class has a `save_checkpoint` of its own."""
    return getattr(trainable, "save_checkpoint", None) is not Trainable.save_checkpoint


def made(trainable: type[Trainable], config: dict[str, Any], seat: Seat) -> Trainable:
    """A new instance in its seat; raises what the user's `setup` raises."""
    with _making(seat):
        return trainable(config)


@contextlib.contextmanager
def _making(seat: Seat) -> Iterator[None]:
    _Next.seat = seat
    try:
        yield
    finally:
        _Next.seat = None


def reseated(instance: Trainable, config: dict[str, Any], seat: Seat) -> bool:
    """Gives an instance another trial to run; False where its `reset_config` says that it cannot."""
    instance._seat = seat
    go_on_from(instance, 0, 0.0)
    instance._tally, instance._last_result = Tally(), {}
    if not instance.reset_config(_own(config)):
        return False
    instance.config = config
    return True


def go_on_from(instance: Trainable, iteration: int, time_total_s: float) -> None:
    """Sets the counters to what they were at the checkpoint that is about to be loaded."""
    instance._iteration, instance._time_total = instance._restored_at = iteration, time_total_s


def stepped(instance: Trainable) -> dict[str, Any]:
    """Takes one step and counts it; returns what the user's `step` returned.

    Raises:
        ReportRefused: That is no dictionary.
    """
    began = time.monotonic()
    result = instance.step()
    if not isinstance(result, dict):
        raise ReportRefused(f"step() returned {type(result).__name__}: return a dictionary of metrics, such as {{'loss': 0.1}}.")
    instance._time_this_iter = time.monotonic() - began
    instance._iteration += 1
    instance._time_total += instance._time_this_iter
    return result


def told(instance: Trainable, row: dict[str, Any]) -> None:
    """Tells the instance the row that is about to be reported, where it has a `log_result` of its own."""
    if type(instance).log_result is not Trainable.log_result:
        instance.log_result(_full(instance, row))


def save_into(instance: Trainable, directory: str) -> None:
    """Has the instance save itself into a directory that is there.

    Raises:
        ConfigError: `save_checkpoint` returned neither None, nor the directory, nor a dictionary.
    """
    saved = instance.save_checkpoint(directory)
    if isinstance(saved, dict):
        import cloudpickle

        with open(os.path.join(directory, _DICTIONARY), "wb") as file:
            cloudpickle.dump(saved, file)
    elif saved is not None and not (
        isinstance(saved, (str, os.PathLike)) and os.path.realpath(saved) == os.path.realpath(directory)
    ):
        raise ConfigError(
            f"save_checkpoint({directory!r}) returned {saved!r}. Write into the directory that it is given and return that "
            "or None, or return a dictionary."
        )


def load_from(instance: Trainable, directory: str) -> None:
    """Has the instance load what lies in a directory; raises what the user's `load_checkpoint` raises."""
    path = os.path.join(directory, _DICTIONARY)
    if not os.path.exists(path):
        instance.load_checkpoint(directory)
        return
    import cloudpickle

    with open(path, "rb") as file:
        state = cloudpickle.load(file)
    instance.load_checkpoint(state)


def _full(instance: Trainable, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the keys that are filled in; those that the user gave stay."""
    import socket

    now, (iteration, seconds) = time.time(), instance._restored_at
    return {
        "training_iteration": instance._iteration,
        "iterations_since_restore": instance._iteration - iteration,
        "time_this_iter_s": instance._time_this_iter,
        "time_total_s": instance._time_total,
        "time_since_restore": instance._time_total - seconds,
        "timestamp": int(now),
        "date": time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now)),
        "done": False,
        "pid": os.getpid(),
        "hostname": socket.gethostname(),
        "trial_id": instance.trial_id,
        "config": instance.config,
        **row,
    }


def _own(value: Any) -> Any:
    """A copy of dictionaries and lists, to be changed at will; what they hold is the same."""
    if type(value) is dict:
        return {key: _own(inner) for key, inner in value.items()}
    if type(value) is list:
        return [_own(inner) for inner in value]
    return value
