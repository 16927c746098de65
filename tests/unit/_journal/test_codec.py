from __future__ import annotations

import msgspec
import pytest

from holdfast._journal.codec import CLAIM, SEAL, decode_record, unwrap, wrap
from holdfast.errors import JournalError, JournalTooNew

ID = "0123456789abcdef" * 2


def test_an_envelope_comes_back():
    for payload in (b"", b"x", bytes(range(256)) * 9):
        assert unwrap(CLAIM, ID, wrap(CLAIM, ID, payload), "f") == payload


def test_any_change_to_an_envelope_is_found():
    whole = wrap(CLAIM, ID, b"payload")
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            with pytest.raises(JournalError, match="the file at byte 0"):
                unwrap(CLAIM, ID, bytes(changed), "the file")
        with pytest.raises(JournalError):
            unwrap(CLAIM, ID, whole[:at], "the file")


def test_one_of_another_kind_or_experiment_is_refused():
    with pytest.raises(JournalError, match="kind 'S'"):
        unwrap(CLAIM, ID, wrap(SEAL, ID, b""), "f")
    with pytest.raises(JournalError, match="belongs to experiment"):
        unwrap(CLAIM, ID, wrap(CLAIM, ID[::-1], b""), "f")


def test_a_record_of_an_unknown_event_asks_for_a_later_version():
    payload = msgspec.msgpack.encode([5, 1, 0.0, 0.0, ["SomethingNew", 1]])
    with pytest.raises(JournalTooNew, match=r"at byte 9: .*does not know"):
        decode_record(payload, "f", 9)


def test_a_record_with_a_field_that_a_later_version_added_is_read():
    record = decode_record(msgspec.msgpack.encode([5, 1, 0.0, 0.0, ["Woke", "o", "a later field"]]), "f", 0)
    assert record.event.order == "o"
