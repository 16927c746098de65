"""Identities: what things are called, and why no name is ever given twice.

A trial is `<5 hex>_<5 digits>`: the hexadecimal part belongs to the experiment, the number counts its trials. An
order is `<epoch>.<position>.<n>`: the n-th order that the record at `position` caused, with the epoch of the driver
that wrote the record; a record lost with a torn tail takes its orders' ids with it, because a later record at the
same position belongs to a later epoch.
"""

from __future__ import annotations

__all__ = ["MANIFEST", "METADATA", "checkpoint_name", "order_id", "pending_name", "trial_id"]

MANIFEST = ".holdfast_manifest.json"
"""The file beside a kept checkpoint's own that says what they are."""

METADATA = ".metadata.json"
"""The file that holds a checkpoint's metadata, which may change."""


def trial_id(prefix: str, index: int) -> str:
    """The id of the trial with the given number, counted from 0."""
    return f"{prefix}_{index:05d}"


def order_id(epoch: int, position: int, n: int) -> str:
    """The id of the n-th order caused by the record at `position`."""
    return f"{epoch}.{position}.{n}"


def checkpoint_name(index: int) -> str:
    """The directory name of a trial's checkpoint with the given index, as in Ray Tune."""
    return f"checkpoint_{index:06d}"


def pending_name(index: int) -> str:
    """The directory name under which a checkpoint's staged files wait to be made durable; renamed to `checkpoint_name`."""
    return f".pending-{index:06d}"
