"""What an actor that runs attempts tells the driver, however it gets there."""

from __future__ import annotations

from typing import Union

import msgspec

from holdfast._core.events import AttemptEnded, CheckpointBroken, CheckpointCommitted, ResultReported

__all__ = ["FromActor", "Placed", "decode_from_actor"]


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


FromActor = Union[Placed, ResultReported, AttemptEnded, CheckpointBroken, CheckpointCommitted]

decode_from_actor = msgspec.msgpack.Decoder(FromActor).decode
