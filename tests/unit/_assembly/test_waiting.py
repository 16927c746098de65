"""When a warning says why nothing is started, and when it holds its tongue."""

from __future__ import annotations

import pytest

from holdfast._assembly.waiting import WaitingFollower
from holdfast._core.commands import AskSearcher, StartAttempt
from holdfast._core.controller import Controller
from holdfast._core.events import (
    AttemptStarted,
    EpochStarted,
    Event,
    ExperimentCreated,
    Record,
    RequestReceived,
    TrialSuggested,
)
from holdfast._core.policy import Policy, Resume


class Play:
    """An experiment on four CPUs and its follower."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, threshold: str | None = None) -> None:
        if threshold is not None:
            monkeypatch.setenv("TUNE_WARN_INSUFFICIENT_RESOURCE_THRESHOLD_S", threshold)
        self.controller = Controller()
        self.said: list[str] = []
        self.follower = WaitingFollower(self.controller, self.said.append)
        policy = Policy(num_samples=3)
        self.happens(ExperimentCreated("0" * 32, "exp", "train", "00000", 1, policy, {}, [], {}, "host:1:1"))
        self.happens(EpochStarted(1, {"cpu": 4.0}, Resume(), "simulated", "host", 1, "boot", 1, {}, {}))

    def happens(self, event: Event) -> None:
        record = Record(self.controller.state.position + 1, 1, 0.0, 0.0, event)
        self.controller.handle(record)
        self.follower.hear(record)

    def suggest(self, cpus: float) -> None:
        (order,) = [order for order in self.controller.open_orders.values() if isinstance(order, AskSearcher)]
        name = f"trial_{len(self.controller.state.trials)}"
        self.happens(TrialSuggested(order.order, 0, name, b"", b"", "", name, name, {"cpu": cpus}))

    def begin(self) -> None:
        starts = [order for order in self.controller.open_orders.values() if isinstance(order, StartAttempt)]
        self.happens(AttemptStarted(starts[-1].order, starts[-1].trial_id, starts[-1].attempt, "host", "127.0.0.1", 1))


def test_a_large_trial_that_waits_while_there_is_room_for_small_ones_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.suggest(3)
    play.begin()
    play.suggest(4)
    play.follower.tick(0.0)
    play.follower.tick(59.0)
    assert play.said == []
    play.controller.state.by_index.append("small")
    small = play.controller.state.trial("trial_0")
    play.controller.state.trials["small"] = type(small)("small", 2, "small", "small", "", b"", b"", resources={"cpu": 1.0})
    play.controller.state.waiting.add(2)
    play.follower.tick(60.0)
    play.follower.tick(200.0)
    assert len(play.said) == 1
    assert "nothing was started in 60 s: trial trial_1 asks for {'cpu': 4}, free are {'cpu': 1.0}" in play.said[0]


def test_trials_that_wait_because_all_is_taken_are_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.suggest(4)
    play.begin()
    play.suggest(4)
    for now in (0.0, 100.0, 1000.0):
        play.follower.tick(now)
    assert play.said == []


def test_an_attempt_that_does_not_begin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.suggest(4)
    play.follower.tick(0.0)
    play.follower.tick(61.0)
    assert "trial trial_0 was given its place and has not begun" in play.said[0]
    play.begin()
    play.follower.tick(62.0)
    play.follower.tick(1000.0)
    assert len(play.said) == 1


def test_a_pause_that_somebody_asked_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, threshold="5")
    play.happens(RequestReceived("r1", "pause"))
    play.suggest(1)
    play.follower.tick(0.0)
    play.follower.tick(5.0)
    assert "the experiment is paused by request" in play.said[0]


def test_nothing_is_said_where_nobody_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, threshold="0")
    play.suggest(4)
    play.follower.tick(0.0)
    play.follower.tick(1e9)
    assert play.said == []
