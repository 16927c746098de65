"""The courier: what it brings, in which order, and what it does when a tracker fails."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from holdfast.logger import tracker
from holdfast.logger.tracker import Courier, Delivery, TrackerCallback, run_key


class Told(TrackerCallback):
    """Remembers its calls; fails as often as it is told to."""

    def __init__(self, has: int = 0) -> None:
        self.calls: list[tuple] = []
        self.failures = 0
        self.has = has
        self.hang = threading.Event()
        self.hang.set()

    def note(self, *call: object) -> None:
        assert self.hang.wait(10)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("down")
        self.calls.append(call)

    def setup(self, *args, **info) -> None:
        self.note("setup", info["num_samples"])

    def log_trial_start(self, trial) -> None:
        self.note("start", trial.name)

    def rows_sent(self, trial) -> int:
        return self.has

    def log_trial_result(self, iteration, trial, result) -> None:
        self.note("row", iteration, result["loss"])

    def log_trial_save(self, trial) -> None:
        self.note("save")

    def log_trial_end(self, trial, failed=False) -> None:
        self.note("end", failed)

    def close(self) -> None:
        self.calls.append(("close",))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(tracker, "_FIRST_PAUSE_S", 0.001)


def deliveries(rows: int) -> list[Delivery]:
    trial = SimpleNamespace(name="t")
    made = [Delivery(0, "start", "run", trial)]
    made += [Delivery(n, "row", "run", trial, n, lambda n=n: {"loss": n}) for n in range(1, rows + 1)]
    return [*made, Delivery(rows + 1, "end", "run", trial, failed=True)]


def courier(told: Told):
    said: list[str] = []
    ended: list[int] = []
    return Courier(told, {"num_samples": 4}, said.append, ended.append), said, ended


def test_deliveries_come_in_order_and_only_durable_ones():
    told = Told()
    one, said, ended = courier(told)
    one.take(deliveries(3))
    one.release(2)
    assert one.close(5.0) == 2
    assert told.calls == [("setup", 4), ("start", "t"), ("row", 1, 1), ("row", 2, 2), ("close",)]
    assert ended == []
    assert said == ["Told has not taken 2 of what it is sent (it is slow); nothing is lost: restore, and it is sent."]


def test_rows_that_the_tracker_has_are_passed_over():
    told = Told(has=2)
    one, said, ended = courier(told)
    one.take(deliveries(3))
    one.release(9)
    assert one.close(5.0) == 0
    assert told.calls == [("setup", 4), ("start", "t"), ("row", 3, 3), ("end", True), ("close",)]
    assert (said, ended) == ([], [4])


@pytest.mark.parametrize("failures", [1, 5])
def test_what_fails_is_tried_again_and_said_once(failures):
    told = Told()
    told.failures = failures
    one, said, _ = courier(told)
    one.take(deliveries(2))
    one.release(9)
    assert one.close(5.0) == 0
    assert [call[0] for call in told.calls] == ["setup", "start", "row", "row", "end", "close"]
    assert said == ["Told fails, and is tried again: ConnectionError: down", "Told works again."]


def test_a_tracker_that_stays_down_is_given_up_in_time():
    told = Told()
    told.failures = 10**9
    one, said, _ = courier(told)
    one.take(deliveries(2))
    one.release(9)
    assert one.close(0.05) == 4
    assert said[-1].startswith("Told has not taken 4 of what it is sent (ConnectionError: down)")


def test_a_call_that_hangs_is_waited_for_no_longer_and_nothing_comes_after_it():
    told = Told()
    told.hang.clear()
    one, _, _ = courier(told)
    one.take(deliveries(2))
    one.release(9)
    assert one.close(0.01) == 4
    told.hang.set()
    one._thread.join(10)
    assert told.calls == [("setup", 4), ("start", "t"), ("close",)]  # the delivery that it was in


def test_a_run_is_named_by_its_experiment_and_directory():
    trial = SimpleNamespace(experiment_id="e", local_path="/a/exp/train_0")
    moved = SimpleNamespace(experiment_id="e", local_path="/b/copy/train_0")
    anew = SimpleNamespace(experiment_id="e", local_path="/a/exp/train_0_restart1")
    assert run_key(trial) == run_key(moved) != run_key(anew)
    assert len(run_key(trial)) == 40
