"""What is told to the driver of an actor that runs attempts, however it gets there."""

from __future__ import annotations

from typing import Union

import msgspec

from holdfast._core.events import AttemptEnded, CheckpointBroken, CheckpointCommitted, ResultReported

__all__ = ["AllSaid", "FromActor", "Placed", "decode_from_actor"]


class Placed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An attempt has begun.

    Attributes:
        node, worker: Ray's ids of where.
        host, ip, pid: The process.
        away: Whether it runs in a directory of the node's own, which the driver does not see.
    """

    trial_id: str
    attempt: int
    node: str
    worker: str
    host: str
    ip: str
    pid: int
    away: bool


class AllSaid(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What the driver has the mailbox bring when an attempt's process is gone: all that the attempt told has come before."""

    trial_id: str
    attempt: int


FromActor = Union[Placed, AllSaid, ResultReported, AttemptEnded, CheckpointBroken, CheckpointCommitted]

decode_from_actor = msgspec.msgpack.Decoder(FromActor).decode
