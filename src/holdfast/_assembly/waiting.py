"""Says why a trial waits for a place, when that takes long and it is not because all places are taken.

Knows what the controller knows, and reads it only. It decides nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from holdfast import settings
from holdfast._core.admission import fits, request_of, together
from holdfast._core.commands import StartAttempt
from holdfast._core.controller import Controller
from holdfast._core.events import AttemptEnded, AttemptLost, AttemptStarted, Record

__all__ = ["WaitingFollower"]


_PLACING = (
    "It may wait for a GPU with room enough, or this machine may be unable to start processes: look into the experiment's logs/."
)


def _print(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - who runs an experiment wants to know why nothing happens


class WaitingFollower:
    """Warns once per wait.

    Args:
        controller: The driver's.
        say: Where the warning goes.
        placing: What the engine says of an attempt that was ordered and has not begun.
    """

    def __init__(
        self, controller: Controller, say: Callable[[str], None] = _print, placing: Callable[[], str] = lambda: _PLACING
    ) -> None:
        self._controller = controller
        self._placing = placing
        self._say = say
        self._patience_s = settings.waiting_warned_after_s()
        self._since: float | None = None
        self._said = False

    def hear(self, record: Record) -> None:
        """An attempt that begins or ends is a sign of life: the wait begins anew."""
        if isinstance(record.event, (AttemptStarted, AttemptEnded, AttemptLost)):
            self._since, self._said = None, False

    def tick(self, now: float) -> bool:
        """Warns where it is time to; never waited for."""
        if self._since is None:
            self._since = now
        if not self._said and now - self._since >= self._patience_s:
            why = self._why()
            if why:
                self._said = True
                self._say(f"holdfast: nothing was started in {now - self._since:.0f} s: {why}")
        return False

    def settle(self) -> None:
        """There is nothing to bring."""

    def close(self) -> None:
        """There is nothing to finish."""

    def _why(self) -> str:
        """Why nothing is started although there is something to start and not every place is taken; empty where it is not so."""
        it, state = self._controller, self._controller.state
        ids = [state.by_index[index] for index in sorted(state.waiting | state.paused)]
        waiting = [state.trial(trial_id) for trial_id in ids if trial_id not in it.running]
        on_their_way = [trial_id for trial_id in it.running if trial_id in ids]
        if on_their_way:
            return f"trial {on_their_way[0]} was given its place and has not begun. {self._placing()}"
        if not waiting or state.epoch is None:
            return ""
        if state.held or all(trial.held for trial in waiting):
            what = "the experiment" if state.held else f"trial {waiting[0].trial_id}"
            return f"{what} is paused by request. `holdfast resume` lets it go on."
        orders = [it.open_orders.get(order) for order in it.running.values()]
        taken = together(order.resources for order in orders if isinstance(order, StartAttempt))
        has = state.epoch.resources
        free = {kind: amount - taken.get(kind, 0.0) for kind, amount in has.items()}
        smallest = min((request_of(trial, state.policy) for trial in waiting), key=lambda asked: sum(asked.values()))
        first = waiting[0]
        asked = request_of(first, state.policy)
        if fits(smallest, free) and not fits(asked, free):
            return (
                f"trial {first.trial_id} asks for {asked}, free are {free}, and smaller ones wait behind it for their turn. "
                "It begins when enough of the running ones have ended."
            )
        return ""
