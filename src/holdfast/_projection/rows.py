"""Full rows: what a user reported, completed by the keys that Ray Tune fills in.

Knows the names and the order of those keys. Refuses to know: where rows are kept, which of them count, how a value
is encoded (the caller decodes). It stands in the path of every report, so it does no more than build one dictionary.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from holdfast._core.events import ResultReported
from holdfast._core.ids import checkpoint_name

__all__ = ["AUTO_KEYS", "Origin", "Place", "full_row", "own_metrics"]

# What `full_row`, or the worker that counts timesteps and episodes, fills in; representations hide these keys.
AUTO_KEYS = frozenset(
    {
        "checkpoint_dir_name",
        "config",
        "date",
        "done",
        "episodes_total",
        "experiment_id",
        "experiment_tag",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "pid",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timestamp",
        "timesteps_since_restore",
        "timesteps_total",
        "training_iteration",
        "trial_id",
    }
)


class Origin(Protocol):
    """What a row says of the trial that it came from. `TrialState` is one; `Place` is one of an attempt long over."""

    @property
    def trial_id(self) -> str:
        """The trial's id."""

    @property
    def tag(self) -> str:
        """The trial's experiment tag."""

    @property
    def host(self) -> str:
        """The name of the machine."""

    @property
    def ip(self) -> str:
        """The address of the machine."""

    @property
    def pid(self) -> int:
        """The process that reported."""


class Place(NamedTuple):
    """The `Origin` of the rows of one attempt."""

    trial_id: str
    tag: str
    host: str
    ip: str
    pid: int


_second = -1
_date = ""


def _dated(second: int) -> str:
    """Local time as Ray Tune writes it; rows come many to the second, so the newest answer is kept."""
    global _second, _date
    if second != _second:
        text = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(second))
        _second, _date = second, text
        return text
    return _date


def full_row(
    row: ResultReported,
    metrics: dict[str, Any],
    trial: Origin,
    experiment_id: str,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One row as callbacks, loggers and results show it. A key that the user reported keeps the user's value.

    Args:
        row: The row on record.
        metrics: Its decoded metrics; not changed.
        trial: Where it came from.
        experiment_id: Of the birth record.
        config: The decoded config where the row is to hold it; left out otherwise.

    Returns:
        A new dictionary: the user's keys first, then those of `AUTO_KEYS`.
    """
    second = int(row.timestamp)
    saved = row.saved or row.pending
    full = {
        **metrics,
        "timestamp": second,
        "checkpoint_dir_name": None if saved is None else checkpoint_name(saved.index),
        "done": row.done,
        "training_iteration": row.iteration,
        "trial_id": trial.trial_id,
        "date": _dated(second),
        "time_this_iter_s": row.time_this_iter_s,
        "time_total_s": row.time_total_s,
        "pid": trial.pid,
        "hostname": trial.host,
        "node_ip": trial.ip,
        "time_since_restore": row.time_since_restore,
        "iterations_since_restore": row.since_restore,
        "experiment_tag": trial.tag,
        "experiment_id": experiment_id,
    }
    if config is not None:
        full["config"] = config
    if not AUTO_KEYS.isdisjoint(metrics):
        full.update(metrics)
    return full


def own_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the keys that are filled in: what representations show."""
    return {key: value for key, value in row.items() if key not in AUTO_KEYS}
