"""What a trial counts beside its rows: timesteps and episodes, and where counters lie in a checkpoint.

This module knows the names of Ray Tune's keys for them. It does not know who counts, or when a checkpoint is saved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from holdfast.checkpoint import MANIFEST

__all__ = ["Tally", "counters_in", "write_counters"]

_COUNTERS = ".tune_metadata"
_COUNTED = frozenset({"timesteps_this_iter", "episodes_this_iter"})


class Tally(NamedTuple):
    """Timesteps and episodes of a trial, counted from the rows that report `timesteps_this_iter`, `episodes_this_iter`.

    Attributes:
        timesteps_total, episodes_total: None until a row reports any.
        timesteps_since_restore: Of this instance or attempt.
    """

    timesteps_total: float | None = None
    episodes_total: float | None = None
    timesteps_since_restore: float = 0

    @classmethod
    def of(cls, counters: Mapping[str, float]) -> Tally:
        """The tally at a checkpoint that was saved with these counters."""
        return cls(counters.get("timesteps_total"), counters.get("episodes_total"))

    def plus(self, result: Mapping[str, Any]) -> Tally:
        """The tally after one more row; itself where the row reports neither count."""
        if _COUNTED.isdisjoint(result):
            return self
        steps, episodes = _number(result.get("timesteps_this_iter")), _number(result.get("episodes_this_iter"))
        return Tally(
            self.timesteps_total if steps is None else (self.timesteps_total or 0) + steps,
            self.episodes_total if episodes is None else (self.episodes_total or 0) + episodes,
            self.timesteps_since_restore + (steps or 0),
        )

    def filled(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """A new row: `result` with the totals of what it reports; what the user gave under their names stays."""
        row: dict[str, Any] = {}
        if result.get("timesteps_this_iter") is not None:
            row = {"timesteps_total": self.timesteps_total, "timesteps_since_restore": self.timesteps_since_restore}
        if result.get("episodes_this_iter") is not None:
            row["episodes_total"] = self.episodes_total
        return {**row, **result}

    def counters(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        kept = {"timesteps_total": self.timesteps_total, "episodes_total": self.episodes_total}
        return {name: count for name, count in kept.items() if count is not None}


def write_counters(directory: str, counters: Mapping[str, float]) -> None:
    """Puts counters beside what an instance has saved by itself."""
    import json

    with open(os.path.join(directory, _COUNTERS), "w", encoding="utf-8") as file:
        json.dump(counters, file)


def counters_in(directory: str) -> dict[str, float]:
    """The counters that lie in a checkpoint: in the manifest of a trial's, or beside what `Trainable.save` saved."""
    import json

    for name in (MANIFEST, _COUNTERS):
        try:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            continue
        return found if name == _COUNTERS else found.get("counters", {})
    return {}


def _number(value: Any) -> float | None:
    """The value as a number that JSON takes; None where it is none."""
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (int, float)) else None
