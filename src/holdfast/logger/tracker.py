"""`TrackerCallback`: what loggers are made from that send to a tracker outside, and the thread that each of them has.

Knows deliveries, in the order of the journal, and whether the tracker took them. Refuses to know the journal, and where
a delivery comes from: `_assembly/tracking.py` makes them of durable records only.

A delivery that fails is tried again, with growing pauses, until it is taken or the driver ends; what was not taken then
is made again, and tried again, by the next driver. So a tracker that is down holds nobody up, and misses nothing.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from holdfast.logger.base import LoggerCallback

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["Courier", "Delivery", "TrackerCallback", "run_key"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


class TrackerCallback(LoggerCallback):
    """Base class of loggers that send to a tracker outside.

    In an experiment their methods are called behind the report's path, in a thread of their own, with durable rows only, and
    `iteration` is the row's number in its run, from 1. A row that is redone after a crash is not sent again. Whatever they
    raise is reported, and the call made again later.
    """

    def target(self) -> str:
        """Where it sends to: a tracker that is given another target by a restore is sent everything."""
        return ""

    def rows_sent(self, trial: Trial) -> int:
        """How many rows of the trial's run the tracker has, asked after `log_trial_start`; those are not sent again."""
        return 0

    def close(self) -> None:
        """Lets everything go; runs of trials that go on with the next driver stay open at the tracker."""


class Delivery(NamedTuple):
    """One call of a tracker.

    Attributes:
        position: Of the record that it comes from.
        kind: "start", "row", "save" or "end".
        run: Of which run: the trial's directory's name, which changes when a trial begins anew.
        trial: The trial as it was then; does not follow the experiment.
        number: Of the row.
        result: Gives the row.
        failed: Whether it ended so.
    """

    position: int
    kind: str
    run: str
    trial: Trial
    number: int = 0
    result: Callable[[], dict[str, Any]] = dict
    failed: bool = False


class Courier:
    """Brings deliveries to one tracker, one by one, in a thread.

    Args:
        tracker: The user's own.
        setup: What `tracker.setup` is called with, before anything else.
        say: Takes a line about what fails, and that it works again.
        ended: Told the position of each end of a run that was taken: all before it was taken too.
    """

    def __init__(
        self,
        tracker: TrackerCallback,
        setup: dict[str, Any],
        say: Callable[[str], None],
        ended: Callable[[int], None],
    ) -> None:
        self._tracker, self._setup, self._say, self._ended = tracker, setup, say, ended
        self._name = type(tracker).__name__
        self._waiting: deque[Delivery] = deque()
        self._released = -1
        self._deadline: float | None = None  # monotonic; set when the driver closes
        self._change = threading.Condition()
        self._runs: dict[str, int] = {}  # runs open here → rows that the tracker has
        self._ready = False
        self._problem = ""
        self._thread = threading.Thread(target=self._work, name=f"holdfast-{self._name}", daemon=True)
        self._thread.start()

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """More to bring, in order."""
        with self._change:
            self._waiting.extend(deliveries)
            self._change.notify()

    def release(self, position: int) -> None:
        """What comes from records up to this position is durable, and may be sent."""
        with self._change:
            if position > self._released:
                self._released = position
                self._change.notify()

    def close(self, patience_s: float) -> int:
        """Waits for the tracker to take what is left, so long at most; returns how much it has not taken.

        The thread does nothing more then, but for a call that it is in, which may still arrive.
        """
        with self._change:
            if self._deadline is None:
                self._deadline = time.monotonic() + patience_s
            self._change.notify()
        self._thread.join(patience_s + 1.0)
        with self._change:
            left = len(self._waiting)
            self._waiting.clear()
        if left:
            why = self._problem or "it is slow"
            self._say(f"{self._name} has not taken {left} of what it is sent ({why}); nothing is lost: restore, and it is sent.")
        return left

    def _work(self) -> None:
        pause = _FIRST_PAUSE_S
        while (delivery := self._next()) is not None:
            try:
                self._bring(delivery)
            except Exception as error:  # noqa: BLE001 - the tracker's own code: whatever it raises must not stop the training
                self._report(error)
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            pause = _FIRST_PAUSE_S
            if self._problem:
                self._problem = ""
                self._say(f"{self._name} works again.")
            with self._change:
                if self._waiting:  # else the driver has given it up meanwhile
                    self._waiting.popleft()
            if delivery.kind == "end":
                self._ended(delivery.position)
        self._end()

    def _next(self) -> Delivery | None:
        """The next delivery that may be sent; None when there is no time left, or nothing is to come."""
        with self._change:
            while True:
                closing = self._deadline is not None
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    return None
                if self._waiting and self._waiting[0].position <= self._released:
                    return self._waiting[0]
                if closing:
                    return None
                self._change.wait()

    def _bring(self, it: Delivery) -> None:
        if not self._ready:
            self._tracker.setup(**self._setup)
            self._ready = True
        if it.run not in self._runs:
            self._tracker.log_trial_start(it.trial)
            self._runs[it.run] = self._tracker.rows_sent(it.trial)
        if it.kind == "row" and it.number > self._runs[it.run]:
            self._tracker.log_trial_result(it.number, it.trial, it.result())
            self._runs[it.run] = it.number
        elif it.kind == "save":
            self._tracker.log_trial_save(it.trial)
        elif it.kind == "end":
            self._tracker.log_trial_end(it.trial, failed=it.failed)
            del self._runs[it.run]

    def _report(self, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
        if problem != self._problem:
            self._say(f"{self._name} fails, and is tried again: {problem}")
        self._problem = problem

    def _rest(self, pause_s: float) -> None:
        with self._change:
            until = time.monotonic() + pause_s
            while (now := time.monotonic()) < until and (self._deadline is None or now < self._deadline):
                left = until - now if self._deadline is None else min(until, self._deadline) - now
                self._change.wait(max(left, 0.01))

    def _end(self) -> None:
        try:
            self._tracker.close()
        except Exception as error:  # noqa: BLE001 - as above
            self._report(error)


def run_key(trial: Trial) -> str:
    """What names a trial's run at a tracker, the same in every process: 40 hexadecimal digits.

    A trial that began anew (`restart_errored`) has a new directory, and so another run.
    """
    return hashlib.sha256(f"{trial.experiment_id}/{trial.local_path.rpartition('/')[2]}".encode()).hexdigest()[:40]
