from __future__ import annotations

import random

import pytest

from holdfast._journal.frame import HEADER_SIZE, BadHeader, Frames, Header

HEADER = Header("0123456789abcdef" * 2, epoch=3, segment=2, first=77, salt=0xDEADBEEF)


def payloads(scan) -> list[bytes]:
    return [bytes(record) for record in scan.records]


def test_a_header_comes_back():
    assert len(HEADER.encode()) == HEADER_SIZE == 52
    assert Header.decode(HEADER.encode() + b"what follows") == HEADER


def test_a_header_with_any_bit_changed_or_byte_missing_does_not_read():
    whole = HEADER.encode()
    for at in range(HEADER_SIZE):
        with pytest.raises(BadHeader):
            Header.decode(whole[:at])
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            with pytest.raises(BadHeader):
                Header.decode(bytes(changed))


def test_frames_come_back_in_order_with_their_offsets():
    frames = Frames(1)
    parts = [frames.record(b"a"), frames.record(b"bb" * 500), frames.mark(10, 4), frames.record(b"c")]
    data = b"".join(parts)
    scan = frames.scan(data, 0, len(data))
    assert payloads(scan) == [b"a", b"bb" * 500, b"c"]
    assert scan.offsets == [0, len(parts[0]), len(b"".join(parts[:3]))]
    assert (scan.end, scan.covered) == (len(data), 10)


def test_frames_of_another_salt_zeroes_and_noise_do_not_read():
    mine, other = Frames(1), Frames(2)
    noise = random.Random(1).randbytes(4096)
    for behind in (other.record(b"x" * 50), other.mark(1, 1), bytes(4096), noise, b"\xff" * 100):
        data = mine.record(b"first") + behind + mine.record(b"never reached")
        scan = mine.scan(data, 0, len(data))
        assert payloads(scan) == [b"first"]
        assert scan.end == len(mine.record(b"first"))


def test_a_record_cannot_be_read_as_a_mark_or_the_other_way():
    frames = Frames(5)
    for frame in (frames.record(b"x" * 24), frames.mark(9, 9)):
        changed = bytearray(frame)
        changed[8] ^= ord("R") ^ ord("M")
        assert frames.scan(bytes(changed), 0, len(changed)).end == 0


def test_scanning_stops_where_it_is_told():
    frames = Frames(1)
    first, second = frames.record(b"one"), frames.record(b"two")
    data = first + second
    assert payloads(frames.scan(data, 0, len(data) - 1)) == [b"one"]
    assert payloads(frames.scan(data, len(first), len(data))) == [b"two"]


def test_a_mark_is_found_behind_what_does_not_read():
    frames = Frames(0xFFFFFFFF)
    for noise in (b"", b"\xc1mrk", bytes(5000), random.Random(2).randbytes(999), Frames(7).mark(99, 9)):
        data = noise + frames.mark(3, 1) + noise + frames.mark(2, 1) + noise
        assert frames.covered_behind(data, 0) == 3
        assert frames.covered_behind(data, len(noise) + 9) == 3
        assert frames.covered_behind(data, len(noise) + 10) == 2
    torn = frames.mark(3, 1)
    assert all(frames.covered_behind(torn[:size], 0) == 0 for size in range(len(torn)))
