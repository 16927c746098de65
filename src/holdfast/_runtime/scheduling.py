"""The scheduler's desk: where the scheduler hears what happened, is asked about rows and for the next trial, and orders.

All of it happens at the fold of the record that it is about, live and on replay alike. An answer to a row goes back to
the caller with the orders given meanwhile; what it chooses, and what it orders while it only hears something, waits in `unsaid`
until it goes on record or, on replay, meets the record that it repeats.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from holdfast._core.commands import ChooseTrial
from holdfast._core.details import Steering
from holdfast._core.events import SchedulerOrdered, TrialChosen
from holdfast._runtime.chance import has_own_chance
from holdfast._runtime.view import ControllerView
from holdfast.errors import ConfigError
from holdfast.schedulers.base import TrialScheduler
from holdfast.trial import Trial

__all__ = ["Answer", "SchedulerDesk"]

_ACTIONS = {"CONTINUE": "CONTINUE", "NOOP": "CONTINUE", "PAUSE": "PAUSE", "STOP": "STOP"}

Chance = Callable[[str, str, int], contextlib.AbstractContextManager[None]]


class Answer(NamedTuple):
    """What the scheduler said to a row.

    Attributes:
        action: CONTINUE, PAUSE or STOP.
        by: "scheduler", or "order" where an order about the trial itself outweighs the answer.
        orders: What it ordered.
        save: Whether the row is to be saved.
    """

    action: str
    by: str
    orders: list[Steering]
    save: bool


class SchedulerDesk:
    """The scheduler's one interlocutor.

    Args:
        scheduler: The user's own object.
        view: What it sees and orders through.
        chance: Gives (method, trial id, number) the chance for a call of one that has none of its own; a call about no trial has
            that of the experiment's step.
        idle: Whether it never wants to see a row (FIFO).

    Attributes:
        scheduler: As given.
        unsaid: What it chose, and what it ordered while it heard something, that is not on record yet.
    """

    def __init__(self, scheduler: TrialScheduler, view: ControllerView, chance: Chance, *, idle: bool) -> None:
        self.scheduler = scheduler
        self._idle = idle
        self.unsaid: list[TrialChosen | SchedulerOrdered] = []
        self._view = view
        self._chance = None if has_own_chance(scheduler) else chance

    def decide(self, trial: Trial, flat: dict[str, Any], number: int) -> Answer:
        """Asks about a row (flattened).

        Raises:
            ConfigError: It answered none of the four words.
            Exception: What the scheduler itself raised.
        """
        if self._idle:
            return Answer("CONTINUE", "scheduler", [], save=False)
        answer, orders, save = self._call("on_trial_result", trial, flat, number=number)
        try:
            action = _ACTIONS[answer]
        except (KeyError, TypeError):
            name = type(self.scheduler).__name__
            raise ConfigError(
                f"{name}.on_trial_result answered {answer!r}; it must be TrialScheduler.CONTINUE, PAUSE, STOP or NOOP."
            ) from None
        if not orders:
            return Answer(action, "scheduler", orders, save)
        verbs = {order.verb for order in orders if order.trial_id == trial.trial_id}
        if "stop" in verbs and action != "STOP":
            return Answer("STOP", "order", orders, save)
        if verbs & {"change", "pause"} and action == "CONTINUE":
            return Answer("PAUSE", "scheduler", orders, save)
        return Answer(action, "scheduler", orders, save)

    def tell(self, position: int, method: str, trial: Trial, *result: dict[str, Any]) -> None:
        """Has it hear something about the record at `position`; what it orders then is a record of its own."""
        _, orders, _ = self._call(method, trial, *result)
        if orders:
            self.unsaid.append(SchedulerOrdered(position, orders))

    def choose(self, order: ChooseTrial, position: int) -> None:
        """Asks which trial is to have a free place; the answer stands in `unsaid`.

        Raises:
            ConfigError: It answered no trial.
            Exception: What the scheduler itself raised.
        """
        chosen, orders, _ = self._call("choose_trial_to_run", None)
        trial_id = "" if chosen is None else getattr(chosen, "trial_id", None)
        if trial_id is None:
            name = type(self.scheduler).__name__
            raise ConfigError(f"{name}.choose_trial_to_run answered {chosen!r}; it must be one of the trials, or None.")
        if trial_id and not self._view.may_start(chosen):
            trial_id = ""  # its last worker is still on its way out, or what it is given is not free
        self.unsaid.append(TrialChosen(order.order, position, trial_id, orders))

    def said(self) -> list[TrialChosen | SchedulerOrdered]:
        """What it chose and ordered since the last call, to go on record now."""
        said, self.unsaid = self.unsaid, []
        return said

    def settle(self, recorded: TrialChosen | SchedulerOrdered) -> str:
        """On replay: holds what it chose or ordered against the record; says how they differ, empty where they agree."""
        same = (it for it in self.unsaid if it.heard == recorded.heard and type(it) is type(recorded))
        repeated = next(same, None)
        if repeated is not None:
            self.unsaid.remove(repeated)
        return "" if repeated == recorded else f"what it chose or ordered at position {recorded.heard} did not repeat"

    def _call(
        self, method: str, trial: Trial | None, *result: dict[str, Any], number: int = 0
    ) -> tuple[Any, list[Steering], bool]:
        trial_id = "" if trial is None else trial.trial_id
        orders = self._view.orders
        orders.begin(trial_id)
        arguments = (self._view,) if trial is None else (self._view, trial, *result)
        if self._chance is None:
            answer = getattr(self.scheduler, method)(*arguments)
        else:
            with self._chance(method, trial_id, number):
                answer = getattr(self.scheduler, method)(*arguments)
        return answer, *orders.end()
