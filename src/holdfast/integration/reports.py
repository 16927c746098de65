"""What the callbacks for training libraries share: which metrics a row gets, and a report with a checkpoint.

Knows `report`. Refuses to know any library.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError
from holdfast.session import report

__all__ = ["Metrics", "chosen", "report_with"]

Metrics = str | list[str] | dict[str, str] | None


def chosen(metrics: Metrics, found: Mapping[str, Any]) -> dict[str, Any]:
    """The row that a callback reports.

    Args:
        metrics: Names to report; as a dictionary, what each is to be called and its name there; None for all.
        found: What the library has.

    Raises:
        ConfigError: There is none of that name.
    """
    if metrics is None:
        return dict(found)
    names = {metrics: metrics} if isinstance(metrics, str) else metrics
    pairs = names if isinstance(names, dict) else {name: name for name in names}
    missing = sorted(set(pairs.values()) - found.keys())
    if missing:
        raise ConfigError(f"metrics={metrics!r}: there is no {', '.join(missing)}; there are {', '.join(sorted(found))}.")
    return {key: found[name] for key, name in pairs.items()}


def report_with(row: dict[str, Any], save: Callable[[str], None] | None) -> None:
    """Reports a row; with `save`, which writes files into a directory, also a checkpoint. Ends the trial as `report` does."""
    if save is None:
        report(row)
        return
    with tempfile.TemporaryDirectory(prefix="holdfast_") as folder:
        save(folder)
        report(row, checkpoint=Checkpoint.from_directory(folder))
