"""Every event comes back from its bytes as it was, whatever is in its fields."""

from __future__ import annotations

import math
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast._core.events import Event, Failure, Record, Saved
from holdfast._core.policy import Policy, Resume
from holdfast._journal.codec import decode_record, encode_record
from holdfast._journal.frame import Frames

pytestmark = pytest.mark.slow

CLASSES = get_args(Event)
integers = st.integers(-(2**63), 2**64 - 1)
st.register_type_strategy(int, integers)
st.register_type_strategy(float, st.floats(allow_nan=False))


def filled(struct: type) -> st.SearchStrategy:
    """A struct with every field drawn, those with a default too."""
    return st.builds(struct, **{field.name: st.from_type(field.type) for field in msgspec.structs.fields(struct)})


for inner in (Policy, Resume, Saved, Failure):
    st.register_type_strategy(inner, filled(inner))


def records(event: type) -> st.SearchStrategy[Record]:
    times = st.floats(allow_nan=False)
    return st.builds(Record, position=integers, epoch=integers, time=times, wall=st.floats(), event=filled(event))


@pytest.mark.parametrize("event", CLASSES, ids=lambda event: event.__name__)
def test_each_event_comes_back(event):
    @settings(max_examples=30)
    @given(records(event))
    def comes_back(record: Record) -> None:
        payload = encode_record(record)
        again = decode_record(payload, "f", 0)
        assert type(again.event) is type(record.event)
        assert again.event == record.event
        assert (again.position, again.epoch, again.time) == (record.position, record.epoch, record.time)
        assert again.wall == record.wall or math.isnan(record.wall)
        assert encode_record(again) == payload

    comes_back()


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.integers(0, 2**32 - 1), st.data())
def test_frames_cut_anywhere_read_up_to_the_cut(payloads, salt, data):
    frames = Frames(salt)
    ends = [0]
    whole = b""
    for payload in payloads:
        whole += frames.record(payload)
        ends.append(len(whole))
    cut = data.draw(st.integers(0, len(whole)))
    scan = frames.scan(whole[:cut], 0, cut)
    assert scan.end == max(end for end in ends if end <= cut)
    assert [bytes(record) for record in scan.records] == payloads[: ends.index(scan.end)]
