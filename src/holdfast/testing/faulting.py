"""Faults for the user's own tests: a trial that fails, hangs or dies at an iteration, a driver that dies after so many events.

The trainable is not changed: a fault is wrapped around it.

    from holdfast.testing import fail_at, fit_until_killed, kill_at

    # The worker of each trial dies as it reports row 3 for the first time; the second attempt goes on from the checkpoint.
    Tuner(kill_at(train, iteration=3), run_config=RunConfig(failure_config=FailureConfig(max_failures=1))).fit()

    # Only trials 0 and 2 fail, in every attempt.
    Tuner(fail_at(train, iteration=2, attempt=None, trials=[0, 2])).fit()

    # The driver is killed after each event in turn, and what is left is restored.
    def tuner():
        path = os.path.join(storage, "exp")
        if Tuner.can_restore(path):
            return Tuner.restore(path, train)
        return Tuner(train, run_config=RunConfig(name="exp", storage_path=storage))

    events = 1
    while fit_until_killed(tuner, events=events):
        events += 1
    assert tuner().get_results().num_errors == 0

This module knows what a trial's session and a class trainable's `step` are. It does not know engines: where trials run in the
driver's own process, what kills the one kills the other.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from types import GeneratorType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from holdfast import faults, session
from holdfast.errors import ConfigError, TuneError
from holdfast.trainable import Trainable

if TYPE_CHECKING:
    from holdfast.checkpoint import Checkpoint
    from holdfast.tuner import Tuner

__all__ = ["fail_at", "fit_until_killed", "hang_at", "kill_at", "kill_driver_after", "kill_driver_at"]

T = TypeVar("T", bound=Callable[..., Any])


def fail_at(
    trainable: T,
    iteration: int,
    *,
    attempt: int | None = 1,
    trials: Iterable[int] | None = None,
    after: bool = False,
    error: Exception | None = None,
) -> T:
    """The trainable, made to raise an exception at an iteration.

    Args:
        trainable: A function, or a subclass of `Trainable`. It is not changed.
        iteration: The `training_iteration` at which it strikes, from 1; it goes on counting from a checkpoint.
        attempt: In which attempt of the trial, from 1: by default only in the first, so that the next is spared. None: in all.
        trials: The numbers of the trials that it strikes, from 0; None: all.
        after: Strike when the row of that iteration is on record; by default before it is sent.
        error: What to raise; by default a `RuntimeError` that says so.

    Raises:
        ConfigError: It is no function and no class trainable, or a number is below 1.
    """
    return cast("T", _faulty(trainable, _Fault("fail", iteration, attempt, _chosen(trials), after, error)))


def hang_at(
    trainable: T, iteration: int, *, attempt: int | None = 1, trials: Iterable[int] | None = None, after: bool = False
) -> T:
    """The trainable, made to do nothing any more at an iteration, for ever; it ends when its process is ended. See `fail_at`."""
    return cast("T", _faulty(trainable, _Fault("hang", iteration, attempt, _chosen(trials), after)))


def kill_at(
    trainable: T, iteration: int, *, attempt: int | None = 1, trials: Iterable[int] | None = None, after: bool = False
) -> T:
    """The trainable, made to kill its own process (SIGKILL) at an iteration. See `fail_at`.

    With `engine="inline"` that process is the driver's.
    """
    return cast("T", _faulty(trainable, _Fault("kill", iteration, attempt, _chosen(trials), after)))


def kill_driver_after(events: int) -> None:
    """Makes this process kill itself (SIGKILL) when it has put so many events of an experiment on record, as their driver.

    What was written in the same piece as the last of them is on record too. Call it before `fit()`, in a process that may die.
    """
    kill_driver_at("after_event", events)


def kill_driver_at(point: str, times: int = 1) -> None:
    """Makes this process kill itself (SIGKILL) when it comes to a named crash point for the `times`-th time.

    Args:
        point: One of `holdfast.testing.POINTS` that a driver comes to; `docs/design/fault-model.md` tells each.
        times: Which time.

    Raises:
        ConfigError: There is no such point, or `times` is below 1.
    """
    if point not in faults.POINTS:
        raise ConfigError(f"{point!r} is no crash point; there are {', '.join(faults.POINTS)}.")
    if times < 1:
        raise ConfigError(f"The driver cannot be killed after {times} times; give 1 or more.")
    left = [times]

    def count_down() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    faults.arm(point, count_down)


def fit_until_killed(
    make_tuner: Callable[[], Tuner], events: int | None = None, *, point: str = "", times: int = 1, within_s: float = 600.0
) -> bool:
    """Runs `make_tuner().fit()` in a process of its own that is killed (SIGKILL) on its way.

    Args:
        make_tuner: Makes or restores the experiment. It travels by cloudpickle.
        events: Kill the driver when it has put so many events on record.
        point: Or when it comes to this crash point.
        times: How often it comes to that point in all.
        within_s: How long it may take.

    Returns:
        True when it was killed; False when `fit()` had returned before.

    Raises:
        ConfigError: Both or none of `events` and `point` are given, or cannot be.
        TuneError: The process ended otherwise, such as by an exception, which it has printed.
        subprocess.TimeoutExpired: It took longer; it was ended.
    """
    import cloudpickle

    if (events is None) == (not point):
        raise ConfigError("fit_until_killed needs one of events= and point=.")
    where, count = (point, times) if events is None else ("after_event", events)
    with _Travelling(make_tuner):
        data = cloudpickle.dumps((sys.argv, where, count, make_tuner))
    # The search path must stand before what the function needs can be loaded.
    path = f"import sys; sys.path[:] = {[os.path.abspath(entry) for entry in sys.path]!r}"
    statement = f"{path}; import cloudpickle; sys.argv, where, count, make = cloudpickle.load(sys.stdin.buffer)"
    statement += f"; from {__name__} import kill_driver_at; kill_driver_at(where, count); make().fit()"
    done = subprocess.run([sys.executable, "-c", statement], input=data, timeout=within_s, check=False)
    if done.returncode in (0, -signal.SIGKILL):
        return done.returncode != 0
    raise TuneError(f"The driver ended with exit code {done.returncode}, neither killed nor finished; what it printed says why.")


class _Travelling:
    """While it is entered, a function's module travels with it unless another process can import it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module = sys.modules.get(getattr(function, "__module__", ""))
        self._module: ModuleType | None = module if module is not None and not _importable(module.__name__) else None

    def __enter__(self) -> None:
        import cloudpickle

        if self._module is not None and self._module.__name__ not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(self._module)
        else:
            self._module = None

    def __exit__(self, *_: object) -> None:
        import cloudpickle

        if self._module is not None:
            cloudpickle.unregister_pickle_by_value(self._module)


