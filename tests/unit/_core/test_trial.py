"""The transition table, walked in full, and what one trial's story says."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from holdfast._core.trial import FINAL, MEANING, SIGNALS, STATES, TABLE, TrialState, next_state
from holdfast.errors import IllegalTransition, InternalError


def trial(state: str = "PENDING") -> TrialState:
    return TrialState("abcde_00000", 0, "train_abcde_00000", "dir", "0", b"\x80", b"\x80", state=state)


@pytest.mark.parametrize(("state", "signal"), list(itertools.product(STATES, SIGNALS)))
def test_every_pair_is_legal_or_raises_and_changes_nothing(state: str, signal: str) -> None:
    it = trial(state)
    before = msgspec.msgpack.encode(it)
    if (state, signal) in TABLE:
        it.move(signal)
        assert it.state == TABLE[state, signal]
        assert it.state in STATES
    else:
        with pytest.raises(IllegalTransition) as caught:
            it.move(signal)
        assert msgspec.msgpack.encode(it) == before
        assert isinstance(caught.value, InternalError)
        assert (caught.value.trial_id, caught.value.state, caught.value.signal) == (it.trial_id, state, signal)
        assert it.story() in str(caught.value)


def test_the_table_names_only_known_states_and_signals() -> None:
    assert {state for state, _ in TABLE} == set(STATES)
    assert {signal for _, signal in TABLE} == set(SIGNALS)
    assert set(TABLE.values()) <= set(STATES)
    assert set(MEANING) == set(STATES)
    assert set(STATES) >= FINAL


def test_an_unknown_signal_is_illegal() -> None:
    with pytest.raises(IllegalTransition):
        next_state(trial(), "exploded")


@pytest.mark.parametrize("state", STATES)
def test_a_new_driver_can_always_take_over(state: str) -> None:
    # Whatever the last driver left: each of the three ways is defined, and a lost attempt is legal afterwards.
    for how in ("resumed", "restarted", "skipped"):
        after = next_state(trial(state), how)
        assert next_state(trial(after), "lost") in STATES


@pytest.mark.parametrize("state", STATES)
def test_only_a_new_driver_or_an_extension_brings_a_finished_trial_back(state: str) -> None:
    for signal in SIGNALS:
        if state in FINAL and TABLE.get((state, signal), state) not in FINAL:
            assert signal in ("resumed", "restarted", "extended")


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {"PENDING"}
    while more := {after for (state, _), after in TABLE.items() if state in reached} - reached:
        reached |= more
    assert reached == set(STATES)
