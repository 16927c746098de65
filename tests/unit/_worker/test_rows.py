"""What may be reported, and as what it travels."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from holdfast import values
from holdfast._worker.protocol import LARGEST_ROW
from holdfast._worker.rows import as_row, encode_row
from holdfast.errors import ReportRefused


class Scalar:
    """Looks as a 0-d tensor does."""

    shape = ()

    def item(self) -> float:
        return 2.5


def test_scalars_become_pythons_and_the_rest_keeps_its_type() -> None:
    row = {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "z": np.array(4.0), "t": Scalar()}
    decoded: Any = values.decode(
        encode_row({**row, "in": {"x": [np.float64(1)]}, "pair": (1, np.int8(2)), "nan": float("nan"), "none": None})
    )
    assert [type(decoded[key]) for key in "fibzt"] == [float, int, bool, float, float]
    assert decoded["in"] == {"x": [1.0]}
    assert decoded["pair"] == (1, 2)
    assert decoded["nan"] != decoded["nan"]
    array = values.decode(encode_row({"a": np.arange(3)}))["a"]
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("row", [None, 1, [1], "text", (("a", 1),)])
def test_what_is_no_dictionary_is_refused(row: object) -> None:
    with pytest.raises(ReportRefused, match="dictionary"):
        encode_row(row)


def test_what_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(ReportRefused, match="pickled"):
        encode_row({"lock": threading.Lock()})


def test_a_row_may_be_as_large_as_the_bound() -> None:
    overhead = len(encode_row({"a": bytes(2**16)})) - 2**16
    assert len(encode_row({"a": bytes(LARGEST_ROW - overhead)})) == LARGEST_ROW
    with pytest.raises(ReportRefused, match="16 MiB"):
        encode_row({"a": bytes(LARGEST_ROW - overhead + 1)})


@pytest.mark.parametrize(
    ("value", "row"),
    [(0, {"_metric": 0}), (True, {"_metric": True}), (np.float64(1.5), {"_metric": 1.5}), (None, None), ({}, {})],
)
def test_a_returned_value_as_a_row(value: object, row: object) -> None:
    assert as_row(value) == row


@pytest.mark.parametrize("value", ["text", [1], object(), np.arange(2)])
def test_a_returned_value_that_is_no_row_is_refused(value: object) -> None:
    with pytest.raises(ReportRefused, match="_metric"):
        as_row(value)