def _importable(name: str) -> bool:
    import importlib.machinery

    top = name.partition(".")[0]
    return name != "__main__" and importlib.machinery.PathFinder.find_spec(top) is not None


class _Fault(NamedTuple):
    """What strikes, where and when."""

    action: str
    iteration: int
    attempt: int | None
    trials: frozenset[int] | None
    after: bool
    error: Exception | None = None

    def strike(self, iteration: int, *, after: bool) -> None:
        """Strikes if this is the moment: row `iteration` is about to be sent, or (`after`) is on record."""
        own = session.current()
        if own is None or (iteration, after) != (self.iteration, self.after) or self.attempt not in (None, own.attempt):
            return
        number = int(own.context.get_trial_id().rpartition("_")[2])
        if self.trials is not None and number not in self.trials:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while self.action == "hang":
            signal.pause()
        raise self.error or RuntimeError(f"a fault was injected at iteration {iteration} of attempt {own.attempt}")


class _FaultySession:
    """A session between a trial's code and its own one."""

    def __init__(self, inner: session.Session, fault: _Fault) -> None:
        self.context = inner.context
        self._inner = inner
        self._fault = fault

    @property
    def attempt(self) -> int:
        return self._inner.attempt

    @property
    def iteration(self) -> int:
        return self._inner.iteration

    def checkpoint(self) -> Checkpoint | None:
        return self._inner.checkpoint()

    def report(self, metrics: dict[str, Any], checkpoint: Checkpoint | None = None) -> None:
        self._fault.strike(self._inner.iteration + 1, after=False)
        self._inner.report(metrics, checkpoint)
        self._fault.strike(self._inner.iteration, after=True)


def _chosen(trials: Iterable[int] | None) -> frozenset[int] | None:
    return None if trials is None else frozenset(trials)


def _faulty(trainable: Any, fault: _Fault) -> Any:
    if fault.iteration < 1 or (fault.attempt is not None and fault.attempt < 1):
        raise ConfigError(f"Iterations and attempts count from 1: {fault.iteration} and {fault.attempt} were given.")
    if isinstance(trainable, type) and issubclass(trainable, Trainable):
        return _faulty_class(trainable, fault)
    if isinstance(trainable, type) or not callable(trainable):
        raise ConfigError(f"{trainable!r} is neither a function nor a subclass of holdfast.Trainable.")
    return _faulty_function(trainable, fault)


def _faulty_function(trainable: Callable[..., Any], fault: _Fault) -> Callable[..., Any]:
    @functools.wraps(trainable, assigned=("__name__", "__doc__"))
    def faulty(*arguments: Any, **named: Any) -> Any:
        own = session.current()
        if own is None:
            return trainable(*arguments, **named)
        session.enter(_FaultySession(own, fault))
        returned = trainable(*arguments, **named)
        if isinstance(returned, GeneratorType):
            return _faulty_rows(returned, own, fault)
        if returned is not None:
            fault.strike(own.iteration + 1, after=False)
        return returned

    return faulty


def _faulty_rows(rows: Generator[Any, Any, Any], own: session.Session, fault: _Fault) -> Generator[Any, None, None]:
    try:
        for row in rows:
            if row is not None:
                fault.strike(own.iteration + 1, after=False)
            yield row
            if row is not None:
                fault.strike(own.iteration, after=True)
    finally:
        rows.close()


def _faulty_class(trainable: type[Trainable], fault: _Fault) -> type[Trainable]:
    class Faulty(trainable):  # type: ignore[misc, valid-type]
        def step(self) -> dict[str, Any]:
            if self.__dict__.get("_faulty_row") == self.iteration:
                fault.strike(self.iteration, after=True)  # the row before is on record, and this attempt's own
            result: dict[str, Any] = super().step()
            self._faulty_row = self.iteration + 1
            fault.strike(self._faulty_row, after=False)
            return result

    Faulty.__name__, Faulty.__doc__ = trainable.__name__, trainable.__doc__
    return Faulty
