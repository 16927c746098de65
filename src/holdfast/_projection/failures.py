"""Failures in words, and as exceptions: that unpickles, because somebody asked for a trial's error as an object."""

from __future__ import annotations

import pickle

from holdfast._core.events import Failure
from holdfast.errors import StorageError, TrialFailed, WorkerLost

__all__ = ["exception_in", "how", "revived"]


def how(failure: Failure, host: str) -> str:
    """In one line how an attempt failed: `oom on host7, signal 9, at most 812.0 MiB of memory`. Unpickles nothing."""
    parts = [f"{failure.kind} on {host}" if host else failure.kind]
    if failure.exit_code is not None:
        parts.append(f"exit code {failure.exit_code}")
    if failure.signal is not None:
        parts.append(f"signal {failure.signal}")
    if failure.peak_memory:
        parts.append(f"at most {failure.peak_memory / 2**20:.1f} MiB of memory")
    return ", ".join(parts)


def exception_in(data: bytes) -> Exception | None:
    """The exception in a pickle; None where this Python cannot bring it back."""
    try:
        loaded = pickle.loads(data)
    except Exception:  # noqa: BLE001 - a user's exception class may raise anything while it is revived
        return None
    return loaded if isinstance(loaded, Exception) else None


def revived(failure: Failure) -> Exception:
    """The user's own exception; one that cannot be brought back is a `TrialFailed` with its message and traceback.

    A process that was lost is a `WorkerLost`, a disk that refused a `StorageError`.
    """
    if failure.exception:
        error = exception_in(failure.exception)
        if error is not None:
            return error
    if failure.kind in ("storage", "checkpoint"):
        return StorageError(failure.message)
    if failure.kind == "code" or (failure.kind == "oom" and failure.traceback):
        return TrialFailed(f"{failure.message}\n{failure.traceback}".rstrip())
    return WorkerLost(failure.message)  # its process was lost or ended, whatever for
