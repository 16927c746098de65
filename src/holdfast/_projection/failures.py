"""Failures as exceptions. Opened only because somebody asked for a trial's error as an object: this unpickles."""

from __future__ import annotations

import pickle

from holdfast._core.events import Failure
from holdfast.errors import StorageError, TrialFailed, WorkerLost

__all__ = ["exception_in", "revived"]


def exception_in(data: bytes) -> Exception | None:
    """The exception in a pickle; None where this Python cannot bring it back."""
    try:
        loaded = pickle.loads(data)
    except Exception:  # noqa: BLE001 - a user's exception class may raise anything while it is revived
        return None
    return loaded if isinstance(loaded, Exception) else None


def revived(failure: Failure) -> Exception:
    """The user's own exception; one that cannot be brought back is a `TrialFailed` with its message and traceback."""
    if failure.exception:
        error = exception_in(failure.exception)
        if error is not None:
            return error
    if failure.kind == "worker":
        return WorkerLost(failure.message)
    if failure.kind in ("storage", "checkpoint"):
        return StorageError(failure.message)
    return TrialFailed(f"{failure.message}\n{failure.traceback}".rstrip())
