"""What a trial reports, made into bytes that may travel.

This module knows what a row may hold and how large it may be. It does not know how a row is sent or counted.
"""

from __future__ import annotations

from numbers import Number
from typing import Any

from holdfast._worker.protocol import LARGEST_ROW
from holdfast.errors import NotSerializable, ReportRefused
from holdfast.values import encode

__all__ = ["as_row", "encode_row"]

_PLAIN = frozenset({int, float, str, bool, type(None), bytes})


def as_row(value: object) -> dict[str, Any] | None:
    """The row that a returned or yielded value stands for; None where it stands for none.

    Raises:
        ReportRefused: It is neither a number nor a dictionary nor None.
    """
    if value is None or isinstance(value, dict):
        return value
    value = _lowered(value)
    if isinstance(value, Number):
        return {"_metric": value}
    raise ReportRefused(
        f"The trainable returned or yielded {type(value).__name__}; it may be a number (reported as '_metric'), "
        "a dictionary of metrics, or None."
    )


def encode_row(metrics: object) -> bytes:
    """The row encoded; NumPy scalars and 0-d tensors become Python's numbers, the rest keeps its type.

    Raises:
        ReportRefused: It is no dictionary, cannot be pickled, or is larger than 16 MiB encoded.
    """
    if not isinstance(metrics, dict):
        raise ReportRefused(
            f"report() takes a dictionary of metrics, such as {{'loss': 0.1}}; it was given {type(metrics).__name__}."
        )
    if not all(type(value) in _PLAIN for value in metrics.values()):
        metrics = {key: _lowered(value) for key, value in metrics.items()}
    try:
        data = encode(metrics)
    except NotSerializable as error:
        raise ReportRefused(
            f"A reported value cannot be pickled: {error} Report numbers, text, or what pickle can take."
        ) from error
    if len(data) > LARGEST_ROW:
        raise ReportRefused(
            f"A reported row takes {len(data)} bytes; the most is {LARGEST_ROW} (16 MiB). "
            "Put large values into a checkpoint, or into a file in the trial's directory."
        )
    return data


def _lowered(value: Any) -> Any:
    """The value with array scalars made Python's, in dictionaries, lists and tuples too.

    An array scalar is whatever has an empty `shape` and an `item()`: NumPy's scalars and 0-d arrays, torch's 0-d tensors.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: _lowered(inner) for key, inner in value.items()}
    if kind is list:
        return [_lowered(inner) for inner in value]
    if kind is tuple:
        return tuple(_lowered(inner) for inner in value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value
