"""TensorBoard's event files: what one is made of, and `TBXLoggerCallback`.

Knows the format (length, checksum, one protocol-buffer message per record) and writes it itself: tensorboardX loads
PyTorch where that is installed, which takes seconds and 200 MB in a driver that needs neither. Refuses to know trials
and which row belongs where, as `rowfile.py` does.

A file holds the version, then what the hyperparameter page shows, then one event per row, so that a row can be replaced.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from holdfast.errors import StorageError
from holdfast.logger.byhand import FileLoggerCallback
from holdfast.logger.lines import flat_cells
from holdfast.logger.rowfile import RowFile
from holdfast.values import flatten, plain

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["NAME", "EventRows", "TBXLoggerCallback", "scalars", "slow_crc32c"]

NAME = "events.out.tfevents.holdfast"
_HEAD = 2  # records before the rows
_LEFT_OUT = frozenset({"config", "pid", "timestamp", "time_total_s", "training_iteration"})
_STRING, _BOOL, _NUMBER = 1, 2, 3  # hyperparameters' DataType


class EventRows(RowFile):
    """One trial's event file.

    Args:
        path: Of the file.
        params: The hyperparameters, flattened or not, for the hyperparameter page.
    """

    def __init__(self, path: str, params: Mapping[str, Any]) -> None:
        super().__init__(path)
        self._params = params

    def _counted(self, data: bytes) -> int:
        return max(0, sum(1 for _ in _records(data)) - _HEAD)

    def _added(self, rows: Sequence[dict[str, Any]]) -> bytes:
        return b"".join(map(_event, rows))

    def _whole(self, rows: Sequence[dict[str, Any]]) -> bytes:
        return self._head(rows[0]) + self._added(rows)

    def _merged(self, data: bytes, keep: int, overlay: Mapping[int, dict[str, Any]], rows: Sequence[dict[str, Any]]) -> bytes:
        records = list(_records(data))[: keep + _HEAD]
        if len(records) < keep + _HEAD:
            raise StorageError(
                f"{self.path} holds {len(records) - _HEAD} rows where {keep} were written: it was changed by somebody else. "
                "The rows are in the journal; restore, and the file is written anew."
            )
        for number, row in overlay.items():
            records[number - 1 + _HEAD] = _event(row)
        if 1 in overlay:
            records[:_HEAD] = [self._head(overlay[1])]
        return b"".join(records) + self._added(rows)

    def _head(self, first: Mapping[str, Any]) -> bytes:
        """What stands before the rows: it follows from the first of them, so that a file written anew is the same."""
        when = _double(1, float(first.get("timestamp") or 0))
        return _record(when + _bytes(3, b"brain.Event:2")) + _record(when + _bytes(5, _hyperparameters(self._params, first)))


class TBXLoggerCallback(FileLoggerCallback):
    """Writes an event file for TensorBoard into each trial's directory: every number in a row, and the hyperparameters.

    Where tensorboardX is installed experiments get this file anyway; with this callback in `RunConfig(callbacks=...)` it writes
    it instead, tensorboardX or not: rows as they are reported, where the automatic file shows a row that was redone after a
    crash in the place of the first.
    """

    def _file(self, trial: Trial) -> RowFile:
        return EventRows(os.path.join(trial.local_path, NAME), trial.evaluated_params)


def scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a row by flattened key, without those that say when and where it was made; truth values are none."""
    for key, value in flat_cells(row).items():
        if type(value) in (int, float) and key not in _LEFT_OUT:
            yield key, _float(value)


def _event(row: Mapping[str, Any]) -> bytes:
    """A row as a record: `Event(wall_time, step, summary)`."""
    step = row.get("timesteps_total") or row.get("training_iteration") or 0
    values = b"".join(_bytes(1, _bytes(1, key.encode()) + b"\x15" + _float32(value)) for key, value in scalars(row))
    return _record(_double(1, float(row.get("timestamp") or 0)) + _varint(2, int(step)) + _bytes(5, values))


def _hyperparameters(params: Mapping[str, Any], row: Mapping[str, Any]) -> bytes:
    """The summary that the hyperparameter page reads: which hyperparameters and metrics there are, and the trial's own."""
    session, infos = b"", b""
    for key, value in flatten(dict(params)).items():
        kind, held = _held(plain(value))
        name = key.encode("utf-8", "replace")
        session += _bytes(1, _bytes(1, name) + _bytes(2, held))
        infos += _bytes(4, _bytes(1, name) + _varint(4, kind))
    metrics = b"".join(_bytes(5, _bytes(1, _bytes(2, key.encode()))) for key, _ in scalars(row))
    told = (("experiment", _bytes(2, infos + metrics)), ("session_start_info", _bytes(3, session)))
    return b"".join(_bytes(1, _plugin_value(f"_hparams_/{tag}", content)) for tag, content in told)


def _plugin_value(tag: str, content: bytes) -> bytes:
    plugin = _bytes(1, _bytes(1, b"hparams") + _bytes(2, content))
    return _bytes(1, tag.encode()) + _bytes(9, plugin)


def _held(value: object) -> tuple[int, bytes]:
    """A hyperparameter's kind, and it as a `google.protobuf.Value`."""
    if isinstance(value, bool):
        return _BOOL, _varint(4, int(value))
    if isinstance(value, (int, float)):
        return _NUMBER, _double(2, _float(value))
    return _STRING, _bytes(3, str(value).encode("utf-8", "replace"))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


# Protocol buffers: a field is its number and kind, then its value.


def _varint(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _length(value % (1 << 64))


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _length(len(value)) + value


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# Records: eight bytes of length and their checksum, the message and its checksum.


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file; what is torn at its end is left out."""
    at = 0
    while at + 16 <= len(data):
        end = at + 16 + int.from_bytes(data[at : at + 8], "little")
        body = data[at + 12 : end - 4]
        if end > len(data) or data[at + 8 : at + 12] != _checksum(data[at : at + 8]) or data[end - 4 : end] != _checksum(body):
            return
        yield data[at:end]
        at = end


def _table() -> Iterable[int]:
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        yield crc


_TABLE = tuple(_table())


def slow_crc32c(data: bytes) -> int:
    """CRC-32C where nothing faster is installed: a microsecond for ten bytes."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


try:
    from crc32c import crc32c as _crc32c
except ImportError:
    _crc32c = slow_crc32c


def _checksum(data: bytes) -> bytes:
    """CRC-32C, masked as TensorFlow does."""
    crc = _crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
