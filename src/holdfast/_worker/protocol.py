"""What driver and worker say to each other, and how it is framed.

A frame is four bytes of length (little endian) and one msgpack message. Rows are numbered in their branch and answered
by that number. Nothing here knows sockets, processes or what a message leads to.
"""

from __future__ import annotations

import struct
from typing import Protocol, Union

import msgspec

from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointBroken, CheckpointCommitted, ResultReported
from holdfast.errors import InternalError

__all__ = [
    "LARGEST_ROW",
    "Answer",
    "Begun",
    "Channel",
    "Devices",
    "DriverGone",
    "FrameReader",
    "FromWorker",
    "ToWorker",
    "Workplace",
    "decode_from_worker",
    "decode_place",
    "decode_to_worker",
    "encode_place",
    "frame",
    "staging_prefix",
]

LARGEST_ROW = 16 * 1024 * 1024
_LARGEST_FRAME = 1024 * 1024 * 1024
_LENGTH = struct.Struct("<I")


class Workplace(msgspec.Struct, frozen=True, kw_only=True):
    """What every process of an engine knows from its start: `engines.base.Job` and what the engine adds to it.

    Attributes:
        experiment_dir: Local: where attempts run and their logs are.
        storage: What `open_storage` takes for the place where checkpoints and definitions are kept; for a local experiment
            the same as `experiment_dir`.
        preload: Names of installed modules that the trainable needs.
        spawn: Whether each attempt gets a fresh interpreter.
        log_bytes: How large a log grows before it is rotated; 0: without bound.
        nonce: Drawn per engine; part of the names of its staging directories.
        upload: "sync" or "async": whether checkpoints are durable when the row that came with them is sent.
        threads: Variables that bound the threads of libraries and that the user has not set: they say how many CPUs a trial has.
    """

    experiment_dir: str
    storage: str
    storage_timeout_s: float = 60.0
    experiment_name: str
    trainable: bytes
    seed: int
    working_dir: str
    sys_path: list[str]
    chdir: bool
    log_to_file: tuple[str, str] | None
    reuse_workers: bool
    references: dict[str, bytes] = {}
    class_trainable: bool = False
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool = False
    grace_s: float = 600.0
    begin_from: str = ""
    export_formats: tuple[str, ...] = ()
    preload: list[str]
    spawn: bool
    nonce: str
    log_bytes: int = 0
    upload: str = "sync"
    threads: tuple[str, ...] = ()


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A worker has taken up an attempt."""

    trial_id: str
    attempt: int
    pid: int


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The decision on row `number`; `save` asks for a checkpoint of it."""

    trial_id: str
    attempt: int
    number: int
    action: str
    save: bool = False


class Devices(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The GPUs of the attempts that follow, as `CUDA_VISIBLE_DEVICES` names them."""

    visible: str


ToWorker = Union[StartAttempt, Answer, Devices]
FromWorker = Union[Begun, ResultReported, AttemptEnded, CheckpointBroken, CheckpointCommitted]


class DriverGone(BaseException):
    """There is nobody left to report to. It is no `Exception`, so that what runs a trial lets it pass, cleaning up."""


class Channel(Protocol):
    """How the code that runs a trial reaches the driver."""

    def tell(self, message: FromWorker) -> None:
        """Sends what needs no answer."""

    def ask(self, row: ResultReported) -> Answer:
        """Sends a row; returns what answers it."""


_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
decode_place = msgspec.msgpack.Decoder(Workplace).decode
encode_place = _encoder.encode
decode_to_worker = _to_worker.decode
decode_from_worker = _from_worker.decode


def frame(*messages: ToWorker | FromWorker) -> bytearray:
    """The messages, each with its length before it."""
    buffer = bytearray(64)
    end = 0
    for message in messages:
        _encoder.encode_into(message, buffer, end + 4)
        _LENGTH.pack_into(buffer, end, len(buffer) - end - 4)
        end = len(buffer)
    return buffer


class FrameReader:
    """Cuts a stream of bytes into message bodies."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[memoryview]:
        """The bodies that `data` completes, in order.

        Raises:
            InternalError: The stream is no stream of frames.
        """
        if not self._held:
            size = len(data)
            if size > 4 and _LENGTH.unpack_from(data)[0] == size - 4:
                return [memoryview(data)[4:]]
        self._held += data
        if len(self._held) < 4 or len(self._held) < self._wanted(0):
            return []
        whole = bytes(self._held)
        bodies, start, view = [], 0, memoryview(whole)
        while len(whole) - start >= 4:
            end = start + self._wanted(start)
            if end > len(whole):
                break
            bodies.append(view[start + 4 : end])
            start = end
        self._held = bytearray(view[start:])
        return bodies

    def _wanted(self, start: int) -> int:
        length: int = _LENGTH.unpack_from(self._held, start)[0]
        if length > _LARGEST_FRAME:
            raise InternalError(f"A frame of {length} bytes between driver and worker; the largest is {_LARGEST_FRAME}.")
        return length + 4


def staging_prefix(attempt: int, nonce: str) -> str:
    """How the names of an attempt's staging directories begin, below the trial's directory."""
    return f".staging-{attempt}-{nonce}-"
