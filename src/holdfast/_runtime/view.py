"""What a scheduler gets as its first argument: pictures of the trials, and a mouth for orders.

All it shows is the fold of the journal up to the record that the scheduler is hearing. What the scheduler orders changes
nothing at once: it goes on record with the scheduler's answer and takes effect there, live and on replay alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from holdfast import values
from holdfast._core.admission import fits
from holdfast._core.controller import Controller
from holdfast._core.details import Steering
from holdfast._core.trial import FINAL, RUNNING, Kept
from holdfast._runtime.roll import Roll
from holdfast._runtime.searching import SearcherDesk
from holdfast.errors import ConfigError
from holdfast.resources import PlacementGroupFactory
from holdfast.trial import Trial

__all__ = ["ControllerView", "SearcherView"]


class SearcherView:
    """What a scheduler may tell the searcher: that a trial rests, and that it goes on. Heard in journal order."""

    def __init__(self, desk: SearcherDesk) -> None:
        self._desk = desk

    @property
    def searcher(self) -> SearcherView:
        """Itself, for code that reaches through."""
        return self

    def on_pause(self, trial_id: str) -> None:
        """Tells the searcher that a trial rests, where it wants to know."""
        self._tell("on_pause", trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Tells the searcher that a trial goes on, where it wants to know."""
        self._tell("on_unpause", trial_id)

    def _tell(self, method: str, trial_id: str) -> None:
        if hasattr(self._desk.searcher, method):
            self._desk.tell(method, trial_id)


class Orders:
    """What a scheduler orders in one call. Taken only while it is being asked or told something."""

    def __init__(self, controller: Controller, store: Callable[[bytes], str]) -> None:
        self._controller = controller
        self._store = store
        self._given: list[Steering] = []
        self._saves: list[str] = []
        self._open = False
        self._about = ""

    def begin(self, trial_id: str) -> None:
        """The scheduler is about to be called, about this trial if about one."""
        self._open = True
        self._about = trial_id

    def end(self) -> tuple[list[Steering], bool]:
        """The call is over: what was ordered, and whether a checkpoint of the row that it was about was asked for."""
        self._open = False
        if not self._given and not self._saves:
            return [], False
        given, saves = self._given, self._saves
        self._given, self._saves = [], []
        return given, self._about in saves

    def give(self, order: Steering) -> None:
        """Takes an order; one about a finished trial does nothing.

        Raises:
            ConfigError: The scheduler is not being called.
        """
        self._check_open()
        if self._controller.state.trial(order.trial_id).state not in FINAL:
            self._given.append(order)

    def save(self, trial_id: str) -> None:
        """Takes the wish for a checkpoint; errors as in `give`."""
        self._check_open()
        self._saves.append(trial_id)

    def change(
        self,
        trial: Trial,
        config: dict[str, Any] | None = None,
        tag: str | None = None,
        resources: PlacementGroupFactory | None = None,
        point: tuple[str, int] = ("", -1),
    ) -> None:
        """Takes a change, to go on from `point`: a donor's id and the index of its checkpoint; errors as in `give`.

        Raises:
            ConfigError: The trial runs, and it is not its row that is being decided.
        """
        self._check_open()
        running = self._controller.state.trial(trial.trial_id).state == RUNNING
        if running and trial.trial_id not in (self._about, *self._controller.recalled):
            raise ConfigError(f"{trial} runs and cannot be changed now: change it when its row is decided, or pause it first.")
        encoded = evaluated = b""
        if config is not None:
            encoded = values.encode(config, self._store)
            evaluated = values.encode(_evaluated(trial, config), self._store)
        amounts, placement = (None, None) if resources is None else resources.request()
        epoch = self._controller.state.epoch
        if amounts is not None and epoch is not None and not fits(amounts, epoch.resources):
            raise ConfigError(f"The scheduler gives {trial} {amounts}, the engine has {epoch.resources}: it could never run.")
        self.give(Steering(trial.trial_id, "change", encoded, evaluated, tag or "", *point, amounts, placement))

    def _check_open(self) -> None:
        if not self._open:
            raise ConfigError(
                "Trials are changed, stopped and paused by a scheduler, while it is asked or told something: not here."
            )


