"""Frames come out as they went in, however the stream is cut."""

from __future__ import annotations

import random

import pytest

from holdfast._core.events import AttemptEnded, Failure
from holdfast._worker.protocol import Answer, Begun, FrameReader, decode_from_worker, decode_to_worker, frame
from holdfast.errors import InternalError

MESSAGES = [
    Begun("abcde_00000", 1, 77),
    AttemptEnded("abcde_00000", 1, "failed", Failure("code", "x" * 70_000)),
    Begun("abcde_00001", 2, 78),
    AttemptEnded("abcde_00001", 2, "completed"),
]


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_of_the_stream_gives_the_same_messages(seed: int) -> None:
    generator = random.Random(seed)
    stream = b"".join(bytes(frame(message)) for message in MESSAGES)
    reader, heard = FrameReader(), []
    while stream:
        size = generator.choice([1, 2, 3, 5, 100, 40_000, len(stream)])
        heard += [decode_from_worker(body) for body in reader.feed(stream[:size])]
        stream = stream[size:]
    assert heard == MESSAGES, f"seed {seed}"


def test_one_whole_frame_is_taken_as_it_is() -> None:
    answer = Answer("abcde_00000", 1, 5, "STOP")
    assert [decode_to_worker(body) for body in FrameReader().feed(bytes(frame(answer)))] == [answer]


def test_messages_framed_together_are_their_frames_in_a_row() -> None:
    for some in (MESSAGES, MESSAGES[::-1], MESSAGES[:1], MESSAGES[2:]):
        assert frame(*some) == b"".join(frame(message) for message in some)


def test_what_is_no_frame_is_an_error() -> None:
    with pytest.raises(InternalError, match="frame"):
        FrameReader().feed(b"\xff\xff\xff\xff rubbish")
