from __future__ import annotations

import signal
import threading

import pytest

from holdfast._runtime.signals import Signals, exit_code


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    """Begins with Python's own handler for Ctrl+C, which a process has not that was started in the background."""
    found = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
    signal.signal(signal.SIGINT, found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_noted_and_wakes_the_loop(number: int) -> None:
    woken = []
    with Signals() as signals:
        signals.tell(lambda: woken.append(number))
        assert signals.caught == 0
        signal.raise_signal(number)
        assert (signals.caught, woken) == (number, [number])


def test_the_second_is_counted_and_the_third_ctrl_c_is_pythons() -> None:
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert (signals.caught, signals.count) == (signal.SIGINT, 2)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_first_of_two_different_ones_counts() -> None:
    with Signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert signals.caught == signal.SIGTERM


def test_a_users_own_handler_comes_back() -> None:
    def own(number, frame) -> None:
        """The user's."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        with Signals():
            assert signal.getsignal(signal.SIGTERM) is not own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_nothing_is_installed() -> None:
    seen = []

    def elsewhere() -> None:
        before = signal.getsignal(signal.SIGINT)
        with Signals() as signals:
            seen.append(signal.getsignal(signal.SIGINT) is before and signals.caught == 0)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert seen == [True]


def test_ctrl_c_can_be_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_DISABLE_SIGINT_HANDLER", "1")
    with Signals() as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert signals.caught == signal.SIGTERM


@pytest.mark.parametrize(
    ("caught", "requeue", "code"),
    [
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGUSR1, False, 138),
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, True, 75),
        (signal.SIGUSR1, True, 75),
    ],
)
def test_the_exit_code_says_what_ended_the_run(caught: int, requeue: bool, code: int) -> None:
    assert exit_code(caught, requeue=requeue) == code
