"""Reads a trial's directory back: the files that loggers wrote, for those who have no journal at hand.

Knows the names and formats of those files, which are Ray Tune's. Unpickles `params.pkl` and `error.pkl`, because a
user asked for that trial's result; never used by the command line.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
from typing import Any, NamedTuple

from holdfast._projection.failures import exception_in
from holdfast.errors import ExperimentNotFound, TrialFailed
from holdfast.storage.opening import open_storage, whereabouts
from holdfast.storage.uri import is_uri
from holdfast.values import unflatten

__all__ = ["TrialDirectory", "read_trial"]


_FILES = frozenset({"result.json", "progress.csv", "params.json", "params.pkl", "error.txt", "error.pkl"})
_WANTED = "none of result.json, progress.csv, params.json, params.pkl"


class TrialDirectory(NamedTuple):
    """What a trial's directory holds.

    Attributes:
        path: Absolute, or a URI.
        rows: Oldest first, nested.
        config: The configuration.
        checkpoints: The names of its checkpoints, oldest first.
        error: The exception, or None.
    """

    path: str
    rows: list[dict[str, Any]]
    config: dict[str, Any]
    checkpoints: list[str]
    error: Exception | None


def read_trial(path: str | os.PathLike[str]) -> TrialDirectory:
    """Reads a trial's directory; of one on a store its files are fetched for that.

    Raises:
        ExperimentNotFound: There is no such directory, or it holds no file of a trial.
        ConfigError: A URI of no such place.
        StorageError: The store refuses.
    """
    where = whereabouts(path)
    if not is_uri(where):
        return _read_here(where)
    import tempfile

    storage = open_storage(where)
    with tempfile.TemporaryDirectory(prefix="holdfast-trial-") as aside:
        for name in storage.names(""):
            if name in _FILES:
                with open(os.path.join(aside, name), "wb") as file:
                    file.write(storage.read(name))
            elif name.startswith("checkpoint_"):
                os.mkdir(os.path.join(aside, name))
        try:
            return _read_here(aside)._replace(path=where)
        except ExperimentNotFound:
            raise ExperimentNotFound(f"{storage.root} holds {_WANTED}: give the place of a trial's directory.") from None


def _read_here(where: str) -> TrialDirectory:
    try:
        names = set(os.listdir(where))
    except (FileNotFoundError, NotADirectoryError):
        raise ExperimentNotFound(f"There is no directory {where}: give the path of a trial's directory.") from None
    if not names & {"result.json", "progress.csv", "params.json", "params.pkl"}:
        raise ExperimentNotFound(f"{where} holds {_WANTED}: give the path of a trial's directory.")
    rows = _rows(where, names)
    config = _config(where, names)
    if config is None:
        config = rows[-1].get("config", {}) if rows else {}
    saved = sorted(name for name in names if name.startswith("checkpoint_") and os.path.isdir(os.path.join(where, name)))
    return TrialDirectory(where, rows, config, saved, _error(where, names))


def _rows(where: str, names: set[str]) -> list[dict[str, Any]]:
    if "result.json" in names:
        with open(os.path.join(where, "result.json"), encoding="utf-8") as file:
            # A last line without its end is one that is being written just now.
            return [json.loads(line) for line in file if line.endswith("\n")]
    if "progress.csv" not in names:
        return []
    with open(os.path.join(where, "progress.csv"), encoding="utf-8", newline="") as file:
        return [_nested({key: _value(text) for key, text in row.items() if text}) for row in csv.DictReader(file)]


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    try:
        return unflatten(flat)
    except ValueError:  # a metric named like a nested one's first part: the columns as they stand
        return flat


def _value(text: str) -> Any:
    """A cell's text as a value: what reads as a number or a truth value is one."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _config(where: str, names: set[str]) -> dict[str, Any] | None:
    if "params.pkl" in names:
        try:
            with open(os.path.join(where, "params.pkl"), "rb") as file:
                loaded = pickle.load(file)
        except Exception:  # noqa: BLE001 - a user's class may raise anything while it is revived; params.json says the rest
            loaded = None
        if isinstance(loaded, dict):
            return loaded
    if "params.json" in names:
        with open(os.path.join(where, "params.json"), encoding="utf-8") as file:
            config = json.load(file)
        return config if isinstance(config, dict) else None
    return None


def _error(where: str, names: set[str]) -> Exception | None:
    if "error.pkl" not in names:
        return None
    with open(os.path.join(where, "error.pkl"), "rb") as file:
        error = exception_in(file.read())
    if error is not None:
        return error
    text = ""
    if "error.txt" in names:
        with open(os.path.join(where, "error.txt"), encoding="utf-8") as file:
            text = file.read()
    return TrialFailed(text or f"the exception in {where}/error.pkl cannot be loaded by this Python")
