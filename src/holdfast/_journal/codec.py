"""Records as bytes, and the small whole files (claims, seals, snapshots, packs) in their envelope.

Knows msgpack and the envelope. It refuses to know where bytes are kept.

    envelope   magic "HOLDFAST" | version u16 | kind u8 | experiment 16s | crc u32 | payload

An envelope is written whole or not at all (`put_if_absent`), so one that does not read is damage, never a torn write.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from holdfast._core.events import Record
from holdfast._journal.frame import MAGIC, VERSION
from holdfast.errors import JournalError, JournalTooNew

__all__ = ["CLAIM", "PACK", "SEAL", "SNAPSHOT", "decode_record", "encode_record", "unwrap", "wrap"]

CLAIM = ord("C")
SEAL = ord("S")
SNAPSHOT = ord("N")
PACK = ord("P")

_ENVELOPE = struct.Struct("<8sHB16sI")
_BODY = _ENVELOPE.size - 4

encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(Record).decode


def decode_record(payload: bytes | memoryview, file: str, offset: int) -> Record:
    """The record in a payload whose checksum held.

    Raises:
        JournalTooNew: It is none that this holdfast knows.
    """
    try:
        return _decode_record(payload)
    except msgspec.MsgspecError as error:
        problem = f"a sound record that this holdfast does not know ({error})"
        raise JournalTooNew(file, offset, problem, "Use the version of holdfast that wrote it, or a later one.") from error


def wrap(kind: int, experiment_id: str, payload: bytes) -> bytes:
    """`payload` in an envelope."""
    body = _ENVELOPE.pack(MAGIC, VERSION, kind, bytes.fromhex(experiment_id), 0)[:_BODY]
    return body + struct.pack("<I", zlib.crc32(payload, zlib.crc32(body))) + payload


def unwrap(kind: int, experiment_id: str, data: bytes, file: str) -> bytes:
    """The payload of an envelope of this kind and experiment.

    Raises:
        JournalTooNew: It was written by a later version.
        JournalError: It does not read, or belongs elsewhere.
    """
    if len(data) < _ENVELOPE.size:
        raise JournalError(file, 0, f"cut off: {len(data)} bytes are fewer than its envelope has")
    magic, version, found_kind, experiment, crc = _ENVELOPE.unpack_from(data)
    payload = data[_ENVELOPE.size :]
    if magic != MAGIC or zlib.crc32(payload, zlib.crc32(data[:_BODY])) != crc:
        raise JournalError(file, 0, "the checksum does not hold")
    if version > VERSION:
        raise JournalTooNew(file, 0, f"format {version}, written by a newer holdfast", "Upgrade holdfast.")
    if found_kind != kind:
        raise JournalError(file, 0, f"a file of kind {chr(found_kind)!r} where one of kind {chr(kind)!r} belongs")
    if experiment.hex() != experiment_id:
        raise JournalError(file, 0, f"it belongs to experiment {experiment.hex()}, not to {experiment_id}")
    return payload
