"""A trial as users see it: what callbacks, loggers, schedulers and stoppers are handed.

Shows the fold of the journal at the moment of the call and can change nothing. One object stands for one trial in
all calls of a run; it is made when it is first handed out, so that trials nobody asks about stay small.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast import values
from holdfast._core.ids import checkpoint_name
from holdfast._core.policy import Policy
from holdfast._core.trial import PAUSED, PAUSING, RUNNING, STOPPING, Inherited, TrialState
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError
from holdfast.resources import PlacementGroupFactory
from holdfast.storage.opening import inside
from holdfast.storage.uri import bare

__all__ = ["Surroundings", "Trial", "aggregate"]

Load = Callable[[str], object]
References = Mapping[str, values.Reference]

_SHOWN = {STOPPING: RUNNING, PAUSING: PAUSED}


class Surroundings:
    """What all trials of an experiment share.

    Attributes:
        path: Where the experiment is, as `open_storage` takes it: its directory, absolute, or a URI.
        local: Below which directory of this machine trials have their own; `path` where that is local.
        experiment_id: Its id.
        trainable_name: What its trainable is called.
        policy: The job's rules: what one trial is given is among them.
        load: Brings back a stored object by the sha256 of its pickle.
        row: Gives the newest row of a trial as users see it, decoded and with the auto-filled keys.
        references: By place, what `put` keeps for configurations.
        change: Takes (trial, config, tag, resources) as a scheduler's order.
    """

    def __init__(
        self,
        path: str,
        experiment_id: str,
        trainable_name: str,
        policy: Policy,
        load: Load,
        row: Callable[[TrialState], dict[str, Any]],
        references: References | None = None,
    ) -> None:
        self.path = self.local = path
        self.experiment_id = experiment_id
        self.trainable_name = trainable_name
        self.policy = policy
        self.load = load
        self.row = row
        self.references = references
        self.change: Callable[..., None] = _refuse_change


class Trial:
    """One trial, read-only.

    Hashable and comparable by its id; a pickled one is a copy that no longer follows the experiment.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    TERMINATED = "TERMINATED"
    ERROR = "ERROR"

    def __init__(self, state: TrialState, around: Surroundings) -> None:
        self._state = state
        self._around = around
        self._config: tuple[bytes, dict[str, Any]] | None = None
        self._last: tuple[object, bytes, dict[str, Any]] | None = None
        self._aggregates: dict[str, _Aggregate] = {}

    @property
    def trial_id(self) -> str:
        """The trial's id, such as `3f2a1_00004`."""
        return self._state.trial_id

    @property
    def trainable_name(self) -> str:
        """What the trainable is called."""
        return self._around.trainable_name

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, every value of the type that it was given with. Changing it changes nothing."""
        if self._config is None or self._config[0] is not self._state.config:
            around = self._around
            self._config = (self._state.config, values.decode(self._state.config, around.load, around.references))
        return self._config[1]

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self.set_config(config)

    def set_config(self, config: dict[str, Any]) -> None:
        """Has the trial run with another configuration from its next start on. Only for schedulers, while they are called.

        Raises:
            ConfigError: Nobody takes orders now.
        """
        self._around.change(self, config=config)

    def set_experiment_tag(self, experiment_tag: str) -> None:
        """Gives the trial another tag from its next start on; otherwise as `set_config`."""
        self._around.change(self, tag=experiment_tag)

    def update_resources(self, resources: PlacementGroupFactory) -> None:
        """Has the trial be given something else from its next start on; otherwise as `set_config`."""
        self._around.change(self, resources=resources)

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """The flattened keys that the search space left open, with their values."""
        decoded: dict[str, Any] = values.decode(self._state.evaluated, self._around.load, self._around.references)
        return decoded

    @property
    def experiment_tag(self) -> str:
        """The trial's number and open keys, such as `3_lr=0.1`."""
        return self._state.tag

    @property
    def status(self) -> str:
        """`PENDING`, `RUNNING`, `PAUSED`, `TERMINATED` or `ERROR`."""
        state = self._state.state
        return _SHOWN.get(state, state)

    @property
    def last_result(self) -> dict[str, Any]:
        """The newest row with its auto-filled keys; empty before the first."""
        state = self._state
        if state.last is None:
            return {}
        if self._last is None or self._last[0] is not state.last or self._last[1] is not state.changes:
            self._last = (state.last, state.changes, self._around.row(state))
        return self._last[2]

    @property
    def metric_analysis(self) -> dict[str, dict[str, float]]:
        """Per numeric metric: max, min, avg, last, last-5-avg, last-10-avg over the rows heard in this run of the driver."""
        return {name: aggregate.summary() for name, aggregate in self._aggregates.items()}

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint on record; of a changed trial that has none of its own since, the one that it goes on from."""
        point = self._state.resume_point()
        if point is None or point.saved is None:
            return None
        dirname = point.source if isinstance(point, Inherited) else self._state.dirname
        return Checkpoint(inside(self._around.path, f"{dirname}/{checkpoint_name(point.saved.index)}"))

    @property
    def path(self) -> str:
        """The trial's directory, absolute; in a cloud bucket and path, without scheme."""
        return bare(inside(self._around.path, self._state.dirname))

    @property
    def local_path(self) -> str:
        """A directory on this machine for the trial's files: its own, or one whose files the driver puts to the store."""
        return os.path.join(self._around.local, self._state.dirname)

    logdir = local_path

    @property
    def placement_group_factory(self) -> PlacementGroupFactory:
        """What the trial is given."""
        state, policy = self._state, self._around.policy
        if state.resources is None:
            return PlacementGroupFactory.of(policy.request, policy.placement)
        return PlacementGroupFactory.of(state.resources, state.placement)

    @property
    def num_failures(self) -> int:
        """Failed attempts that count against `max_failures`."""
        return self._state.failures

    @property
    def attempt(self) -> int:
        """The number of the newest attempt, from 1; 0 before the first."""
        return self._state.attempt

    @property
    def experiment_id(self) -> str:
        """The experiment's id."""
        return self._around.experiment_id

    def is_finished(self) -> bool:
        """Whether the trial is TERMINATED or ERROR."""
        return self._state.state in (self.TERMINATED, self.ERROR)

    def __reduce__(self) -> tuple[Any, ...]:
        around = self._around
        fixed = (around.path, around.experiment_id, around.trainable_name, around.policy)
        return _revive, (msgspec.msgpack.encode(self._state), fixed, self.config, self.last_result)

    def __hash__(self) -> int:
        return hash(self._state.trial_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and other.trial_id == self.trial_id

    def __str__(self) -> str:
        return self._state.name

    def __repr__(self) -> str:
        return f"<Trial {self._state.name} {self.status}>"


def aggregate(trial: Trial, flat_row: dict[str, Any]) -> None:
    """Takes a flattened row into a trial's `metric_analysis`."""
    for name, value in flat_row.items():
        if type(value) in (int, float):
            trial._aggregates.setdefault(name, _Aggregate()).add(value)


def _refuse_change(trial: Trial, **_: Any) -> None:
    raise ConfigError(f"{trial} is a picture: only a scheduler changes trials, while it is asked or told something.")


class _Aggregate:
    """Running figures of one metric."""

    __slots__ = ("count", "high", "low", "recent", "total")

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self.low, self.high = float("inf"), float("-inf")
        self.recent: deque[float] = deque(maxlen=10)

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.recent.append(value)

    def summary(self) -> dict[str, float]:
        last = list(self.recent)
        return {
            "max": self.high,
            "min": self.low,
            "avg": self.total / self.count,
            "last": last[-1],
            "last-5-avg": sum(last[-5:]) / len(last[-5:]),
            "last-10-avg": sum(last) / len(last),
        }


def _revive(state: bytes, fixed: tuple[Any, ...], config: dict[str, Any], last: dict[str, Any]) -> Trial:
    """A copy of a trial in another process: what it showed when it was pickled."""

    def refuse(sha: str) -> object:
        raise KeyError(sha)

    path, experiment_id, trainable_name, policy = fixed
    around = Surroundings(path, experiment_id, trainable_name, policy, refuse, lambda _: last)
    trial = Trial(msgspec.msgpack.decode(state, type=TrialState), around)
    trial._config = (trial._state.config, config)
    return trial