class ControllerView:
    """The scheduler's view of the experiment.

    Attributes:
        search_alg: The searcher, as far as a scheduler may speak to it.
        orders: What it has ordered through the view in this call.
    """

    def __init__(self, roll: Roll, controller: Controller, desk: SearcherDesk, store: Callable[[bytes], str]) -> None:
        self.search_alg = SearcherView(desk)
        self._roll = roll
        self._controller = controller
        self.orders = Orders(controller, store)
        roll.let_change(self.orders.change)

    def get_trials(self) -> Sequence[Trial]:
        """All trials, in order of creation."""
        return self._roll

    def get_trial(self, trial_id: str) -> Trial | None:
        """The trial of that id, or None."""
        return self._roll.of(trial_id) if trial_id in self._controller.state.trials else None

    def get_live_trials(self) -> list[Trial]:
        """The trials that are not finished, in order of creation. Costs nothing for those that are."""
        it, state = self._controller, self._controller.state
        indices = sorted(state.waiting | state.paused | {state.trial(trial_id).index for trial_id in it.running})
        return [trial for trial in (self._roll[index] for index in indices) if not trial.is_finished()]

    @property
    def time(self) -> float:
        """Experiment time in seconds: how long drivers have been in charge. The only clock that a scheduler may read."""
        return self._controller.state.time

    def total_resources(self) -> dict[str, float]:
        """What the engine holds, such as `{"cpu": 8.0, "gpu": 1.0}`; used or free."""
        epoch = self._controller.state.epoch
        return dict(epoch.resources) if epoch is not None else {}

    def has_resources_for_trial(self, trial: Trial) -> bool:
        """Whether an attempt of the trial would find what it is given free now."""
        return self._controller.has_room(self._controller.state.trial(trial.trial_id))

    def may_start(self, trial: Trial) -> bool:
        """Whether the trial has no worker and could be given one now: not while it waits for a retry or for its checkpoint."""
        return self._controller.startable(self._controller.state.trial(trial.trial_id))

    @property
    def awaits_suggestion(self) -> bool:
        """Whether the searcher has been asked for another trial and has not answered yet. Its answer, also none, is heard."""
        return bool(self._controller.asking)

    def stop_trial(self, trial: Trial) -> None:
        """Stops a trial: one without a worker at once, one with a worker at its next row."""
        self.orders.give(Steering(trial.trial_id, "stop"))

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Pauses a running trial at its next row; class trainables save then, functions have saved what they have saved."""
        self.orders.give(Steering(trial.trial_id, "pause"))

    def resume_trial(self, trial: Trial) -> None:
        """Has a paused trial wait for a worker again, as trials do that never ran."""
        self.orders.give(Steering(trial.trial_id, "resume"))

    def save_trial(self, trial: Trial) -> None:
        """Asks for a checkpoint of the row that is being decided (class trainables; a function saves by itself)."""
        self.orders.save(trial.trial_id)

    def change_trial(
        self,
        trial: Trial,
        config: dict[str, Any] | None = None,
        *,
        donor: Trial | None = None,
        tag: str | None = None,
        resources: PlacementGroupFactory | None = None,
    ) -> None:
        """Changes a trial from its next start on. Give it with PAUSE for the row being decided, or for a paused trial.

        Args:
            trial: Which trial. A finished one stays as it is.
            config: The whole new configuration; None: as it is.
            donor: From whose newest durable checkpoint it goes on, with that one's iteration and time; by default its own. The
                checkpoint is kept until the trial has one of its own.
            tag: Its new experiment tag.
            resources: What it is given from then on.
        """
        donor_id = (donor or trial).trial_id
        point = self._controller.state.trial(donor_id).resume_point()  # not of a life that its donor itself has given up
        index = point.saved.index if isinstance(point, Kept) else -1
        self.orders.change(trial, config, tag, resources, (donor_id, index))

    def update_trial_resources(self, trial: Trial, resources: PlacementGroupFactory) -> None:
        """Changes what a trial is given from its next start on; it goes on from its newest checkpoint."""
        self.orders.change(trial, resources=resources)


def _evaluated(trial: Trial, config: dict[str, Any]) -> dict[str, Any]:
    """The flattened keys to show: those that were open before, and those that differ now."""
    before, now = values.flatten(trial.config), values.flatten(config)
    shown = set(trial.evaluated_params)
    return {key: value for key, value in now.items() if key in shown or key not in before or not _same(before[key], value)}


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values are the user's: arrays and the like have comparisons of their own
        return False
